//! When files are closed and what is offered: decisions for one assignment. Pure: no clock, no IO.
//!
//! Invariants (property-tested in `machine/tests.rs`): after the end nothing is offered; at most one
//! offer of a topic is open; the ranges of a table follow one another without gap or overlap.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Next positions, by place: the partition, where a source reads one topic only.
pub(crate) type Positions = BTreeMap<i32, i64>;

/// A half-open range of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// What happened. A topic here is a `[[topic]]` of the definition, which may name several of Kafka's.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Reading begins; `tables` says where each table of the topic goes on.
    Started {
        topic: usize,
        tables: Vec<Positions>,
    },
    /// Everything below `next` is with the writers.
    Advanced {
        topic: usize,
        next: Positions,
        written: Written,
    },
    /// Files with everything below `next` are closed, and durable.
    Closed { topic: usize, next: Positions },
    /// The master's word on an offer.
    Answered { id: u64, committed: bool },
    /// Nothing more is to be read, and what was read is to be offered now.
    DrainRequested,
    /// Time has passed.
    Ticked,
    /// The right to publish is gone.
    Revoked,
    /// A part of the stream failed.
    Failed,
}

/// What the files hold that are not closed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the largest file.
    pub file: u64,
    /// Rows of all of them.
    pub rows: u64,
}

/// When files are closed.
#[derive(Debug, Clone)]
pub(crate) struct Rolling {
    pub interval: Duration,
    /// A moment at which files are closed, and again after every interval; none: an interval after their first
    /// record.
    pub aligned_to: Option<Instant>,
    /// Bytes of the largest file.
    pub file_size: u64,
    /// Rows of all files of a topic.
    pub file_rows: u64,
}

impl Rolling {
    /// When files are closed whose first record came at `since`.
    fn due(&self, since: Instant) -> Instant {
        let Some(anchor) = self.aligned_to else {
            return since + self.interval;
        };
        let interval = self.interval.as_nanos().max(1);
        let intervals = since.saturating_duration_since(anchor).as_nanos() / interval + 1;
        let nanos = u64::try_from(intervals * interval).unwrap_or(u64::MAX);
        anchor + Duration::from_nanos(nanos)
    }

    fn is_full(&self, written: Written) -> bool {
        written.file >= self.file_size || written.rows >= self.file_rows
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Close the topic's files, and say how far they reach.
    CloseFiles { topic: usize },
    /// Offer the files that were closed last: ranges by table.
    Offer {
        topic: usize,
        id: u64,
        tables: Vec<Vec<Range>>,
    },
    /// Closed files of a topic hold nothing and belong to nothing.
    DiscardClosed { topic: usize },
    /// Stop taking records of a topic: its files are full and its last offer is unanswered.
    Pause { topic: usize },
    /// Take records again.
    Resume { topic: usize },
    /// Tell Kafka how far the tables are, for lag tools.
    Acknowledge { topic: usize, next: Positions },
    /// Give up every open and every closed file, and end.
    Stop,
}

#[derive(Debug, Default)]
struct Topic {
    tables: Vec<Positions>,
    // Since when something is waiting to be offered.
    waiting_since: Option<Instant>,
    next: Positions,
    // Where the partitions end that do.
    until: Positions,
    full: bool,
    paused: bool,
    sealed: Sealed,
}

#[derive(Debug, Default, PartialEq)]
enum Sealed {
    #[default]
    Nothing,
    Closing,
    Offered {
        id: u64,
        next: Positions,
    },
}

/// The state of one assignment.
#[derive(Debug)]
pub(crate) struct Machine {
    rolling: Rolling,
    topics: Vec<Topic>,
    last_offer: u64,
    draining: bool,
    ended: bool,
}

impl Machine {
    pub(crate) fn new(topics: usize, rolling: Rolling) -> Self {
        let topics = std::iter::repeat_with(Topic::default)
            .take(topics)
            .collect();
        Self {
            rolling,
            topics,
            last_offer: 0,
            draining: false,
            ended: false,
        }
    }

