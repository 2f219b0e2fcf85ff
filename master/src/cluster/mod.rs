//! Which workers there are: the `Cluster` service, membership, and the way to reach a worker.
//!
//! A worker holds one `Join` call open for as long as it lives. Membership is lost when that call
//! ends or stays silent for [`SILENCE`]; whoever runs work on a worker watches [`Workers`] and lets
//! go of it at once. What workers say about streams is passed on to `streams`.
//!
//! Read `membership.rs` for the decisions, `runner.rs` for what carries them out.

mod health;
mod logs;
mod looks;
mod membership;
mod questions;
mod runner;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use drumline_engine::WorkerTarget;
use drumline_proto::v1::{Hello, LogLines, MasterMessage, TopicSeen, WorkerMessage, WorkerStatus};
use tokio::sync::{mpsc, oneshot, watch};

use self::questions::Questions;
pub(crate) use health::Event as HealthEvent;
pub(crate) use runner::start;
pub(crate) use service::ClusterService;

/// How often a worker says that it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a worker counts as lost: five heartbeats.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);

/// What the streams coordinator hears about workers.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// A worker joined, with nothing assigned to it.
    Came { worker: String },
    /// A worker takes no new shares. What it has it commits, and then is gone.
    Draining { worker: String },
    /// A worker is lost; it may still run, but nothing it says counts any more.
    Gone { worker: String, reason: String },
    /// A message about streams, from a worker that is a member.
    Said {
        worker: String,
        message: Box<WorkerMessage>,
    },
}

/// The cluster's workers, for those who give them work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    commands: mpsc::Sender<runner::Command>,
    alive: watch::Receiver<Arc<[WorkerTarget]>>,
    usable: watch::Receiver<Arc<[WorkerTarget]>>,
    status: watch::Receiver<Arc<[WorkerStatus]>>,
    logs: Arc<Questions<LogLines>>,
    looks: Arc<Questions<TopicSeen>>,
}

impl Workers {
    /// The workers that are members now, by id.
    pub fn alive(&self) -> Arc<[WorkerTarget]> {
        self.alive.borrow().clone()
    }

    /// The members as they change: a worker missing from the newest value is lost.
    pub fn subscribe(&self) -> watch::Receiver<Arc<[WorkerTarget]>> {
        self.alive.clone()
    }

    /// The members that new jobs may use, as they change: without those that drain or are set aside.
    pub(crate) fn usable(&self) -> watch::Receiver<Arc<[WorkerTarget]>> {
        self.usable.clone()
    }

    /// Tells how a job's tasks on a worker went. Lost where too much waits: it is one sign among many.
    pub(crate) fn report(&self, event: HealthEvent) {
        let _ = self.commands.try_send(runner::Command::Health(event));
    }

    /// Asks a worker to drain; `false` where it is no member.
    pub(crate) async fn drain(&self, worker: &str) -> bool {
        let (reply, answer) = oneshot::channel();
        let command = runner::Command::Drain {
            worker: worker.to_owned(),
            reply,
        };
        let _ = self.commands.send(command).await;
        answer.await.unwrap_or(false)
    }

    /// Asks whether a worker may join; answers within the time that another of its id may be silent.
    async fn may_join(
        &self,
        hello: &Hello,
        connection: membership::ConnectionId,
    ) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let command = runner::Command::Ask {
            hello: hello.clone(),
            connection,
            reply,
        };
        let _ = self.commands.send(command).await;
        match answer.await {
            Ok(answer) => answer,
            // The master stops: its call ends, and the worker asks again.
            Err(_) => Ok(()),
        }
    }

    /// What the status page and `drumline` show of each worker.
    pub fn status(&self) -> Arc<[WorkerStatus]> {
        self.status.borrow().clone()
    }

    /// Sends to a worker; silently nothing if it is no member (its loss is reported apart).
    pub(crate) async fn send(&self, worker: &str, message: MasterMessage) {
        let command = runner::Command::Send {
            worker: worker.to_owned(),
            message,
        };
        let _ = self.commands.send(command).await;
    }
}
