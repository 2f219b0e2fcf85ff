-- Who is listened to.
DROP TABLE IF EXISTS dim_artists;
CREATE TABLE dim_artists AS
SELECT md5(artist) AS artist_key, artist AS name, count(DISTINCT song) AS songs
FROM listen_events
WHERE artist IS NOT NULL
GROUP BY artist;
