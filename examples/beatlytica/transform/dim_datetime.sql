-- When people listen: one row per hour (UTC) with a listen in it. `weekday` counts from Sunday, 0.
DROP TABLE IF EXISTS dim_datetime;
CREATE TABLE dim_datetime AS
SELECT DISTINCT date_trunc('hour', ts) AS hour_start, year, month, day, hour,
       CAST(date_part('dow', ts) AS INT) AS weekday, date_part('dow', ts) IN (0, 6) AS is_weekend
FROM listen_events;
