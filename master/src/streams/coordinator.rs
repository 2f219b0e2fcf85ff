//! Decides who consumes what, and which offers are committed: a pure state machine over streams.
//!
//! A stream's partitions are shared among the workers; each share carries an epoch. When shares must
//! change, those workers' epochs are revoked, commits that were already under way are waited for,
//! the tables are read for the offsets they hold, and only then new shares with new epochs go out.
//! So a revoked epoch can never commit, and nobody starts from an offset that is about to move.
//!
//! Read next: `stream.rs`, for one stream's phases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use drumline_proto::v1::{Offer, StreamDefinition};

use super::bounds;
use super::look::Look;
use super::stream::{Phase, Report, Share, Step, Stream};
use super::{Layout, Partition, TableOffsets};

#[derive(Debug)]
pub(crate) enum Event {
    /// A stream was applied or found in the catalog. `layout`: known from a probe just made.
    StreamPut {
        definition: Arc<StreamDefinition>,
        layout: Option<Layout>,
    },
    StreamDeleted {
        stream: String,
    },
    /// Its definition is about to change: nobody is to read it.
    HoldRequested {
        stream: String,
    },
    /// Its definition stays.
    HoldReleased {
        stream: String,
    },
    WorkerCame {
        worker: String,
    },
    /// It commits what it has, and takes no more; then it is gone.
    WorkerDraining {
        worker: String,
    },
    WorkerGone {
        worker: String,
    },
    StreamProbed {
        stream: String,
        worker: String,
        result: Result<Layout, String>,
    },
    TablesRead {
        stream: String,
        read: u64,
        result: Result<TableOffsets, String>,
    },
    Offered {
        worker: String,
        offer: Offer,
    },
    CommitEnded {
        stream: String,
        commit: CommitId,
        result: Result<TableOffsets, String>,
    },
    /// Somebody moved where tables of a paused stream go on.
    TablesReset {
        stream: String,
        offsets: TableOffsets,
    },
    AssignmentFailed {
        worker: String,
        stream: String,
        epoch: u64,
        reason: String,
    },
    Reported {
        worker: String,
        stream: String,
        epoch: u64,
        report: Report,
    },
    Tick,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    ProbeStream {
        worker: String,
        definition: Arc<StreamDefinition>,
    },
    ReadTables {
        definition: Arc<StreamDefinition>,
        read: u64,
    },
    AssignPartitions {
        worker: String,
        definition: Arc<StreamDefinition>,
        epoch: u64,
        partitions: BTreeSet<Partition>,
        offsets: TableOffsets,
    },
    RevokeEpoch {
        worker: String,
        stream: String,
        epoch: u64,
    },
    /// Nobody reads the stream, and its tables are even.
    ConfirmHold { stream: String },
    CommitOffer {
        definition: Arc<StreamDefinition>,
        commit: CommitId,
        offer: Offer,
    },
    AnswerOffer {
        stream: String,
        commit: CommitId,
        refusal: Option<String>,
    },
}

/// An offer, told apart from every other of its stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitId {
    pub(crate) worker: String,
    pub(crate) epoch: u64,
    pub(crate) offer: u64,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    streams: BTreeMap<String, Stream>,
    workers: BTreeSet<String>,
    next_epoch: u64,
}

impl Coordinator {
    /// `first_epoch` must be above every epoch of an earlier run of the master.
    pub(crate) fn new(first_epoch: u64) -> Self {
        Self {
            streams: BTreeMap::new(),
            workers: BTreeSet::new(),
            next_epoch: first_epoch,
        }
    }

    pub(crate) fn streams(&self) -> &BTreeMap<String, Stream> {
        &self.streams
    }

