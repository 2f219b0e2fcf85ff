-- Questions about a month of listening. The last two ask dim_users (transform/dim_users.sql).

-- Top songs
SELECT artist, song, count(*) AS listens, count(DISTINCT "userId") AS listeners
FROM listen_events
GROUP BY artist, song
ORDER BY listens DESC, artist, song
LIMIT 10;

-- Top artists
SELECT artist, count(*) AS listens, count(DISTINCT "userId") AS listeners
FROM listen_events
GROUP BY artist
ORDER BY listens DESC, artist
LIMIT 10;

-- Listens by hour of the day and state
SELECT hour, state, count(*) AS listens
FROM listen_events
GROUP BY hour, state
ORDER BY listens DESC, hour, state
LIMIT 10;

-- From free to paid: who, and when
SELECT n.user_id, n.first_name, n.last_name, n.valid_from AS paid_since
FROM dim_users n
JOIN dim_users o ON n.user_id = o.user_id AND n.version = o.version + 1
WHERE o.level = 'free' AND n.level = 'paid'
ORDER BY paid_since, n.user_id;

-- Level history of those whose level changed most often
SELECT user_id, version, level, first_name, valid_from, valid_to, is_current
FROM dim_users
WHERE user_id IN (SELECT user_id FROM dim_users GROUP BY user_id ORDER BY count(*) DESC, user_id LIMIT 3)
ORDER BY user_id, version;
