//! Carries out what the coordinator decides: owns it, talks to workers, reads and commits tables.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drumline_engine::fault::{self, Place};
use drumline_proto::v1::{
    CountedRecords, LettersReplayed, MasterMessage, OfferAnswer, Probe, ProbeResult, Revoke,
    StreamDefinition, WorkerMessage, master_message, worker_message,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::coordinator::{Action, CommitId, Coordinator, Event};
use super::grow::Found;
use super::handle::{Command, Streams};
use super::status::Statistics;
use super::stream::Report;
use super::tables::{StreamTables, TableProgress};
use super::told::Told;
use super::{Layout, TableOffsets, wire};
use crate::cluster::{WorkerEvent, Workers};
use crate::facts::Facts;

/// What a finished background step says.
enum Done {
    TablesRead {
        stream: String,
        read: u64,
        result: Result<(TableOffsets, BTreeMap<String, TableProgress>), String>,
    },
    Committed {
        stream: String,
        commit: CommitId,
        result: Result<(TableOffsets, BTreeMap<String, TableProgress>), String>,
    },
    Assigned {
        worker: String,
        stream: String,
        epoch: u64,
        result: Result<Box<MasterMessage>, String>,
    },
}

enum Asker {
    Client(oneshot::Sender<ProbeResult>),
    Coordinator { stream: String },
}

struct Runner {
    coordinator: Coordinator,
    workers: Workers,
    tables: StreamTables,
    statistics: Statistics,
    told: Told,
    probes: HashMap<u64, (String, Asker)>,
    replays: HashMap<u64, (String, oneshot::Sender<LettersReplayed>)>,
    next_probe: u64,
    /// Who waits for a stream to be held.
    holds: HashMap<String, oneshot::Sender<()>>,
    counts: HashMap<u64, (String, oneshot::Sender<CountedRecords>)>,
    steps: JoinSet<Done>,
    /// Who adds columns.
    found: mpsc::Sender<Found>,
}

/// The handle and the future that runs streams until `shutdown`.
pub(crate) fn start(
    workers: Workers,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    tables: StreamTables,
    facts: Facts,
    found: mpsc::Sender<Found>,
    shutdown: CancellationToken,
) -> (Streams, impl Future<Output = ()> + Send) {
    let (commands, receiver) = mpsc::channel(64);
    // Epochs grow over restarts of the master without being stored: microseconds since 1970 grow
    // faster than any master hands out epochs.
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let runner = Runner {
        coordinator: Coordinator::new(since_1970.as_micros() as u64),
        workers,
        tables,
        statistics: Statistics::default(),
        told: Told::new(facts),
        probes: HashMap::new(),
        replays: HashMap::new(),
        next_probe: 1,
        holds: HashMap::new(),
        counts: HashMap::new(),
        steps: JoinSet::new(),
        found,
    };
    (Streams { commands }, runner.run(receiver, events, shutdown))
}

impl Runner {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::UnboundedReceiver<WorkerEvent>,
        shutdown: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(command) = commands.recv() => self.obey(command).await,
                Some(event) = events.recv() => self.hear(event).await,
                Some(done) = self.steps.join_next() => match done {
                    Ok(done) => self.finish(done).await,
                    Err(error) => warn!(%error, "a step of a stream ended badly"),
                },
                _ = ticks.tick() => {
                    self.step(Event::Tick).await;
                    self.told.progress(&self.coordinator, &self.statistics);
                }
            }
        }
        // Commits under way are finished: their workers' rows are already in the lake.
        self.steps.join_all().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Put { definition, layout } => {
                self.step(Event::StreamPut { definition, layout }).await;
            }
            Command::Hold { stream, reply } => {
                self.holds.insert(stream.clone(), reply);
                self.step(Event::HoldRequested { stream }).await;
            }
            Command::Release { stream } => {
                self.holds.remove(&stream);
                self.step(Event::HoldReleased { stream }).await;
            }
            Command::Delete { stream } => {
                self.statistics.forget(&stream);
                self.step(Event::StreamDeleted { stream }).await;
            }
            Command::Moved {
                stream,
                offsets,
                progress,
            } => {
                self.statistics.read(&stream, progress);
                self.step(Event::TablesReset { stream, offsets }).await;
            }
            Command::Replay { mut order, reply } => {
                if let Some(worker) = self.workers.alive().first() {
                    let worker = worker.id.clone();
                    order.id = self.next_probe;
                    self.next_probe += 1;
                    self.replays.insert(order.id, (worker.clone(), reply));
                    let order = master_message::Message::ReplayLetters(*order);
                    self.workers.send(&worker, wire::message(order)).await;
                }
            }
            Command::Probe {
                definition,
                edges,
                reply,
            } => {
                if let Some(worker) = self.workers.alive().first() {
                    let worker = worker.id.clone();
                    self.ask(worker, *definition, edges, Asker::Client(reply))
                        .await;
                }
            }
            Command::Count {
                worker,
                mut request,
                reply,
            } => {
                request.id = self.next_probe;
                self.next_probe += 1;
                // A worker that is gone already drops the asker, who is told so.
                if self.workers.alive().iter().any(|alive| alive.id == worker) {
                    self.counts.insert(request.id, (worker.clone(), reply));
                    let order = master_message::Message::CountRecords(*request);
                    self.workers.send(&worker, wire::message(order)).await;
                }
            }
            Command::Status { reply } => {
                let _ = reply.send(self.statistics.of(&self.coordinator));
            }
        }
    }

    async fn ask(
        &mut self,
        worker: String,
        definition: StreamDefinition,
        edges: bool,
        asker: Asker,
    ) {
        let id = self.next_probe;
        self.next_probe += 1;
        self.probes.insert(id, (worker.clone(), asker));
        let probe = Probe {
            id,
            definition: Some(definition),
            lake: self.tables.lake(),
            edges,
        };
        self.workers
            .send(
                &worker,
                wire::message(master_message::Message::Probe(probe)),
            )
            .await;
    }

    async fn hear(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Came { worker } => self.step(Event::WorkerCame { worker }).await,
            WorkerEvent::Draining { worker } => {
                self.step(Event::WorkerDraining { worker }).await;
            }
            WorkerEvent::Gone { worker, reason } => {
                info!(worker, reason, "streams leave worker");
                // Dropping a client's asker tells it that nobody answers.
                self.probes.retain(|_, (asked, _)| *asked != worker);
                self.counts.retain(|_, (asked, _)| *asked != worker);
                self.replays.retain(|_, (asked, _)| *asked != worker);
                self.step(Event::WorkerGone { worker }).await;
            }
            WorkerEvent::Said { worker, message } => self.said(worker, *message).await,
        }
    }

    async fn said(&mut self, worker: String, message: WorkerMessage) {
        match message.message {
            Some(worker_message::Message::Offer(offer)) => {
                fault::at(Place::OfferTaken);
                self.step(Event::Offered { worker, offer }).await
            }
            Some(worker_message::Message::AssignmentFailed(failed)) => {
                let reason = failed.failure.map(wire::in_words).unwrap_or_default();
                let (stream, epoch) = (failed.stream, failed.epoch);
                warn!(
                    worker,
                    stream, epoch, reason, "a worker could not go on with its share"
                );
                self.step(Event::AssignmentFailed {
                    worker,
                    stream,
                    epoch,
                    reason,
                })
                .await;
            }
            Some(worker_message::Message::Positions(report)) => {
                let (stream, epoch) = (report.stream.clone(), report.epoch);
                if !report.found.is_empty() {
                    let (stream, fields) = (stream.clone(), report.found.clone());
                    // Where there is no room, it is told again.
                    let _ = self.found.try_send(Found { stream, fields });
                }
                if self.coordinator.holds(&stream, &worker, epoch) {
                    self.statistics
                        .called(&stream, &worker, epoch, report.requests);
                }
                self.step(Event::Reported {
                    worker,
                    stream,
                    epoch,
                    report: Report::from(report),
                })
                .await;
            }
            Some(worker_message::Message::ProbeResult(result)) => {
                match self.probes.remove(&result.id) {
                    Some((_, Asker::Client(reply))) => {
                        let _ = reply.send(result);
                    }
                    Some((_, Asker::Coordinator { stream })) => {
                        let result = match result.failure {
                            Some(failure) => Err(wire::in_words(failure)),
                            None => Ok(Layout::from(result)),
                        };
                        self.step(Event::StreamProbed {
                            stream,
                            worker,
                            result,
                        })
                        .await;
                    }
                    None => {}
                }
            }
            Some(worker_message::Message::CountedRecords(counted)) => {
                if let Some((_, reply)) = self.counts.remove(&counted.id) {
                    let _ = reply.send(counted);
                }
            }
            Some(worker_message::Message::LettersReplayed(answer)) => {
                if let Some((_, reply)) = self.replays.remove(&answer.id) {
                    let _ = reply.send(answer);
                }
            }
            // Membership's own.
            Some(
                worker_message::Message::Hello(_)
                | worker_message::Message::Heartbeat(_)
                | worker_message::Message::Leaving(_)
                | worker_message::Message::Draining(_)
                | worker_message::Message::LogLines(_)
                | worker_message::Message::TopicSeen(_),
            )
            | None => {}
        }
    }

    async fn finish(&mut self, done: Done) {
        match done {
            Done::TablesRead {
                stream,
                read,
                result,
            } => {
                let result = result.map(|(offsets, progress)| {
                    self.statistics.read(&stream, progress);
                    offsets
                });
                self.step(Event::TablesRead {
                    stream,
                    read,
                    result,
                })
                .await;
            }
            Done::Committed {
                stream,
                commit,
                result,
            } => {
                let result = result.map(|(offsets, progress)| {
                    self.told.commits(&stream, &progress);
                    self.statistics.committed(&stream, progress);
                    offsets
                });
                self.step(Event::CommitEnded {
                    stream,
                    commit,
                    result,
                })
                .await;
            }
            Done::Assigned {
                worker,
                stream,
                epoch,
                result,
            } => match result {
                // Revoked while its targets were looked up: its revocation may have gone out already.
                Ok(_) if !self.coordinator.holds(&stream, &worker, epoch) => {}
                Ok(assign) => self.workers.send(&worker, *assign).await,
                Err(reason) => {
                    self.step(Event::AssignmentFailed {
                        worker,
                        stream,
                        epoch,
                        reason,
                    })
                    .await
                }
            },
        }
    }

    async fn step(&mut self, event: Event) {
        for action in self.coordinator.step(Instant::now(), event) {
            self.perform(action).await;
        }
        self.told.states(&self.coordinator);
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::ProbeStream { worker, definition } => {
                let asker = Asker::Coordinator {
                    stream: definition.name.clone(),
                };
                self.ask(worker, (*definition).clone(), false, asker).await;
            }
            Action::ReadTables { definition, read } => {
                let tables = self.tables.clone();
                self.steps.spawn(async move {
                    let result = tables
                        .read(&definition)
                        .await
                        .map_err(|error| error.to_string());
                    Done::TablesRead {
                        stream: definition.name.clone(),
                        read,
                        result,
                    }
                });
            }
            Action::AssignPartitions {
                worker,
                definition,
                epoch,
                partitions,
                offsets,
            } => {
                let tables = self.tables.clone();
                let stream = definition.name.clone();
                info!(
                    worker,
                    stream,
                    epoch,
                    partitions = partitions.len(),
                    "assigning partitions"
                );
                self.steps.spawn(async move {
                    let result =
                        wire::assign(&tables, &definition, epoch, &partitions, &offsets).await;
                    Done::Assigned {
                        worker,
                        stream,
                        epoch,
                        result: result.map(Box::new),
                    }
                });
            }
            Action::RevokeEpoch {
                worker,
                stream,
                epoch,
            } => {
                info!(worker, stream, epoch, "revoking epoch");
                let revoke =
                    wire::message(master_message::Message::Revoke(Revoke { stream, epoch }));
                self.workers.send(&worker, revoke).await;
            }
            Action::ConfirmHold { stream } => {
                if let Some(reply) = self.holds.remove(&stream) {
                    let _ = reply.send(());
                }
            }
            Action::CommitOffer {
                definition,
                commit,
                offer,
            } => {
                let tables = self.tables.clone();
                let requests = self.statistics.requests(&definition.name);
                self.steps.spawn(async move {
                    let commit_offer = requests.during(tables.commit(&offer, definition.revision));
                    let result = commit_offer.await.map_err(|error| error.to_string());
                    if let Err(reason) = &result {
                        warn!(
                            stream = definition.name,
                            reason, "commit of an offer failed"
                        );
                    }
                    Done::Committed {
                        stream: definition.name.clone(),
                        commit,
                        result,
                    }
                });
            }
            Action::AnswerOffer {
                stream,
                commit,
                refusal,
            } => {
                let answer = OfferAnswer {
                    stream,
                    epoch: commit.epoch,
                    id: commit.offer,
                    committed: refusal.is_none(),
                    reason: refusal.unwrap_or_default(),
                };
                let answer = wire::message(master_message::Message::OfferAnswer(answer));
                self.workers.send(&commit.worker, answer).await;
            }
        }
    }
}
