//! Decides who is a member: a pure state machine over joins, messages, ends of calls and time.
//!
//! A worker asks first. One whose id another process has waits until that one has said something more, and is refused,
//! or has gone silent, and takes its place: so two workers of one id do not throw each other out for ever, and one that
//! was started again after its machine vanished is let in.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use drumline_proto::v1::Hello;

/// One `Join` call. A worker that comes back has a new one; what arrives on an old one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// How long a member has to live on before another process that asks for its id is refused: what it says sooner may
/// have been under way when it died.
const LIVES_ON: Duration = Duration::from_secs(1);
/// Processes that wait for one id.
const WAITING: usize = 8;

#[derive(Debug)]
pub(crate) enum Event {
    /// A worker wants to join.
    Asked {
        hello: Hello,
        connection: ConnectionId,
    },
    /// It does not want to any more.
    Withdrew {
        worker: String,
        connection: ConnectionId,
    },
    /// A worker that was admitted has read its welcome.
    Joined {
        hello: Hello,
        connection: ConnectionId,
    },
    /// Any message is a sign of life; heartbeats also say what runs.
    Heard {
        worker: String,
        connection: ConnectionId,
        load: Option<Load>,
    },
    Left {
        worker: String,
        connection: ConnectionId,
        reason: String,
    },
    /// It is to take no new work: it said so, or somebody wants it.
    DrainRequested {
        worker: String,
    },
    Tick,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) running_tasks: u32,
    pub(crate) memory_bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It may join.
    Admit {
        worker: String,
        connection: ConnectionId,
    },
    /// It may not, and is told why.
    Refuse {
        connection: ConnectionId,
        reason: String,
    },
    /// The set of members has changed.
    PublishMembers,
    AnnounceCame {
        worker: String,
    },
    AnnounceGone {
        worker: String,
        reason: String,
    },
    AnnounceDraining {
        worker: String,
    },
    CloseConnection {
        connection: ConnectionId,
    },
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) hello: Hello,
    pub(crate) connection: ConnectionId,
    pub(crate) load: Load,
    pub(crate) is_draining: bool,
    last_heard: Instant,
}

/// One that asked.
#[derive(Debug)]
struct Asking {
    hello: Hello,
    connection: ConnectionId,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Membership {
    members: BTreeMap<String, Member>,
    /// Admitted and not joined yet, by worker.
    admitted: BTreeMap<String, Asking>,
    /// Those that wait for an id that another has, by worker; first come, first served.
    waiting: BTreeMap<String, VecDeque<Asking>>,
    silence: Duration,
}

impl Membership {
    pub(crate) fn new(silence: Duration) -> Self {
        Self {
            members: BTreeMap::new(),
            admitted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            silence,
        }
    }

