//! The songs that are played.

use super::random::{Random, Weighted};
use crate::example;

pub(super) struct Song {
    /// `"artist":…,"song":…,"duration":…`, without braces.
    pub(super) json: Box<[u8]>,
    pub(super) millis: u32,
}

pub(super) struct Songs {
    songs: Vec<Song>,
    popularity: Weighted,
}

impl Songs {
    /// The songs inside the program. Their order, a hash of their names, is their popularity: so
    /// an artist's songs are spread over it, and the first places are held by different artists.
    pub(super) fn example() -> Songs {
        // Shipped with the program and read by a test: a file that does not unpack gives no songs.
        let csv = zstd::decode_all(example::SONGS).unwrap_or_default();
        Songs::from_csv(&String::from_utf8_lossy(&csv))
    }

    fn from_csv(csv: &str) -> Songs {
        let mut songs: Vec<(u64, Song)> = csv.lines().skip(1).filter_map(song).collect();
        songs.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.json.cmp(&other.json)));
        let songs: Vec<Song> = songs.into_iter().map(|(_, song)| song).collect();
        let popularity = Weighted::harmonic(songs.len());
        Songs { songs, popularity }
    }

    pub(super) fn pick(&self, random: &mut Random) -> u32 {
        self.popularity.pick(random) as u32
    }

    pub(super) fn get(&self, song: u32) -> Option<&Song> {
        self.songs.get(song as usize)
    }
}

/// `artist_name,title,duration`; no field of the file spans lines.
fn song(line: &str) -> Option<(u64, Song)> {
    let fields = fields(line);
    let [artist, title, duration] = fields.as_slice() else {
        return None;
    };
    let seconds: f64 = duration.parse().ok()?;
    let mut json = Vec::new();
    json.extend_from_slice(b"\"artist\":");
    text(artist, &mut json);
    json.extend_from_slice(b",\"song\":");
    text(title, &mut json);
    json.extend_from_slice(b",\"duration\":");
    json.extend_from_slice(seconds.to_string().as_bytes());
    // FNV-1a, 64 bit.
    let hash = json.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some((
        hash,
        Song {
            json: json.into(),
            millis: (seconds * 1000.0) as u32,
        },
    ))
}

/// One CSV line's fields (RFC 4180).
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

/// A JSON string, mis-decoded as Eventsim does it: each byte of its UTF-8 becomes a character.
pub(super) fn text(value: &str, json: &mut Vec<u8>) {
    let misread: String = value.bytes().map(char::from).collect();
    // Strings cannot fail to serialise into memory.
    let _ = serde_json::to_writer(json, &misread);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_keep_commas_and_doubled_quotes() {
        assert_eq!(fields(r#"a,"b, ""c""\",1.5"#), ["a", r#"b, "c"\"#, "1.5"]);
    }

    #[test]
    fn every_shipped_song_is_read() {
        let songs = Songs::example();
        assert_eq!(songs.songs.len(), 9_942);
        for song in &songs.songs {
            let object = [b"{", &*song.json, b"}"].concat();
            let value: serde_json::Value = serde_json::from_slice(&object).unwrap();
            assert!(value["duration"].as_f64().unwrap() > 0.0);
            assert!(!value["artist"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn text_beyond_ascii_is_misread_byte_by_byte() {
        let mut json = Vec::new();
        text("Björk", &mut json);
        assert_eq!(String::from_utf8(json).unwrap(), "\"BjÃ¶rk\"");
    }
}