    /// A topic ends by itself at these positions: once they are reached there is nothing to wait for.
    pub(crate) fn ends_at(&mut self, topic: usize, until: Positions) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.until = until;
        }
    }

    /// When [`Event::Ticked`] is wanted next.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let waiting = |topic: &Topic| {
            topic
                .waiting_since
                .filter(|_| topic.sealed == Sealed::Nothing)
        };
        self.topics
            .iter()
            .filter_map(waiting)
            .min()
            .map(|since| self.rolling.due(since))
    }

    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ended {
            return actions;
        }
        match event {
            Event::Started { topic, tables } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.tables = tables;
                }
            }
            Event::Advanced {
                topic,
                next,
                written,
            } => self.advanced(now, topic, next, written),
            Event::Closed { topic, next } => self.closed(topic, next, &mut actions),
            Event::Answered {
                id,
                committed: true,
            } => self.committed(id, &mut actions),
            Event::Answered {
                id,
                committed: false,
            } if !self.is_open(id) => {}
            Event::Answered {
                committed: false, ..
            }
            | Event::Revoked
            | Event::Failed => {
                self.ended = true;
                return vec![Action::Stop];
            }
            Event::DrainRequested => self.drain(&mut actions),
            Event::Ticked => {}
        }
        self.close_what_is_due(now, &mut actions);
        if self.draining && self.topics.iter().all(Topic::is_done) {
            self.ended = true;
            actions.push(Action::Stop);
        }
        actions
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        for (at, topic) in self.topics.iter_mut().enumerate() {
            if !std::mem::replace(&mut topic.paused, true) {
                actions.push(Action::Pause { topic: at });
            }
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    fn advanced(&mut self, now: Instant, topic: usize, next: Positions, written: Written) {
        let full = self.rolling.is_full(written);
        if let Some(topic) = self.topics.get_mut(topic) {
            for (partition, position) in next {
                let known = topic.next.entry(partition).or_insert(position);
                *known = position.max(*known);
            }
            topic.full = full || topic.is_at_its_end();
            topic.waiting_since.get_or_insert(now);
        }
    }

    fn closed(&mut self, at: usize, next: Positions, actions: &mut Vec<Action>) {
        let Some(topic) = self
            .topics
            .get_mut(at)
            .filter(|topic| topic.sealed == Sealed::Closing)
        else {
            return;
        };
        let tables: Vec<Vec<Range>> = topic
            .tables
            .iter()
            .map(|table| ranges(table, &next))
            .collect();
        if next == topic.next {
            topic.waiting_since = None;
        }
        if tables.iter().all(Vec::is_empty) {
            topic.sealed = Sealed::Nothing;
            actions.push(Action::DiscardClosed { topic: at });
            if !self.draining {
                topic.resume(at, actions);
            }
            return;
        }
        self.last_offer += 1;
        topic.sealed = Sealed::Offered {
            id: self.last_offer,
            next,
        };
        actions.push(Action::Offer {
            topic: at,
            id: self.last_offer,
            tables,
        });
    }

    fn is_open(&self, answered: u64) -> bool {
        self.topics
            .iter()
            .any(|topic| matches!(topic.sealed, Sealed::Offered { id, .. } if id == answered))
    }

    fn committed(&mut self, answered: u64, actions: &mut Vec<Action>) {
        for (at, topic) in self.topics.iter_mut().enumerate() {
            let Sealed::Offered { id, next } = &topic.sealed else {
                continue;
            };
            if *id != answered {
                continue;
            }
            for table in &mut topic.tables {
                for (partition, to) in next {
                    let position = table.entry(*partition).or_insert(*to);
                    *position = (*to).max(*position);
                }
            }
            actions.push(Action::Acknowledge {
                topic: at,
                next: next.clone(),
            });
            topic.sealed = Sealed::Nothing;
            if !self.draining {
                topic.resume(at, actions);
            }
        }
    }

    fn close_what_is_due(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (at, topic) in self.topics.iter_mut().enumerate() {
            let Some(since) = topic.waiting_since else {
                continue;
            };
            if topic.sealed == Sealed::Nothing {
                if topic.full || self.draining || now >= self.rolling.due(since) {
                    topic.sealed = Sealed::Closing;
                    // What comes from here on may belong to the next files: their interval begins.
                    topic.waiting_since = Some(now);
                    topic.full = false;
                    actions.push(Action::CloseFiles { topic: at });
                }
            } else if topic.full && !topic.paused {
                topic.paused = true;
                actions.push(Action::Pause { topic: at });
            }
        }
    }
}

impl Topic {
    /// Whether everything that was read is committed.
    fn is_done(&self) -> bool {
        self.waiting_since.is_none() && self.sealed == Sealed::Nothing
    }

    /// Whether everything up to its bounds was read.
    fn is_at_its_end(&self) -> bool {
        let reached =
            |(partition, until)| self.next.get(partition).is_some_and(|next| next >= until);
        !self.until.is_empty() && self.until.iter().all(reached)
    }

    fn resume(&mut self, at: usize, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.paused) {
            actions.push(Action::Resume { topic: at });
        }
    }
}

/// What a table that goes on at `table` gains by everything below `next`.
fn ranges(table: &Positions, next: &Positions) -> Vec<Range> {
    let range = |(partition, to): (&i32, &i64)| {
        let from = *table.get(partition)?;
        (from < *to).then_some(Range {
            partition: *partition,
            from,
            to: *to,
        })
    };
    next.iter().filter_map(range).collect()
}
