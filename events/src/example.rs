//! Example data carried inside the program: a month of a small music service's Eventsim log, and
//! the songs that the generator plays. The same files lie in `examples/data/`.

use crate::{Error, Replay};

/// Eventsim's log of November 2018, 8,056 lines of JSON, zstd.
pub const EVENTSIM_LOG: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/data/eventsim-2018-11.jsonl.zst"
));

/// Name under which errors speak of [`EVENTSIM_LOG`].
pub const EVENTSIM_LOG_NAME: &str = "examples/data/eventsim-2018-11.jsonl.zst";

/// `artist_name,title,duration` of 9,942 songs, CSV, zstd.
pub(crate) const SONGS: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/data/songs.csv.zst"
));

/// The example log as events: 6,820 listens, 8,056 page views, 182 logins and logouts.
pub fn replay() -> Result<Replay, Error> {
    Replay::from_bytes([(EVENTSIM_LOG_NAME, EVENTSIM_LOG)])
}