    pub(crate) fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Asked { hello, connection } => self.asked(Asking {
                hello,
                connection,
                since: now,
            }),
            Event::Withdrew { worker, connection } => {
                if let Some(waiting) = self.waiting.get_mut(&worker) {
                    waiting.retain(|asking| asking.connection != connection);
                }
                let admitted = self.admitted.get(&worker);
                if admitted.is_some_and(|admitted| admitted.connection == connection) {
                    self.admitted.remove(&worker);
                    return self.admit_next(now, &worker);
                }
                Vec::new()
            }
            Event::Joined { hello, connection } => self.join(now, hello, connection),
            Event::Heard {
                worker,
                connection,
                load,
            } => {
                if let Some(member) = self.member_on(&worker, connection) {
                    member.last_heard = now;
                    member.load = load.unwrap_or(member.load);
                    return self.refuse_waiting(now, &worker);
                }
                Vec::new()
            }
            Event::Left {
                worker,
                connection,
                reason,
            } => match self.member_on(&worker, connection) {
                Some(_) => {
                    let mut actions = self.drop_member(worker.clone(), reason);
                    actions.extend(self.admit_next(now, &worker));
                    actions
                }
                None => Vec::new(),
            },
            Event::DrainRequested { worker } => match self.members.get_mut(&worker) {
                Some(member) if !member.is_draining => {
                    member.is_draining = true;
                    vec![Action::PublishMembers, Action::AnnounceDraining { worker }]
                }
                _ => Vec::new(),
            },
            Event::Tick => {
                let mut actions = self.drop_silent(now);
                actions.extend(self.forget_absent(now));
                actions
            }
        }
    }

    fn member_on(&mut self, worker: &str, connection: ConnectionId) -> Option<&mut Member> {
        self.members
            .get_mut(worker)
            .filter(|member| member.connection == connection)
    }

    fn asked(&mut self, asking: Asking) -> Vec<Action> {
        let worker = asking.hello.worker_id.clone();
        let member = self.members.get(&worker).map(|member| &member.hello);
        let admitted = self.admitted.get(&worker).map(|admitted| &admitted.hello);
        let is_taken = [member, admitted]
            .into_iter()
            .flatten()
            .any(|holder| !is_same_process(holder, &asking.hello));
        if !is_taken {
            return self.admit(asking);
        }
        let waiting = self.waiting.entry(worker).or_default();
        if waiting.len() >= WAITING {
            let reason = format!(
                "{WAITING} others wait for the worker id `{}` already: give each worker an id of its own with --id",
                asking.hello.worker_id
            );
            let connection = asking.connection;
            return vec![Action::Refuse { connection, reason }];
        }
        waiting.push_back(asking);
        Vec::new()
    }

    fn admit(&mut self, asking: Asking) -> Vec<Action> {
        let worker = asking.hello.worker_id.clone();
        let connection = asking.connection;
        self.admitted.insert(worker.clone(), asking);
        vec![Action::Admit { worker, connection }]
    }

    /// Once an id is free.
    fn admit_next(&mut self, now: Instant, worker: &str) -> Vec<Action> {
        let next = self.waiting.get_mut(worker).and_then(VecDeque::pop_front);
        let Some(next) = next else {
            self.waiting.remove(worker);
            return Vec::new();
        };
        self.admit(Asking { since: now, ..next })
    }

    /// The worker that has the id lives. One that leaves is waited for.
    fn refuse_waiting(&mut self, now: Instant, worker: &str) -> Vec<Action> {
        let (Some(member), Some(waiting)) =
            (self.members.get(worker), self.waiting.get_mut(worker))
        else {
            return Vec::new();
        };
        if member.is_draining {
            return Vec::new();
        }
        let Hello { url, pid, .. } = &member.hello;
        let reason = format!(
            "another worker has the id `{worker}` and answers, at {url} (process {pid}): give this one another id \
             with --id, or stop that one first"
        );
        let mut actions = Vec::new();
        waiting.retain(|asking| {
            let lives_on = now.saturating_duration_since(asking.since) >= LIVES_ON;
            if lives_on {
                actions.push(Action::Refuse {
                    connection: asking.connection,
                    reason: reason.clone(),
                });
            }
            !lives_on
        });
        if waiting.is_empty() {
            self.waiting.remove(worker);
        }
        actions
    }

    /// Admitted workers that did not come.
    fn forget_absent(&mut self, now: Instant) -> Vec<Action> {
        let silence = self.silence;
        let absent: Vec<String> = self
            .admitted
            .iter()
            .filter(|(_, admitted)| now.saturating_duration_since(admitted.since) > silence)
            .map(|(worker, _)| worker.clone())
            .collect();
        absent
            .into_iter()
            .flat_map(|worker| {
                self.admitted.remove(&worker);
                self.admit_next(now, &worker)
            })
            .collect()
    }

    fn join(&mut self, now: Instant, hello: Hello, connection: ConnectionId) -> Vec<Action> {
        let worker = hello.worker_id.clone();
        let mut actions = Vec::new();
        let admitted = self.admitted.get(&worker);
        if admitted.is_some_and(|admitted| admitted.connection == connection) {
            self.admitted.remove(&worker);
        }
        if let Some(member) = self.members.get(&worker) {
            if !is_same_process(&member.hello, &hello) {
                // It was admitted too long ago. It asks again, and hears why not.
                return vec![Action::CloseConnection { connection }];
            }
            // The same worker on a new call: what it ran on the old one is over.
            actions = self.drop_member(worker.clone(), "it joined again".to_owned());
        }
        self.members.insert(
            worker.clone(),
            Member {
                hello,
                connection,
                load: Load::default(),
                is_draining: false,
                last_heard: now,
            },
        );
        actions.extend([Action::PublishMembers, Action::AnnounceCame { worker }]);
        actions
    }

    fn drop_member(&mut self, worker: String, reason: String) -> Vec<Action> {
        let Some(member) = self.members.remove(&worker) else {
            return Vec::new();
        };
        vec![
            Action::CloseConnection {
                connection: member.connection,
            },
            Action::PublishMembers,
            Action::AnnounceGone { worker, reason },
        ]
    }

    fn drop_silent(&mut self, now: Instant) -> Vec<Action> {
        let silent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| now.saturating_duration_since(member.last_heard) > self.silence)
            .map(|(worker, _)| worker.clone())
            .collect();
        let reason = format!("no heartbeat for {} s", self.silence.as_secs());
        silent
            .into_iter()
            .flat_map(|worker| {
                let mut actions = self.drop_member(worker.clone(), reason.clone());
                actions.extend(self.admit_next(now, &worker));
                actions
            })
            .collect()
    }
}

/// Whether it is the same worker that comes back. One in a container that was started again counts as the same.
fn is_same_process(one: &Hello, other: &Hello) -> bool {
    (&one.url, one.pid) == (&other.url, other.pid)
}
