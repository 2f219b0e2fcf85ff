//! Decides who is a member: a pure state machine over joins, messages, ends of calls and time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drumline_proto::v1::Hello;

/// One `Join` call. A worker that comes back has a new one; what arrives on an old one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Event {
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

#[derive(Debug)]
pub(crate) struct Membership {
    members: BTreeMap<String, Member>,
    silence: Duration,
}

impl Membership {
    pub(crate) fn new(silence: Duration) -> Self {
        Self {
            members: BTreeMap::new(),
            silence,
        }
    }

    pub(crate) fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Joined { hello, connection } => self.join(now, hello, connection),
            Event::Heard {
                worker,
                connection,
                load,
            } => {
                if let Some(member) = self.member_on(&worker, connection) {
                    member.last_heard = now;
                    member.load = load.unwrap_or(member.load);
                }
                Vec::new()
            }
            Event::Left {
                worker,
                connection,
                reason,
            } => match self.member_on(&worker, connection) {
                Some(_) => self.drop_member(worker, reason),
                None => Vec::new(),
            },
            Event::DrainRequested { worker } => match self.members.get_mut(&worker) {
                Some(member) if !member.is_draining => {
                    member.is_draining = true;
                    vec![Action::PublishMembers, Action::AnnounceDraining { worker }]
                }
                _ => Vec::new(),
            },
            Event::Tick => self.drop_silent(now),
        }
    }

    fn member_on(&mut self, worker: &str, connection: ConnectionId) -> Option<&mut Member> {
        self.members
            .get_mut(worker)
            .filter(|member| member.connection == connection)
    }

    fn join(&mut self, now: Instant, hello: Hello, connection: ConnectionId) -> Vec<Action> {
        let worker = hello.worker_id.clone();
        let mut actions = Vec::new();
        if self.members.contains_key(&worker) {
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
            .flat_map(|worker| self.drop_member(worker, reason.clone()))
            .collect()
    }
}
