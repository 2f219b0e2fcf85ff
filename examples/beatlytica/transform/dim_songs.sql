-- What is listened to: one row per title of an artist. A title that comes in several lengths keeps
-- the longest.
DROP TABLE IF EXISTS dim_songs;
CREATE TABLE dim_songs AS
SELECT md5(concat_ws('|', artist, song)) AS song_key, md5(artist) AS artist_key, song AS title,
       max(duration) AS duration
FROM listen_events
WHERE artist IS NOT NULL AND song IS NOT NULL
GROUP BY artist, song;
