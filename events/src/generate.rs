//! A seeded generator of the three topics.

use crate::{Event, Topic};

/// What to generate. Equal options give equal bytes, on every machine and in every release that
/// does not say otherwise in its changelog.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Seed.
    pub seed: u64,
    /// Listeners who come back, session after session. Event time runs through about one second
    /// per `users / 2,500` events.
    pub users: u32,
    /// Event time of the beginning, milliseconds since the epoch.
    pub start_millis: i64,
    /// How many records of a thousand come late.
    pub late_per_mille: u32,
    /// How late at most, milliseconds of event time.
    pub max_lateness_millis: u32,
}

/// What a record is; its JSON went into the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Where it goes.
    pub topic: Topic,
    /// Kafka key, see [`Event::key`].
    pub key: u64,
    /// Event time, milliseconds since the epoch.
    pub ts_millis: i64,
}

/// An endless source of events.
pub struct Generator {}

impl Generator {
    /// A generator at its beginning.
    pub fn new(options: Options) -> Generator {
        let _ = options;
        Generator {}
    }

    /// Appends the next record to `buffer`: one JSON object, without a line end.
    pub fn write_next(&mut self, buffer: &mut Vec<u8>) -> Generated {
        let _ = buffer;
        Generated { topic: Topic::ListenEvents, key: 0, ts_millis: 0 }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut json = Vec::with_capacity(512);
        let Generated { topic, key, ts_millis } = self.write_next(&mut json);
        Some(Event { topic, key: key.to_string(), ts_millis, json })
    }
}
