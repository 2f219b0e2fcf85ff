//! Who listens, from where, with what: small tables, escaped once.

use super::random::{Random, Weighted};

/// Metropolitan places: city, state, zip, longitude, latitude, and how many listeners of a
/// thousand or so live there.
const CITIES: &[(&str, &str, &str, &str, &str, u32)] = &[
    ("New York", "NY", "10001", "-73.9967", "40.7506", 84),
    ("Los Angeles", "CA", "90012", "-118.2385", "34.0614", 40),
    ("Chicago", "IL", "60601", "-87.6181", "41.8858", 27),
    ("Houston", "TX", "77002", "-95.3594", "29.7594", 23),
    ("Phoenix", "AZ", "85003", "-112.0765", "33.4511", 16),
    ("Philadelphia", "PA", "19102", "-75.1661", "39.9530", 16),
    ("San Antonio", "TX", "78205", "-98.4869", "29.4237", 15),
    ("San Diego", "CA", "92101", "-117.1628", "32.7185", 14),
    ("Dallas", "TX", "75201", "-96.8043", "32.7904", 13),
    ("Jacksonville", "FL", "32202", "-81.6514", "30.3299", 9),
    ("Austin", "TX", "78701", "-97.7426", "30.2713", 10),
    ("Fort Worth", "TX", "76102", "-97.3292", "32.7593", 9),
    ("San Jose", "CA", "95113", "-121.8907", "37.3333", 10),
    ("Columbus", "OH", "43215", "-83.0064", "39.9671", 9),
    ("Charlotte", "NC", "28202", "-80.8447", "35.2286", 9),
    ("Indianapolis", "IN", "46204", "-86.1569", "39.7713", 9),
    ("San Francisco", "CA", "94103", "-122.4114", "37.7725", 9),
    ("Seattle", "WA", "98101", "-122.3347", "47.6114", 8),
    ("Denver", "CO", "80202", "-104.9987", "39.7491", 7),
    ("Oklahoma City", "OK", "73102", "-97.5199", "35.4707", 7),
    ("Nashville", "TN", "37203", "-86.7900", "36.1504", 7),
    ("El Paso", "TX", "79901", "-106.4831", "31.7606", 7),
    ("Washington", "DC", "20001", "-77.0177", "38.9109", 7),
    ("Boston", "MA", "02108", "-71.0684", "42.3576", 7),
    ("Las Vegas", "NV", "89101", "-115.1226", "36.1721", 6),
    ("Portland", "OR", "97205", "-122.6886", "45.5206", 6),
    ("Detroit", "MI", "48226", "-83.0503", "42.3333", 6),
    ("Louisville", "KY", "40202", "-85.7519", "38.2533", 6),
    ("Memphis", "TN", "38103", "-90.0480", "35.1440", 6),
    ("Baltimore", "MD", "21202", "-76.6054", "39.2998", 6),
    ("Milwaukee", "WI", "53202", "-87.8968", "43.0506", 6),
    ("Albuquerque", "NM", "87102", "-106.6483", "35.0818", 5),
    ("Tucson", "AZ", "85701", "-110.9709", "32.2139", 5),
    ("Fresno", "CA", "93721", "-119.7842", "36.7323", 5),
    ("Sacramento", "CA", "95814", "-121.4936", "38.5804", 5),
    ("Kansas City", "MO", "64106", "-94.5698", "39.1052", 5),
    ("Atlanta", "GA", "30303", "-84.3888", "33.7529", 5),
    ("Omaha", "NE", "68102", "-95.9319", "41.2589", 5),
    ("Colorado Springs", "CO", "80903", "-104.8145", "38.8388", 5),
    ("Raleigh", "NC", "27601", "-78.6338", "35.7727", 5),
    ("Miami", "FL", "33130", "-80.2026", "25.7672", 4),
    ("Virginia Beach", "VA", "23451", "-75.9870", "36.8585", 4),
    ("Oakland", "CA", "94612", "-122.2662", "37.8085", 4),
    ("Minneapolis", "MN", "55401", "-93.2701", "44.9835", 4),
    ("Tulsa", "OK", "74103", "-95.9957", "36.1560", 4),
    ("Tampa", "FL", "33602", "-82.4597", "27.9614", 4),
    ("Wichita", "KS", "67202", "-97.3350", "37.6899", 4),
    ("New Orleans", "LA", "70112", "-90.0753", "29.9605", 4),
    ("Cleveland", "OH", "44114", "-81.6743", "41.5063", 4),
    ("Honolulu", "HI", "96813", "-157.8524", "21.3179", 3),
    ("Anchorage", "AK", "99501", "-149.8761", "61.2116", 3),
    ("Saint Louis", "MO", "63101", "-90.1913", "38.6346", 3),
    ("Pittsburgh", "PA", "15222", "-79.9922", "40.4471", 3),
    ("Newark", "NJ", "07102", "-74.1765", "40.7357", 3),
    ("Birmingham", "AL", "35203", "-86.8106", "33.5210", 2),
    ("Boise", "ID", "83702", "-116.2025", "43.6322", 2),
    ("Richmond", "VA", "23219", "-77.4346", "37.5463", 2),
    ("Des Moines", "IA", "50309", "-93.6213", "41.5872", 2),
    ("Salt Lake City", "UT", "84101", "-111.8964", "40.7559", 2),
    ("Little Rock", "AR", "72201", "-92.2821", "34.7484", 2),
    ("Providence", "RI", "02903", "-71.4110", "41.8200", 2),
    ("Columbia", "SC", "29201", "-81.0294", "34.0004", 1),
    ("Portland", "ME", "04101", "-70.2588", "43.6606", 1),
    ("Burlington", "VT", "05401", "-73.2187", "44.4840", 1),
    ("Billings", "MT", "59101", "-108.5006", "45.7742", 1),
    ("Cheyenne", "WY", "82001", "-104.7964", "41.1438", 1),
];

