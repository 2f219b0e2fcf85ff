//! One stream as the coordinator sees it: its shares, its phase, and how it moves from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use drumline_proto::v1::StreamDefinition;

use super::balance::balance;
use super::coordinator::{Action, CommitId};
use super::{Layout, Partition, TableOffsets};

/// How long a worker may take to look at brokers and topics.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

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
    Waiting {
        until: Instant,
    },
    Paused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) epoch: u64,
    pub(crate) partitions: BTreeSet<Partition>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) layout: Option<Layout>,
    pub(crate) phase: Phase,
    pub(crate) shares: BTreeMap<String, Share>,
    pub(crate) offsets: TableOffsets,
    pub(crate) ends: BTreeMap<Partition, i64>,
    pub(crate) last_error: Option<String>,
    pub(super) committing: BTreeSet<CommitId>,
    pub(super) failures: u32,
    pub(super) reads: u64,
}

impl Stream {
    pub(super) fn partitions(&self) -> BTreeSet<Partition> {
        self.layout.iter().flat_map(Layout::partitions).collect()
    }

    pub(super) fn wanted(
        &self,
        workers: &BTreeSet<String>,
    ) -> BTreeMap<String, BTreeSet<Partition>> {
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

    pub(super) fn fail(&mut self, now: Instant, reason: String) {
        let wait = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(5))
            .min(LAST_RETRY);
        self.failures += 1;
        self.last_error = Some(reason);
        self.phase = Phase::Waiting { until: now + wait };
    }

    pub(super) fn probed(&mut self, now: Instant, worker: &str, result: Result<Layout, String>) {
        if !matches!(&self.phase, Phase::Probing { asked: Some((asked, _)) } if asked == worker) {
            return;
        }
        match result {
            Ok(layout) => {
                self.layout = Some(layout);
                self.phase = Phase::Settling;
            }
            Err(reason) => self.fail(now, reason),
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
                self.phase = match self.layout {
                    Some(_) => Phase::Settling,
                    None => Phase::Probing { asked: None },
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
                self.fail(now, reason);
            }
            Phase::Settling => self.settle(workers, actions),
            Phase::Probing { .. }
            | Phase::Waiting { .. }
            | Phase::Reading { .. }
            | Phase::Running
            | Phase::Paused => {}
        }
    }

    pub(super) fn settle(&mut self, workers: &BTreeSet<String>, actions: &mut Vec<Action>) {
        if workers.is_empty() {
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
