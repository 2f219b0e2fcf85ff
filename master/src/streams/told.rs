//! What is told of streams as facts: commits, states that change, and how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::coordinator::Coordinator;
use super::status::{self, Statistics};
use super::tables::TableProgress;
use crate::facts::{self, Facts};

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What was told last, so that nothing is told twice.
pub(super) struct Told {
    facts: Facts,
    /// State and reason of each stream.
    states: BTreeMap<String, (String, String)>,
    /// How far each stream is, and when that was told.
    progress: BTreeMap<String, Arc<facts::StreamProgress>>,
    progress_at: Instant,
}

impl Told {
    pub(super) fn new(facts: Facts) -> Self {
        Self {
            facts,
            states: BTreeMap::new(),
            progress: BTreeMap::new(),
            progress_at: Instant::now(),
        }
    }

    pub(super) fn commits(&self, stream: &str, progress: &BTreeMap<String, TableProgress>) {
        for (table, progress) in progress {
            self.facts.publish(facts::Event::TableCommitted {
                table: table.clone(),
                version: progress.version,
                rows: progress.rows,
                files: progress.files,
                bytes: progress.bytes,
                application: String::new(),
                statement: 0,
                stream: stream.to_owned(),
            });
        }
    }

    /// Tells streams whose state is another than was told last.
    pub(super) fn states(&mut self, coordinator: &Coordinator) {
        let states = status::states(coordinator);
        for name in self
            .states
            .keys()
            .filter(|name| !states.contains_key(*name))
        {
            self.facts.publish(facts::Event::StreamDeleted {
                stream: name.clone(),
            });
        }
        for (name, (state, reason)) in &states {
            if self.states.get(name) != Some(&(state.clone(), reason.clone())) {
                self.facts.publish(facts::Event::StreamChanged {
                    stream: name.clone(),
                    state: state.clone(),
                    reason: reason.clone(),
                });
            }
        }
        self.states = states;
    }

    /// Tells how far streams are, where that has changed.
    pub(super) fn progress(&mut self, coordinator: &Coordinator, statistics: &Statistics) {
        if self.progress_at.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.progress_at = Instant::now();
        let mut told = BTreeMap::new();
        for (name, status) in statistics.of(coordinator) {
            let progress = match self.progress.remove(&name) {
                Some(known) if *known == status::progress(&status) => known,
                _ => {
                    let progress = Arc::new(status::progress(&status));
                    self.facts.publish(facts::Event::StreamProgressed {
                        stream: name.clone(),
                        progress: Arc::clone(&progress),
                    });
                    progress
                }
            };
            told.insert(name, progress);
        }
        self.progress = told;
    }
}
