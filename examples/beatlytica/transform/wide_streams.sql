-- The facts with everything said about them, for dashboards. Run after fact_streams.
DROP TABLE IF EXISTS wide_streams;
CREATE TABLE wide_streams AS
SELECT f.ts, f.session_id, f.item_in_session, f.duration,
       u.user_id, u.first_name, u.last_name, u.gender, u.level,
       a.name AS artist, s.title AS song,
       l.city, l.state, l.state_name, l.zip, l.lon, l.lat,
       d.year, d.month, d.day, d.hour, d.weekday, d.is_weekend
FROM fact_streams f
JOIN dim_users u ON f.user_key = u.user_key
JOIN dim_artists a ON f.artist_key = a.artist_key
JOIN dim_songs s ON f.song_key = s.song_key
JOIN dim_location l ON f.location_key = l.location_key
JOIN dim_datetime d ON f.hour_start = d.hour_start;
