-- Who listens, with the history of their level (slowly changing dimension, type 2): a user has one
-- row per run of listens at one level. A row holds from `valid_from` until before `valid_to`; the
-- current one has no `valid_to`.
DROP TABLE IF EXISTS dim_users;
CREATE TABLE dim_users AS
WITH marked AS (
  SELECT *,
         CASE WHEN lag(level) OVER (PARTITION BY "userId" ORDER BY ts, "sessionId", "itemInSession")
                   IS NOT DISTINCT FROM level THEN 0 ELSE 1 END AS changed
  FROM listen_events
), runs AS (
  SELECT *,
         sum(changed) OVER (PARTITION BY "userId" ORDER BY ts, "sessionId", "itemInSession"
                            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS version
  FROM marked
), versions AS (
  SELECT "userId" AS user_id, version, min(level) AS level, min("firstName") AS first_name,
         min("lastName") AS last_name, min(gender) AS gender, min(registration) AS registration,
         min(ts) AS valid_from
  FROM runs
  GROUP BY "userId", version
), spans AS (
  SELECT *, lead(valid_from) OVER (PARTITION BY user_id ORDER BY version) AS valid_to FROM versions
)
SELECT md5(concat_ws('|', user_id, CAST(version AS VARCHAR))) AS user_key, user_id, version, level,
       first_name, last_name, gender, registration, valid_from, valid_to, valid_to IS NULL AS is_current
FROM spans;
