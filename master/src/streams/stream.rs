//! One stream as the coordinator sees it: its shares, its phase, and how it moves from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use drumline_proto::v1::StreamDefinition;

use super::balance::balance;
use super::bounds;
use super::coordinator::{Action, CommitId};
use super::look::Look;
use super::{Layout, Partition, TableOffsets};

/// How long a worker may take to look at brokers and topics.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Reading that goes well for so long after a failure has mended it.
const MENDED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Topics not seen yet: waits for a worker, or for the one that looks at them.
    Probing {
        asked: Option<(String, Instant)>,
    },
    /// Waits for commits of revoked epochs to end.
    Settling,
    /// The tables are being read for their offsets; the answer to an earlier read is too old.
    Reading {
        read: u64,
    },
    Running,
    /// Nobody reads it, and its tables are even: its definition may be changed.
    Held,
    Waiting {
        until: Instant,
    },
    Paused,
    /// It ends by itself, and everything below its bounds is committed.
    Finished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) epoch: u64,
    pub(crate) partitions: BTreeSet<Partition>,
    pub(crate) since: Instant,
    /// Its worker has begun to read.
    pub(crate) heard: bool,
    /// Why its worker reads nothing at the moment: brokers do not answer.
    pub(crate) waiting: Option<String>,
}

/// What a worker says of its share, again and again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) ends: BTreeMap<Partition, i64>,
    /// Partitions that each topic has now.
    pub(crate) partitions: BTreeMap<String, u32>,
    pub(crate) waiting: Option<String>,
    pub(crate) figures: BTreeMap<Partition, Figure>,
}

/// What a worker counts of a partition that it reads. Dates are the brokers', in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figure {
    /// Date of the first record that is read and not committed.
    pub(crate) waiting_since: Option<i64>,
    /// The newest and the oldest date among committed records.
    pub(crate) dates: Option<(i64, i64)>,
    pub(crate) records_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

/// Which part of a stream's work went wrong: only that part going well again mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Reading,
    Committing,
}

/// Why a stream does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) since: Instant,
    /// The step that failed; `None`: nothing failed, it waits.
    pub(crate) failed: Option<Step>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) layout: Option<Layout>,
    pub(crate) phase: Phase,
    pub(crate) shares: BTreeMap<String, Share>,
    /// What each worker gets once the tables have been read; those that keep their share included.
    pub(super) planned: BTreeMap<String, BTreeSet<Partition>>,
    pub(crate) offsets: TableOffsets,
    pub(crate) ends: BTreeMap<Partition, i64>,
    pub(crate) figures: BTreeMap<Partition, Figure>,
    pub(crate) trouble: Option<Trouble>,
    pub(super) committing: BTreeSet<CommitId>,
    pub(super) failures: u32,
    pub(super) reads: u64,
    /// Its definition is about to change.
    pub(super) holding: bool,
    /// For topics that match a pattern.
    pub(super) look: Look,
}

impl Stream {
    pub(super) fn partitions(&self) -> BTreeSet<Partition> {
        self.layout.iter().flat_map(Layout::partitions).collect()
    }

    fn wanted(&self, workers: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<Partition>> {
        let current = self
            .shares
            .iter()
            .map(|(worker, share)| (worker.clone(), share.partitions.clone()))
            .collect();
        balance(&self.partitions(), workers, &current)
    }

    /// Shares have to be looked at again.
    pub(super) fn reshare(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Reading { .. }) {
            self.phase = Phase::Settling;
        }
    }

    pub(super) fn revoke(&mut self, worker: &str, actions: &mut Vec<Action>) {
        if let Some(share) = self.shares.remove(worker) {
            let stream = self.definition.name.clone();
            actions.push(Action::RevokeEpoch {
                worker: worker.to_owned(),
                stream,
                epoch: share.epoch,
            });
        }
    }

    pub(super) fn revoke_all(&mut self, actions: &mut Vec<Action>) {
        let workers: Vec<String> = self.shares.keys().cloned().collect();
        for worker in workers {
            self.revoke(&worker, actions);
        }
    }

