-- Where people listen from: one row per city and state; a listen without a place has a row too.
DROP TABLE IF EXISTS dim_location;
CREATE TABLE dim_location AS
WITH states (state, state_name) AS (
  VALUES
    ('AA', 'Armed Forces America'), ('AE', 'Armed Forces'), ('AK', 'Alaska'), ('AL', 'Alabama'),
    ('AP', 'Armed Forces Pacific'), ('AR', 'Arkansas'), ('AZ', 'Arizona'), ('CA', 'California'),
    ('CO', 'Colorado'), ('CT', 'Connecticut'), ('DC', 'Washington DC'), ('DE', 'Delaware'), ('FL', 'Florida'),
    ('GA', 'Georgia'), ('GU', 'Guam'), ('HI', 'Hawaii'), ('IA', 'Iowa'), ('ID', 'Idaho'), ('IL', 'Illinois'),
    ('IN', 'Indiana'), ('KS', 'Kansas'), ('KY', 'Kentucky'), ('LA', 'Louisiana'), ('MA', 'Massachusetts'),
    ('MD', 'Maryland'), ('ME', 'Maine'), ('MI', 'Michigan'), ('MN', 'Minnesota'), ('MO', 'Missouri'),
    ('MS', 'Mississippi'), ('MT', 'Montana'), ('NC', 'North Carolina'), ('ND', 'North Dakota'),
    ('NE', 'Nebraska'), ('NH', 'New Hampshire'), ('NJ', 'New Jersey'), ('NM', 'New Mexico'), ('NV', 'Nevada'),
    ('NY', 'New York'), ('OH', 'Ohio'), ('OK', 'Oklahoma'), ('OR', 'Oregon'), ('PA', 'Pennsylvania'),
    ('PR', 'Puerto Rico'), ('RI', 'Rhode Island'), ('SC', 'South Carolina'), ('SD', 'South Dakota'),
    ('TN', 'Tennessee'), ('TX', 'Texas'), ('UT', 'Utah'), ('VA', 'Virginia'), ('VI', 'Virgin Islands'),
    ('VT', 'Vermont'), ('WA', 'Washington'), ('WI', 'Wisconsin'), ('WV', 'West Virginia'), ('WY', 'Wyoming')
), places AS (
  SELECT DISTINCT city, state, zip, lon, lat FROM listen_events
)
SELECT md5(concat_ws('|', coalesce(city, ''), coalesce(p.state, ''), coalesce(zip, ''))) AS location_key,
       city, p.state, state_name, zip, min(lon) AS lon, min(lat) AS lat
FROM places p LEFT JOIN states s ON p.state = s.state
GROUP BY city, p.state, state_name, zip;
