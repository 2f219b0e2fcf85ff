//! Looking for new topics: a running stream with patterns has a worker look at the brokers again and again.
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Layout;
use drumline_proto::v1::{StartFrom, StreamDefinition};

use super::coordinator::Action;
use super::stream::{Phase, Stream};

/// How soon a new topic is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a worker may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// What is known of the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    Never,
    Asked { worker: String, since: Instant },
    Seen { at: Instant },
}

impl Look {
    /// A worker is gone, and will not answer.
    pub(super) fn lose(&mut self, gone: &str) {
        if matches!(self, Self::Asked { worker, .. } if worker == gone) {
            *self = Self::Never;
        }
    }
}

impl Stream {
    /// Puts the topics that patterns match into the definition that workers get.
    pub(super) fn match_patterns(&mut self) {
        if let (true, Some(layout)) = (self.definition.has_patterns(), &self.layout) {
            let definition = (*self.definition).clone();
            self.definition = Arc::new(definition.matching(&layout.matched));
        }
    }

    /// Has a worker look for new topics when it is time to.
    pub(super) fn look(
        &mut self,
        now: Instant,
        workers: &BTreeSet<String>,
        actions: &mut Vec<Action>,
    ) {
        let is_due = match &self.look {
            // What the stream starts with was looked up just now.
            Look::Never => {
                self.look = Look::Seen { at: now };
                false
            }
            Look::Asked { since, .. } => now.saturating_duration_since(*since) >= LOOK_LIMIT,
            Look::Seen { at } => now.saturating_duration_since(*at) >= LOOK_EVERY,
        };
        let is_wanted = self.phase == Phase::Running
            && self.definition.has_patterns()
            && self.definition.until.is_none();
        let (true, true, Some(worker)) = (is_due, is_wanted, workers.first()) else {
            return;
        };
        self.look = Look::Asked {
            worker: worker.clone(),
            since: now,
        };
        // Where new topics end is not asked: they are read from their first record.
        let definition = StreamDefinition {
            start_from: StartFrom::Earliest.into(),
            ..(*self.definition).clone()
        };
        actions.push(Action::ProbeStream {
            worker: worker.clone(),
            definition: Arc::new(definition),
        });
    }

    /// Takes what a worker saw while the stream runs. Topics are only added here: one that is gone is told by
    /// whoever reads it.
    pub(super) fn looked(&mut self, now: Instant, worker: &str, result: &Result<Layout, String>) {
        if !matches!(&self.look, Look::Asked { worker: asked, .. } if asked == worker) {
            return;
        }
        self.look = Look::Seen { at: now };
        let (Ok(seen), Some(layout)) = (result, &mut self.layout) else {
            return;
        };
        let before = layout.topics.len();
        for (topic, section) in &seen.matched {
            if let (false, Some(count)) =
                (layout.topics.contains_key(topic), seen.topics.get(topic))
            {
                layout.topics.insert(topic.clone(), *count);
                layout.matched.insert(topic.clone(), *section);
            }
        }
        if layout.topics.len() > before {
            self.match_patterns();
            self.reshare();
        }
    }
}