/// Eventsim's own, with the quotes it leaves on most of them.
const AGENTS: &[&str] = &[
    r#""Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985.143 Safari/537.36""#,
    r#""Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.78.2 (KHTML, like Gecko) Version/7.0.6 Safari/537.78.2""#,
    "Mozilla/5.0 (Windows NT 5.1; rv:31.0) Gecko/20100101 Firefox/31.0",
    r#""Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Ubuntu Chromium/36.0.1985.125 Chrome/36.0.1985.125 Safari/537.36""#,
    r#""Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/37.0.2062.94 Safari/537.36""#,
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.9; rv:31.0) Gecko/20100101 Firefox/31.0",
    r#""Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985.125 Safari/537.36""#,
    r#""Mozilla/5.0 (Windows NT 6.3; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985.143 Safari/537.36""#,
    r#""Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 (KHTML, like Gecko) Version/7.0 Mobile/11D257 Safari/9537.53""#,
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:31.0) Gecko/20100101 Firefox/31.0",
];

const WOMEN: &[&str] = &[
    "Ava",
    "Chloe",
    "Lily",
    "Kaylee",
    "Layla",
    "Mia",
    "Jayden",
    "Rylan",
    "Tegan",
    "Kate",
    "Aleena",
    "Molly",
    "Sara",
    "Jacqueline",
    "Lena",
    "Zoë",
    "Renée",
    "Isabella",
    "Harper",
    "Evelyn",
    "Amelia",
    "Charlotte",
    "Sofía",
    "Nora",
    "Hazel",
    "Violet",
    "Ruby",
    "Alice",
    "Naomi",
    "Eva",
    "Stella",
    "Clara",
];
const MEN: &[&str] = &[
    "Walter", "Ryan", "Mohammad", "Jacob", "Aiden", "Matthew", "Brantley", "Hayden", "Adelyn",
    "Sylvie", "Theodore", "Avery", "Kevin", "Anabelle", "Connar", "Ronald", "José", "Noah",
    "Elijah", "Lucas", "Mason", "Logan", "Ethan", "Oliver", "Henry", "Samuel", "Isaac", "Gabriel",
    "Anthony", "Jaxon", "Andrés", "Björn",
];
const LAST: &[&str] = &[
    "Frye",
    "Summers",
    "Smith",
    "Levine",
    "Cuevas",
    "Koch",
    "Burns",
    "Barrera",
    "Harrell",
    "Johnson",
    "O'Sullivan",
    "Jones",
    "Wright",
    "Parker",
    "Garcia",
    "Nguyễn",
    "Müller",
    "Williams",
    "Brown",
    "Davis",
    "Miller",
    "Wilson",
    "Moore",
    "Taylor",
    "Anderson",
    "Thomas",
    "Jackson",
    "White",
    "Harris",
    "Martin",
    "Thompson",
    "Martínez",
    "Robinson",
    "Clark",
    "Rodríguez",
    "Lewis",
    "Lee",
    "Walker",
    "Hall",
    "Allen",
    "Young",
    "Hernández",
    "King",
    "D'Angelo",
    "Lopez",
    "Hill",
    "Scott",
    "Green",
    "Adams",
    "Baker",
    "Gonzalez",
    "Nelson",
    "Carter",
    "Mitchell",
];

