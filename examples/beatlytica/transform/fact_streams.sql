-- One row per listen, with the keys of its dimensions. The user's row is the one that held then.
-- Run after the dimensions.
DROP TABLE IF EXISTS fact_streams;
CREATE TABLE fact_streams AS
SELECT u.user_key, a.artist_key, s.song_key, l.location_key, date_trunc('hour', e.ts) AS hour_start,
       e.ts, e."sessionId" AS session_id, e."itemInSession" AS item_in_session, e.duration
FROM listen_events e
JOIN dim_users u
  ON e."userId" = u.user_id AND e.ts >= u.valid_from AND (u.valid_to IS NULL OR e.ts < u.valid_to)
JOIN dim_artists a ON a.artist_key = md5(e.artist)
JOIN dim_songs s ON s.song_key = md5(concat_ws('|', e.artist, e.song))
JOIN dim_location l
  ON l.location_key = md5(concat_ws('|', coalesce(e.city, ''), coalesce(e.state, ''), coalesce(e.zip, '')));
