//! Carries out what `membership` decides: owns the members and the open calls to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use drumline_engine::WorkerTarget;
use drumline_proto::v1::{
    Drain, Drained, Hello, LogLines, MasterMessage, TopicSeen, WorkerMessage, WorkerStatus,
    master_message, worker_message,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::health::{self, Health};
use super::membership::{Action, ConnectionId, Event, Load, Member, Membership};
use super::questions::Questions;
use super::{SILENCE, WorkerEvent, Workers};
use crate::admitter::Admitter;
use crate::facts::{self, Facts};

/// Why a worker goes that says goodbye.
const STOPPED: &str = "it was stopped";

/// What the service and the rest of the master ask of the runner.
// Few wait at a time: the channel is bounded.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Command {
    Event(Event),
    /// Answers when it is decided whether the worker may join, or why not.
    Ask {
        hello: Hello,
        connection: ConnectionId,
        reply: oneshot::Sender<Result<(), String>>,
    },
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
    Health(health::Event),
    /// Answers whether the worker is a member.
    Drain {
        worker: String,
        reply: oneshot::Sender<bool>,
    },
}

struct Connection {
    outgoing: mpsc::Sender<MasterMessage>,
    closed: CancellationToken,
}

struct Runner {
    membership: Membership,
    connections: HashMap<ConnectionId, Connection>,
    /// Workers that wait to hear whether they may join.
    asking: HashMap<ConnectionId, oneshot::Sender<Result<(), String>>>,
    health: Health,
    admitter: Admitter,
    /// Workers that drain and have been told that no job uses them.
    drained: BTreeSet<String>,
    alive: watch::Sender<Arc<[WorkerTarget]>>,
    usable: watch::Sender<Arc<[WorkerTarget]>>,
    status: watch::Sender<Arc<[WorkerStatus]>>,
    streams: mpsc::UnboundedSender<WorkerEvent>,
    facts: Facts,
    logs: Arc<Questions<LogLines>>,
    looks: Arc<Questions<TopicSeen>>,
}