/// The tables as JSON pieces.
pub(super) struct Cast {
    cities: Vec<City>,
    where_people_live: Weighted,
    agents: Vec<Box<[u8]>>,
    women: Vec<Box<[u8]>>,
    men: Vec<Box<[u8]>>,
    last: Vec<Box<[u8]>>,
}

struct City {
    /// `"city":…,"zip":…,"state":…`
    place: Box<[u8]>,
    /// `"lon":…,"lat":…`
    position: Box<[u8]>,
}

/// One listener's lines of the tables.
#[derive(Clone, Copy)]
pub(super) struct Person {
    city: u8,
    agent: u8,
    first: u8,
    last: u8,
    pub(super) woman: bool,
}

impl Cast {
    pub(super) fn new() -> Cast {
        let weights: Vec<f64> = CITIES.iter().map(|city| f64::from(city.5)).collect();
        Cast {
            cities: CITIES
                .iter()
                .map(|(city, state, zip, lon, lat, _)| City {
                    place: format!(r#""city":"{city}","zip":"{zip}","state":"{state}""#)
                        .into_bytes()
                        .into(),
                    position: format!(r#""lon":{lon},"lat":{lat}"#).into_bytes().into(),
                })
                .collect(),
            where_people_live: Weighted::new(&weights),
            agents: AGENTS.iter().map(|agent| quoted(agent)).collect(),
            women: WOMEN.iter().map(|name| quoted(name)).collect(),
            men: MEN.iter().map(|name| quoted(name)).collect(),
            last: LAST.iter().map(|name| quoted(name)).collect(),
        }
    }

    pub(super) fn person(&self, random: &mut Random) -> Person {
        let woman = random.per_mille(520);
        let first = if woman { &self.women } else { &self.men };
        Person {
            city: self.where_people_live.pick(random) as u8,
            agent: random.below(self.agents.len() as u64) as u8,
            first: random.below(first.len() as u64) as u8,
            last: random.below(self.last.len() as u64) as u8,
            woman,
        }
    }

    pub(super) fn place(&self, person: Person) -> &[u8] {
        self.cities
            .get(usize::from(person.city))
            .map_or(b"", |city| &city.place)
    }

    pub(super) fn position(&self, person: Person) -> &[u8] {
        self.cities
            .get(usize::from(person.city))
            .map_or(b"", |city| &city.position)
    }

    pub(super) fn agent(&self, person: Person) -> &[u8] {
        self.agents
            .get(usize::from(person.agent))
            .map_or(b"null", |agent| agent)
    }

    pub(super) fn first_name(&self, person: Person) -> &[u8] {
        let names = if person.woman { &self.women } else { &self.men };
        names
            .get(usize::from(person.first))
            .map_or(b"null", |name| name)
    }

    pub(super) fn last_name(&self, person: Person) -> &[u8] {
        self.last
            .get(usize::from(person.last))
            .map_or(b"null", |name| name)
    }
}

fn quoted(text: &str) -> Box<[u8]> {
    // Strings cannot fail to serialise into memory.
    serde_json::to_vec(text).unwrap_or_default().into()
}