    /// Gives up for a while.
    pub(super) fn fail(&mut self, now: Instant, step: Step, reason: String) {
        let wait = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(5))
            .min(LAST_RETRY);
        self.failures += 1;
        self.troubled(now, Some(step), reason);
        self.phase = Phase::Waiting { until: now + wait };
    }

    /// Keeps since when it has been in trouble, whatever the reasons were.
    fn troubled(&mut self, now: Instant, failed: Option<Step>, reason: String) {
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble {
            reason,
            since,
            failed,
        });
    }

    /// A commit landed.
    pub(super) fn committed(&mut self) {
        self.failures = 0;
        if self.is_failing() {
            self.trouble = None;
        }
    }

    /// Ends a stream that has come to its bounds; whether it has.
    pub(super) fn finish(&mut self, actions: &mut Vec<Action>) -> bool {
        // One that is held has even tables to come to first.
        if self.holding || !bounds::is_finished(&self.definition, &self.offsets) {
            return false;
        }
        self.revoke_all(actions);
        self.planned.clear();
        self.trouble = None;
        self.phase = Phase::Finished;
        true
    }

    fn is_failing(&self) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.failed.is_some())
    }

    /// Takes what the worker of a share says: ends, new partitions, and whether it can read.
    pub(super) fn reported(&mut self, now: Instant, worker: &str, report: Report) {
        self.ends.extend(report.ends);
        for (partition, figure) in report.figures {
            let known = self.figures.entry(partition).or_default();
            let dates = match (known.dates, figure.dates) {
                (Some(known), Some(new)) => Some((known.0.max(new.0), known.1.min(new.1))),
                (known, new) => new.or(known),
            };
            *known = Figure { dates, ..figure };
        }
        if let Some(share) = self.shares.get_mut(worker) {
            share.heard = true;
            share.waiting = report.waiting;
        }
        let waiting = self.shares.values().find_map(|share| share.waiting.clone());
        match (waiting, &self.trouble) {
            (Some(reason), _) => {
                let failed = self.trouble.as_ref().and_then(|trouble| trouble.failed);
                self.troubled(now, failed, reason);
            }
            (None, Some(trouble)) => match trouble.failed {
                None => self.trouble = None,
                Some(Step::Reading) if self.reads_well(now) => self.trouble = None,
                Some(Step::Reading | Step::Committing) => {}
            },
            (None, None) => {}
        }
        self.grow(&report.partitions);
    }

    /// Every share has been read for a while.
    fn reads_well(&self, now: Instant) -> bool {
        let lasts = |share: &Share| now.saturating_duration_since(share.since) >= MENDED_AFTER;
        self.phase == Phase::Running
            && self
                .shares
                .values()
                .all(|share| share.heard && lasts(share))
    }

    /// Topics can get partitions at any time; they never lose one.
    fn grow(&mut self, seen: &BTreeMap<String, u32>) {
        if self.definition.until.is_some() {
            return;
        }
        let Some(layout) = &mut self.layout else {
            return;
        };
        let mut grown = false;
        for (topic, count) in &mut layout.topics {
            if let Some(seen) = seen.get(topic).filter(|seen| *seen > count) {
                *count = *seen;
                grown = true;
            }
        }
        if grown {
            self.reshare();
        }
    }

    pub(super) fn probed(&mut self, now: Instant, worker: &str, result: Result<Layout, String>) {
        if !matches!(&self.phase, Phase::Probing { asked: Some((asked, _)) } if asked == worker) {
            return self.looked(now, worker, &result);
        }
        match result {
            Ok(layout) => {
                self.layout = bounds::within(&self.definition, Some(layout));
                self.match_patterns();
                self.phase = Phase::Settling;
            }
            Err(reason) => self.fail(now, Step::Reading, reason),
        }
    }

    /// Moves on as far as the state allows; called after every event.
    pub(super) fn proceed(
        &mut self,
        now: Instant,
        workers: &BTreeSet<String>,
        actions: &mut Vec<Action>,
    ) {
        match &self.phase {
            Phase::Waiting { until } if now >= *until => {
                // A topic that a pattern matched may be gone by now.
                self.phase = match self.layout {
                    Some(_) if !self.definition.has_patterns() => Phase::Settling,
                    _ => Phase::Probing { asked: None },
                };
                self.proceed(now, workers, actions);
            }
            Phase::Probing { asked: None } => {
                if let Some(worker) = workers.first() {
                    self.phase = Phase::Probing {
                        asked: Some((worker.clone(), now)),
                    };
                    let definition = Arc::clone(&self.definition);
                    actions.push(Action::ProbeStream {
                        worker: worker.clone(),
                        definition,
                    });
                }
            }
            Phase::Probing {
                asked: Some((worker, since)),
            } if now - *since > PROBE_LIMIT => {
                let reason = format!("worker {worker} did not answer about the topics");
                self.fail(now, Step::Reading, reason);
            }
            Phase::Settling => self.settle(workers, actions),
            Phase::Running => self.look(now, workers, actions),
            Phase::Probing { .. }
            | Phase::Waiting { .. }
            | Phase::Reading { .. }
            | Phase::Held
            | Phase::Paused
            | Phase::Finished => {}
        }
    }

    pub(super) fn settle(&mut self, workers: &BTreeSet<String>, actions: &mut Vec<Action>) {
        if workers.is_empty() && !self.holding {
            return;
        }
        let wanted = self.wanted(workers);
        let changed: Vec<String> = self
            .shares
            .iter()
            .filter(|(worker, share)| wanted.get(*worker) != Some(&share.partitions))
            .map(|(worker, _)| worker.clone())
            .collect();
        for worker in changed {
            self.revoke(&worker, actions);
        }
        self.planned = wanted;
        let revoked_commit_open = self.committing.iter().any(|commit| {
            self.shares
                .get(&commit.worker)
                .is_none_or(|share| share.epoch != commit.epoch)
        });
        if !revoked_commit_open {
            self.reads += 1;
            self.phase = Phase::Reading { read: self.reads };
            actions.push(Action::ReadTables {
                definition: Arc::clone(&self.definition),
                read: self.reads,
            });
        }
    }
}