    pub(crate) fn has_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::StreamPut { definition, layout } => self.put(definition, layout, &mut actions),
            Event::StreamDeleted { stream } => {
                if let Some(mut gone) = self.streams.remove(&stream) {
                    gone.revoke_all(&mut actions);
                }
            }
            Event::HoldRequested { stream } => match self.streams.get_mut(&stream) {
                Some(held) => held.hold(&mut actions),
                None => actions.push(Action::ConfirmHold { stream }),
            },
            Event::HoldReleased { stream } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.release(&mut actions);
                }
            }
            Event::WorkerCame { worker } => {
                self.workers.insert(worker);
                self.streams.values_mut().for_each(Stream::reshare);
            }
            // Its shares stay until it is gone: nobody is better placed to commit what it has read.
            Event::WorkerDraining { worker } => {
                self.workers.remove(&worker);
            }
            Event::WorkerGone { worker } => self.lose(&worker),
            Event::StreamProbed {
                stream,
                worker,
                result,
            } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.probed(now, &worker, result);
                }
            }
            Event::TablesRead {
                stream,
                read,
                result,
            } => self.assign(now, &stream, read, result, &mut actions),
            Event::Offered { worker, offer } => self.offered(worker, offer, &mut actions),
            Event::CommitEnded {
                stream,
                commit,
                result,
            } => {
                self.commit_ended(now, stream, commit, result, &mut actions);
            }
            Event::TablesReset { stream, offsets } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.offsets.advance(offsets);
                }
            }
            Event::AssignmentFailed {
                worker,
                stream,
                epoch,
                reason,
            } => {
                if let Some(stream) = self.current(&stream, &worker, epoch) {
                    stream.shares.remove(&worker);
                    stream.fail(now, Step::Reading, format!("worker {worker}: {reason}"));
                }
            }
            Event::Reported {
                worker,
                stream,
                epoch,
                report,
            } => {
                if let Some(stream) = self.current(&stream, &worker, epoch) {
                    stream.reported(now, &worker, report);
                }
            }
            Event::Tick => {}
        }
        for stream in self.streams.values_mut() {
            stream.proceed(now, &self.workers, &mut actions);
        }
        actions
    }

    /// Whether a worker's share of a stream has this epoch.
    pub(crate) fn holds(&self, stream: &str, worker: &str, epoch: u64) -> bool {
        let share = self
            .streams
            .get(stream)
            .and_then(|stream| stream.shares.get(worker));
        share.is_some_and(|share| share.epoch == epoch)
    }

    /// The stream, if this worker holds a share of it under this epoch.
    fn current(&mut self, stream: &str, worker: &str, epoch: u64) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(stream)?;
        let share = stream.shares.get(worker)?;
        (share.epoch == epoch).then_some(stream)
    }

    fn put(
        &mut self,
        definition: Arc<StreamDefinition>,
        layout: Option<Layout>,
        actions: &mut Vec<Action>,
    ) {
        let name = definition.name.clone();
        let layout = bounds::within(&definition, layout);
        let phase = match (definition.paused, &layout) {
            (true, _) => Phase::Paused,
            (false, None) => Phase::Probing { asked: None },
            (false, Some(_)) => Phase::Settling,
        };
        let mut stream = Stream {
            definition,
            layout,
            phase,
            shares: BTreeMap::new(),
            planned: BTreeMap::new(),
            offsets: TableOffsets::default(),
            ends: BTreeMap::new(),
            figures: BTreeMap::new(),
            trouble: None,
            committing: BTreeSet::new(),
            failures: 0,
            reads: 0,
            holding: false,
            look: Look::Never,
        };
        if let Some(mut before) = self.streams.remove(&name) {
            before.revoke_all(actions);
            stream.committing = before.committing;
            stream.layout = stream.layout.or(before.layout);
            stream.offsets = before.offsets;
            stream.ends = before.ends;
            stream.figures = before.figures;
            stream.reads = before.reads;
        }
        stream.match_patterns();
        self.streams.insert(name, stream);
    }

    fn lose(&mut self, worker: &str) {
        self.workers.remove(worker);
        for stream in self.streams.values_mut() {
            let had = stream.shares.remove(worker).is_some();
            let planned = stream.planned.remove(worker);
            if had || planned.is_some_and(|partitions| !partitions.is_empty()) {
                stream.reshare();
            }
            if matches!(&stream.phase, Phase::Probing { asked: Some((asked, _)) } if asked == worker)
            {
                stream.phase = Phase::Probing { asked: None };
            }
            stream.look.lose(worker);
        }
    }

    fn offered(&mut self, worker: String, offer: Offer, actions: &mut Vec<Action>) {
        let commit = CommitId {
            worker,
            epoch: offer.epoch,
            offer: offer.id,
        };
        let name = offer.stream.clone();
        let refuse = |commit, reason: String| Action::AnswerOffer {
            stream: name.clone(),
            commit,
            refusal: Some(reason),
        };
        let Some(stream) = self.current(&offer.stream, &commit.worker, commit.epoch) else {
            let reason = format!("epoch {} of stream {name} is revoked", commit.epoch);
            return actions.push(refuse(commit, reason));
        };
        let Some(share) = stream.shares.get(&commit.worker) else {
            return;
        };
        let foreign = offer
            .tables
            .iter()
            .flat_map(|table| &table.ranges)
            .find(|range| {
                let partition = Partition {
                    topic: range.topic.clone(),
                    partition: range.partition,
                };
                !share.partitions.contains(&partition) || range.from > range.to
            });
        if let Some(range) = foreign {
            let reason = format!(
                "offsets [{}, {}) of {}/{} are not this worker's to offer",
                range.from, range.to, range.topic, range.partition
            );
            return actions.push(refuse(commit, reason));
        }
        // The same offer again (its answer is still to come) is not committed twice.
        if stream.committing.insert(commit.clone()) {
            let definition = Arc::clone(&stream.definition);
            actions.push(Action::CommitOffer {
                definition,
                commit,
                offer,
            });
        }
    }

    fn commit_ended(
        &mut self,
        now: Instant,
        name: String,
        commit: CommitId,
        result: Result<TableOffsets, String>,
        actions: &mut Vec<Action>,
    ) {
        let refusal = result.as_ref().err().cloned();
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.committing.remove(&commit);
            match result {
                Ok(offsets) => {
                    stream.offsets.advance(offsets);
                    stream.committed();
                    stream.caught_up(actions);
                }
                Err(reason) => {
                    // Part of the offer may have landed: its worker starts again from the tables.
                    let current = stream
                        .shares
                        .get(&commit.worker)
                        .is_some_and(|s| s.epoch == commit.epoch);
                    if current {
                        stream.revoke(&commit.worker, actions);
                        stream.fail(now, Step::Committing, format!("commit: {reason}"));
                    }
                }
            }
        }
        actions.push(Action::AnswerOffer {
            stream: name.clone(),
            commit,
            refusal,
        });
        if let Some(stream) = self.streams.get_mut(&name)
            && stream.phase == Phase::Running
        {
            stream.finish(actions);
        }
    }

    fn assign(
        &mut self,
        now: Instant,
        name: &str,
        read: u64,
        result: Result<TableOffsets, String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        // Something changed while the tables were read: what was read may be old.
        if stream.phase != (Phase::Reading { read }) {
            return;
        }
        match result {
            Err(reason) => stream.fail(now, Step::Reading, reason),
            Ok(offsets) => {
                stream.offsets = offsets;
                if stream.held(actions) || stream.finish(actions) {
                    return;
                }
                stream.phase = Phase::Running;
                let definition = stream.assigned_definition();
                for (worker, partitions) in std::mem::take(&mut stream.planned) {
                    if partitions.is_empty() || stream.shares.contains_key(&worker) {
                        continue;
                    }
                    let epoch = self.next_epoch;
                    self.next_epoch += 1;
                    stream.shares.insert(
                        worker.clone(),
                        Share {
                            epoch,
                            partitions: partitions.clone(),
                            since: now,
                            heard: false,
                            waiting: None,
                        },
                    );
                    actions.push(Action::AssignPartitions {
                        worker,
                        definition: Arc::clone(&definition),
                        epoch,
                        partitions,
                        offsets: stream.offsets.clone(),
                    });
                }
            }
        }
    }
}
