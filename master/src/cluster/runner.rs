//! Carries out what `membership` decides: owns the members and the open calls to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drumline_engine::WorkerTarget;
use drumline_proto::v1::{MasterMessage, WorkerMessage, WorkerStatus, worker_message};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::membership::{Action, ConnectionId, Event, Load, Membership};
use super::{SILENCE, WorkerEvent, Workers};
use crate::facts::{self, Facts};

/// Why a worker goes that says goodbye.
const STOPPED: &str = "it was stopped";

/// What the service and the rest of the master ask of the runner.
#[derive(Debug)]
pub(crate) enum Command {
    Event(Event),
    /// A new call: where to write to, and the token that ends it.
    Open {
        connection: ConnectionId,
        outgoing: mpsc::Sender<MasterMessage>,
        closed: CancellationToken,
    },
    Message {
        worker: String,
        connection: ConnectionId,
        message: WorkerMessage,
    },
    Send {
        worker: String,
        message: MasterMessage,
    },
}

struct Connection {
    outgoing: mpsc::Sender<MasterMessage>,
    closed: CancellationToken,
}

struct Runner {
    membership: Membership,
    connections: HashMap<ConnectionId, Connection>,
    alive: watch::Sender<Arc<[WorkerTarget]>>,
    status: watch::Sender<Arc<[WorkerStatus]>>,
    streams: mpsc::UnboundedSender<WorkerEvent>,
    facts: Facts,
}

/// The runner's handle, its future (ends when `shutdown` does), and what streams hear.
pub(crate) fn start(
    facts: Facts,
    shutdown: CancellationToken,
) -> (
    Workers,
    impl Future<Output = ()> + Send,
    mpsc::UnboundedReceiver<WorkerEvent>,
) {
    let (commands, receiver) = mpsc::channel(1024);
    let (alive, alive_receiver) = watch::channel(Arc::from([]));
    let (status, status_receiver) = watch::channel(Arc::from([]));
    // Unbounded, because the streams runner also waits on this one; workers are bounded by having
    // one open offer per topic.
    let (streams, stream_events) = mpsc::unbounded_channel();
    let runner = Runner {
        membership: Membership::new(SILENCE),
        connections: HashMap::new(),
        alive,
        status,
        streams,
        facts,
    };
    let workers = Workers {
        commands,
        alive: alive_receiver,
        status: status_receiver,
    };
    (workers, runner.run(receiver, shutdown), stream_events)
}

impl Runner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.perform(command),
                    None => break,
                },
                // After a pause of this process itself (SIGSTOP, suspended machine) messages that
                // wait in the channel are heard before silence is judged: select! is unbiased, so
                // drain them first.
                _ = ticks.tick() => {
                    while let Ok(command) = commands.try_recv() {
                        self.perform(command);
                    }
                    self.step(Event::Tick);
                }
            }
        }
        for connection in self.connections.into_values() {
            connection.closed.cancel();
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Event(event) => self.step(event),
            Command::Open {
                connection,
                outgoing,
                closed,
            } => {
                self.connections
                    .insert(connection, Connection { outgoing, closed });
            }
            Command::Message {
                worker,
                connection,
                message,
            } => self.hear(worker, connection, message),
            Command::Send { worker, message } => self.send(&worker, message),
        }
    }

    fn hear(&mut self, worker: String, connection: ConnectionId, message: WorkerMessage) {
        let load = match &message.message {
            Some(worker_message::Message::Heartbeat(beat)) => Some(Load {
                running_tasks: beat.running_tasks,
                memory_bytes: beat.memory_bytes,
            }),
            _ => None,
        };
        let is_heartbeat = load.is_some();
        if let Some(load) = load {
            self.facts.publish(facts::Event::WorkerReported {
                worker: worker.clone(),
                running_tasks: load.running_tasks,
                memory_bytes: load.memory_bytes,
            });
        }
        self.step(Event::Heard {
            worker: worker.clone(),
            connection,
            load,
        });
        let current = self
            .membership
            .members()
            .get(&worker)
            .is_some_and(|m| m.connection == connection);
        match message.message {
            Some(worker_message::Message::Leaving(_)) => {
                self.step(Event::Left {
                    worker,
                    connection,
                    reason: STOPPED.to_owned(),
                });
            }
            _ if is_heartbeat => self.publish_status(),
            // From a call that is over: whatever it offers belongs to an epoch that is revoked.
            _ if !current => {}
            _ => {
                let _ = self.streams.send(WorkerEvent::Said {
                    worker,
                    message: Box::new(message),
                });
            }
        }
    }

    fn send(&mut self, worker: &str, message: MasterMessage) {
        let Some(member) = self.membership.members().get(worker) else {
            return;
        };
        let connection = member.connection;
        let Some(open) = self.connections.get(&connection) else {
            return;
        };
        if open.outgoing.try_send(message).is_err() {
            let reason = "it does not read what the master sends".to_owned();
            self.step(Event::Left {
                worker: worker.to_owned(),
                connection,
                reason,
            });
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.membership.step(Instant::now(), event) {
            match action {
                Action::PublishMembers => self.publish_members(),
                Action::AnnounceCame { worker } => {
                    info!(worker, "worker joined");
                    self.tell_joined(&worker);
                    let _ = self.streams.send(WorkerEvent::Came { worker });
                }
                Action::AnnounceGone { worker, reason } => {
                    warn!(worker, reason, "worker lost");
                    self.facts.publish(facts::Event::WorkerLeft {
                        worker: worker.clone(),
                        clean: reason == STOPPED,
                        reason: reason.clone(),
                    });
                    let _ = self.streams.send(WorkerEvent::Gone { worker, reason });
                }
                Action::CloseConnection { connection } => {
                    if let Some(open) = self.connections.remove(&connection) {
                        open.closed.cancel();
                    }
                }
            }
        }
    }

    fn tell_joined(&self, worker: &str) {
        let Some(member) = self.membership.members().get(worker) else {
            return;
        };
        let hello = &member.hello;
        self.facts.publish(facts::Event::WorkerJoined {
            worker: worker.to_owned(),
            url: hello.url.clone(),
            cores: hello.cores,
            memory_bytes: hello.memory_bytes,
            build: hello.build.clone(),
            pid: hello.pid,
        });
    }

    fn publish_members(&self) {
        let members = self.membership.members();
        let targets: Vec<WorkerTarget> = members
            .iter()
            .filter_map(|(id, member)| {
                let url = Url::parse(&member.hello.url).ok()?;
                Some(WorkerTarget {
                    id: id.clone(),
                    url,
                    cores: member.hello.cores,
                })
            })
            .collect();
        self.alive.send_replace(targets.into());
        self.publish_status();
    }

    fn publish_status(&self) {
        let rows: Vec<WorkerStatus> = self
            .membership
            .members()
            .iter()
            .map(|(id, member)| WorkerStatus {
                worker_id: id.clone(),
                url: member.hello.url.clone(),
                cores: member.hello.cores,
                state: "alive".to_owned(),
                running_tasks: member.load.running_tasks,
                pid: member.hello.pid,
                partitions: 0,
            })
            .collect();
        self.status.send_replace(rows.into());
    }
}
