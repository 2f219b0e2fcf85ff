//! Eventsim log files → events of the three topics, in global event-time order.
//!
//! | log | topics |
//! |---|---|
//! | every line | `page_view_events` |
//! | page `NextSong` | `listen_events` as well |
//! | page `Login`, `Logout` | `auth_events` as well |
//!
//! Fields keep their names and values, but for these:
//! - `length` becomes `duration`;
//! - `location` "City, ST" is split at its last comma into `city` and `state`; of several states
//!   ("New York-Newark, NY-NJ-PA") the first counts;
//! - `zip`, `lon`, `lat` are not in a log and are null;
//! - `success` of a `Logout` is true. Of a `Login` it is what its status says: below 400 is a
//!   success. Every login of the example log has status 307, Eventsim's redirect to the home page
//!   after a login that went well, so every one is a success;
//! - `userId` stays as it is, the empty text included, and a missing one is the empty text;
//! - `registration` is an integer (the log writes `1540919166796.0`).
//!
//! Lines of one instant keep the order of files and lines.

mod files;
mod line;

use std::path::Path;

use crate::{Event, Topic};

/// A log that cannot be replayed. Always the user's to mend: the same file fails again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or unpacked.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a log line.
    #[error("{file}, line {line}: {reason}")]
    Line {
        /// The file as it was named.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Read { .. } => Some("name plain, .gz or .zst files of JSON lines".into()),
            Error::Line { .. } => {
                Some("each line must be one Eventsim log entry: a JSON object with ts, page and sessionId".into())
            }
        }
    }
}

/// Events of a set of log files, ordered by event time; an iterator.
///
/// Every line has been read and checked by the time this exists, so nothing is sent of files that
/// do not hold. It keeps all events in memory, about twice the logs' unpacked size.
#[derive(Debug)]
pub struct Replay {
    events: std::vec::IntoIter<Event>,
}

impl Replay {
    /// Reads log files: plain, gzip or zstd, told by their first bytes, not their names.
    pub fn open<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Replay, Error> {
        let mut events = Vec::new();
        for file in files {
            let file = file.as_ref();
            let name = file.display().to_string();
            let read = |source| Error::Read {
                file: name.clone(),
                source,
            };
            let bytes = std::fs::read(file).map_err(read)?;
            collect(&name, &bytes, &mut events)?;
        }
        Ok(Replay::of(events))
    }

    /// The same from bytes in memory, each with the name that errors give it.
    pub fn from_bytes<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Replay, Error> {
        let mut events = Vec::new();
        for (name, bytes) in files {
            collect(name, bytes, &mut events)?;
        }
        Ok(Replay::of(events))
    }

    /// How many events of a topic are still to come.
    pub fn remaining(&self, topic: Topic) -> usize {
        self.events
            .as_slice()
            .iter()
            .filter(|event| event.topic == topic)
            .count()
    }

    fn of(mut events: Vec<Event>) -> Replay {
        events.sort_by_key(|event| event.ts_millis);
        Replay {
            events: events.into_iter(),
        }
    }
}

impl Iterator for Replay {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.events.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.events.size_hint()
    }
}

impl ExactSizeIterator for Replay {}

fn collect(name: &str, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
    let text = files::unpack(bytes).map_err(|source| Error::Read {
        file: name.to_owned(),
        source,
    })?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        line::read(line, events).map_err(|reason| Error::Line {
            file: name.to_owned(),
            line: index + 1,
            reason,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
