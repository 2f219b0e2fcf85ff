//! A seeded generator of the three topics: listeners who come back, in sessions.
//!
//! A listener sleeps, comes with a visit of some songs and pages, and leaves, with or without
//! logging out. Each step of a visit is one page: a page view, with a listen beside it where the
//! page is a song, or an auth event where it is a login or logout. Songs and artists have a heavy
//! tail (the n-th most played is played 1/n times as often as the first), cities come with their
//! state, zip and place, and level changes follow the pages "Submit Upgrade" and "Submit
//! Downgrade". Text beyond ASCII is mis-decoded, as real Eventsim's is, so that there is something
//! to repair. Some records come late: they are held back while others go ahead.
//!
//! Only integer arithmetic and exact division make decisions, so equal options give equal bytes on
//! every machine. JSON is put together from pieces that were escaped once.

mod people;
mod random;
mod record;
mod songs;
mod visit;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{Event, Topic};
use people::Cast;
use random::Random;
use songs::Songs;
use visit::{Page, Step, User};

/// What to generate. Equal options give equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Seed.
    pub seed: u64,
    /// Listeners who come back, session after session; at least one is made. [`Options::for_rate`]
    /// finds the number for a wanted rate.
    pub users: u32,
    /// Event time of the beginning, milliseconds since the epoch.
    pub start_millis: i64,
    /// How many records of a thousand come late.
    pub late_per_mille: u32,
    /// How late at most, milliseconds of event time.
    pub max_lateness_millis: u32,
}

impl Default for Options {
    /// 10,000 users from 2026-01-01 on, one record of a hundred up to ten minutes late.
    fn default() -> Options {
        Options {
            seed: 0,
            users: 10_000,
            start_millis: 1_767_225_600_000,
            late_per_mille: 10,
            max_lateness_millis: 600_000,
        }
    }
}

impl Options {
    /// As many users as make about this many records per second of event time, so that a caller
    /// who sends at that rate sees event time go by as the clock does.
    pub fn for_rate(self, records_per_second: f64) -> Options {
        let users = (records_per_second * visit::SECONDS_PER_RECORD_OF_A_USER).ceil();
        Options {
            users: users.clamp(1.0, f64::from(u32::MAX)) as u32,
            ..self
        }
    }
}

/// What a record is; its JSON went into the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Where it goes.
    pub topic: Topic,
    /// Kafka key, as a number; see [`Event::key`].
    pub key: u64,
    /// Event time, milliseconds since the epoch.
    pub ts_millis: i64,
}

/// An endless source of events. Records come in the order of event time, but for the late ones.
pub struct Generator {
    random: Random,
    cast: Cast,
    songs: Songs,
    users: Vec<User>,
    /// Who does something next, and when: (milliseconds, user).
    next: BinaryHeap<Reverse<(i64, u32)>>,
    sessions: u64,
    /// The second record of the page under way.
    second: Option<(Step, Topic)>,
    late: BinaryHeap<Reverse<Late>>,
    held: u64,
    late_per_mille: u32,
    max_lateness_millis: u32,
}

/// A record held back until event time `due`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: i64,
    /// Order of those due at once.
    held: u64,
    ts_millis: i64,
    topic: Topic,
    key: u64,
    json: Vec<u8>,
}

impl Generator {
    /// A generator at its beginning.
    pub fn new(options: Options) -> Generator {
        let mut random = Random::new(options.seed);
        let cast = Cast::new();
        let mut users = Vec::new();
        let mut next = BinaryHeap::new();
        for id in 0..options.users.max(1) {
            let user = User::new(&mut random, &cast, options.start_millis);
            next.push(Reverse((
                options.start_millis + user.first_visit_after(&mut random),
                id,
            )));
            users.push(user);
        }
        Generator {
            random,
            cast,
            songs: Songs::example(),
            users,
            next,
            sessions: 0,
            second: None,
            late: BinaryHeap::new(),
            held: 0,
            late_per_mille: options.late_per_mille,
            max_lateness_millis: options.max_lateness_millis.max(1),
        }
    }

    /// Appends the next record to `buffer`: one JSON object, without a line end.
    pub fn write_next(&mut self, buffer: &mut Vec<u8>) -> Generated {
        loop {
            if let Some((step, topic)) = self.second.take() {
                return self.write(&step, topic, buffer);
            }
            // Never empty: there is a user, and each step names its user's next.
            let (now, id) = self.next.pop().map_or((0, 0), |Reverse(next)| next);
            if self
                .late
                .peek()
                .is_some_and(|Reverse(late)| late.due <= now)
                && let Some(Reverse(late)) = self.late.pop()
            {
                self.next.push(Reverse((now, id)));
                buffer.extend_from_slice(&late.json);
                return Generated {
                    topic: late.topic,
                    key: late.key,
                    ts_millis: late.ts_millis,
                };
            }
            let step = self.step(now, id);
            self.second = match step.page {
                Page::NextSong => Some((step, Topic::ListenEvents)),
                Page::Login | Page::Logout => Some((step, Topic::AuthEvents)),
                _ => None,
            };
            if self.random.per_mille(self.late_per_mille) {
                self.hold_back(&step);
                continue;
            }
            return self.write(&step, Topic::PageViewEvents, buffer);
        }
    }

    fn step(&mut self, now: i64, id: u32) -> Step {
        let user = &mut self.users[id as usize];
        let (step, wait) = user.step(now, id, &mut self.random, &self.songs, &mut self.sessions);
        self.next.push(Reverse((now + wait, id)));
        step
    }

    fn write(&self, step: &Step, topic: Topic, buffer: &mut Vec<u8>) -> Generated {
        record::write(
            step,
            topic,
            &self.users[step.user as usize],
            &self.cast,
            &self.songs,
            buffer,
        );
        Generated {
            topic,
            key: step.key(),
            ts_millis: step.ts_millis,
        }
    }

    /// Keeps the page's view, or what it is besides, until later.
    fn hold_back(&mut self, step: &Step) {
        let topic = match self.second {
            Some((_, second)) if self.random.per_mille(500) => {
                self.second = Some((*step, Topic::PageViewEvents));
                second
            }
            _ => Topic::PageViewEvents,
        };
        let mut json = Vec::with_capacity(512);
        self.write(step, topic, &mut json);
        let lateness = 1 + self.random.below(u64::from(self.max_lateness_millis)) as i64;
        self.held += 1;
        self.late.push(Reverse(Late {
            due: step.ts_millis + lateness,
            held: self.held,
            ts_millis: step.ts_millis,
            topic,
            key: step.key(),
            json,
        }));
    }
}

impl Iterator for Generator {
    type Item = Event;

    /// Never `None`. [`Generator::write_next`] is the quicker way.
    fn next(&mut self) -> Option<Event> {
        let mut json = Vec::with_capacity(512);
        let Generated {
            topic,
            key,
            ts_millis,
        } = self.write_next(&mut json);
        Some(Event {
            topic,
            key: key.to_string(),
            ts_millis,
            json,
        })
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