/// The runner's handle, its future (ends when `shutdown` does), and what streams hear.
pub(crate) fn start(
    facts: Facts,
    admitter: Admitter,
    shutdown: CancellationToken,
) -> (
    Workers,
    impl Future<Output = ()> + Send,
    mpsc::UnboundedReceiver<WorkerEvent>,
) {
    let (commands, receiver) = mpsc::channel(1024);
    let (alive, alive_receiver) = watch::channel(Arc::from([]));
    let (usable, usable_receiver) = watch::channel(Arc::from([]));
    let (status, status_receiver) = watch::channel(Arc::from([]));
    // Unbounded, because the streams runner also waits on this one; workers are bounded by having
    // one open offer per topic.
    let (streams, stream_events) = mpsc::unbounded_channel();
    let (logs, looks) = (
        Arc::<Questions<_>>::default(),
        Arc::<Questions<_>>::default(),
    );
    let runner = Runner {
        membership: Membership::new(SILENCE),
        connections: HashMap::new(),
        asking: HashMap::new(),
        health: Health::default(),
        admitter,
        drained: BTreeSet::new(),
        alive,
        usable,
        status,
        streams,
        facts,
        logs: Arc::clone(&logs),
        looks: Arc::clone(&looks),
    };
    let workers = Workers {
        commands,
        alive: alive_receiver,
        usable: usable_receiver,
        status: status_receiver,
        logs,
        looks,
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
                    self.judge(health::Event::Tick);
                    self.release_drained();
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
            Command::Ask {
                hello,
                connection,
                reply,
            } => {
                self.asking.insert(connection, reply);
                self.step(Event::Asked { hello, connection });
            }
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
            Command::Health(event) => self.judge(event),
            Command::Drain { worker, reply } => {
                let is_member = self.membership.members().contains_key(&worker);
                let drain = master_message::Message::Drain(Drain {});
                self.send(&worker, message_of(drain));
                self.step(Event::DrainRequested { worker });
                // Who asked may have gone.
                let _ = reply.send(is_member);
            }
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
            Some(worker_message::Message::LogLines(lines)) => {
                self.logs.answer(&worker, lines.id, lines);
            }
            Some(worker_message::Message::TopicSeen(seen)) => {
                self.looks.answer(&worker, seen.id, seen);
            }
            // From a call that is over: whatever it offers belongs to an epoch that is revoked.
            _ if !current => {}
            Some(worker_message::Message::Draining(draining)) => {
                self.step(Event::DrainRequested {
                    worker: worker.clone(),
                });
                if draining.streams_handed_over {
                    let reason = "its files are committed, and it leaves".to_owned();
                    let _ = self.streams.send(WorkerEvent::Gone { worker, reason });
                }
            }
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
                Action::Admit { worker, connection } => {
                    let asking = self.asking.remove(&connection);
                    let hears = asking.is_some_and(|reply| reply.send(Ok(())).is_ok());
                    if !hears {
                        self.step(Event::Withdrew { worker, connection });
                    }
                }
                Action::Refuse { connection, reason } => {
                    if let Some(reply) = self.asking.remove(&connection) {
                        warn!(reason, "worker refused");
                        // It may have given up.
                        let _ = reply.send(Err(reason));
                    }
                }
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
                    self.drained.remove(&worker);
                    self.logs.forget(&worker);
                    self.looks.forget(&worker);
                    self.judge(health::Event::Gone {
                        worker: worker.clone(),
                    });
                    let _ = self.streams.send(WorkerEvent::Gone { worker, reason });
                }
                Action::AnnounceDraining { worker } => {
                    info!(worker, "worker drains: it gets no new work");
                    self.tell_changed(&worker, facts::WorkerState::Draining, "it leaves");
                    let _ = self.streams.send(WorkerEvent::Draining { worker });
                }
                Action::CloseConnection { connection } => {
                    if let Some(open) = self.connections.remove(&connection) {
                        open.closed.cancel();
                    }
                }
            }
        }
    }

    fn judge(&mut self, event: health::Event) {
        let actions = self.health.step(Instant::now(), event);
        let changed = !actions.is_empty();
        for action in actions {
            match action {
                health::Action::SetAside {
                    worker,
                    time,
                    reason,
                } => {
                    warn!(
                        worker,
                        ?time,
                        reason,
                        "worker is set aside: its tasks keep failing"
                    );
                    self.tell_changed(&worker, facts::WorkerState::SetAside, &reason);
                }
                health::Action::TryAgain { worker } => {
                    info!(worker, "worker gets tasks again");
                    self.tell_changed(&worker, facts::WorkerState::Alive, "");
                }
            }
        }
        if changed {
            self.publish_members();
        }
    }

    /// Lets workers that drain go once no job that runs may use them.
    fn release_drained(&mut self) {
        let members = self.membership.members().iter();
        let done: Vec<String> = members
            .filter(|(worker, member)| {
                member.is_draining
                    && !self.drained.contains(*worker)
                    && !self.admitter.holds(worker)
            })
            .map(|(worker, _)| worker.clone())
            .collect();
        for worker in done {
            let drained = master_message::Message::Drained(Drained {});
            self.send(&worker, message_of(drained));
            self.drained.insert(worker);
        }
    }

    fn tell_changed(&self, worker: &str, state: facts::WorkerState, reason: &str) {
        if self.membership.members().contains_key(worker) {
            self.facts.publish(facts::Event::WorkerChanged {
                worker: worker.to_owned(),
                state,
                reason: reason.to_owned(),
            });
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
        let takes_work = |target: &&WorkerTarget| {
            let member = members.get(&target.id);
            member.is_some_and(|member| !member.is_draining)
        };
        let (aside, good): (Vec<_>, Vec<_>) = targets
            .iter()
            .filter(takes_work)
            .cloned()
            .partition(|target| self.health.set_aside(&target.id).is_some());
        // A worker that fails is better than none.
        let usable = if good.is_empty() { aside } else { good };
        self.alive.send_replace(targets.into());
        self.usable.send_replace(usable.into());
        self.publish_status();
    }

    fn state_of(&self, worker: &str, member: &Member) -> facts::WorkerState {
        match (member.is_draining, self.health.set_aside(worker)) {
            (true, _) => facts::WorkerState::Draining,
            (false, Some(_)) => facts::WorkerState::SetAside,
            (false, None) => facts::WorkerState::Alive,
        }
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
                state: self.state_of(id, member).name().to_owned(),
                reason: self.health.set_aside(id).unwrap_or_default().to_owned(),
                running_tasks: member.load.running_tasks,
                pid: member.hello.pid,
                partitions: 0,
            })
            .collect();
        self.status.send_replace(rows.into());
    }
}

fn message_of(message: master_message::Message) -> MasterMessage {
    MasterMessage {
        message: Some(message),
    }
}
