//! A worker on its way out: what has to end before it may go.
//!
//! Three things: no job that runs may use it any more (the master says so), its tasks have ended, and its
//! streams have committed what they had read. A limit ends the wait for all of them.

use std::sync::Arc;
use std::time::Duration;

use drumline_ingest::StreamHost;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

/// What a drain has come to.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Everything that streams had read is committed.
    StreamsEnded,
    /// Nothing is left, or the time is over.
    MayGo,
}

/// Waits from the beginning of a drain to its end. Cancel safe throughout.
pub(crate) struct Leave {
    running_tasks: watch::Receiver<u32>,
    /// Set once it has begun.
    until: Option<Instant>,
    is_unused: bool,
    has_no_streams: bool,
    streams: JoinSet<()>,
}

impl Leave {
    pub(crate) fn new(running_tasks: watch::Receiver<u32>) -> Self {
        Self {
            running_tasks,
            until: None,
            is_unused: false,
            has_no_streams: false,
            streams: JoinSet::new(),
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.until.is_some()
    }

    pub(crate) fn begin(&mut self, streams: Arc<StreamHost>, within: Duration) {
        self.until = Some(Instant::now() + within);
        self.streams.spawn(async move { streams.drain().await });
    }

    /// The master will not send tasks any more.
    pub(crate) fn no_job_uses_it(&mut self) {
        self.is_unused = true;
    }

    /// What comes next; nothing before it has begun.
    pub(crate) async fn next(&mut self) -> Next {
        let Some(until) = self.until else {
            return std::future::pending().await;
        };
        let mut running = self.running_tasks.clone();
        let idle = async move {
            // An error means that there are no tasks, and never will be.
            let _ = running.wait_for(|running| *running == 0).await;
        };
        tokio::select! {
            _ = self.streams.join_next(), if !self.has_no_streams => {
                self.has_no_streams = true;
                Next::StreamsEnded
            }
            () = idle, if self.is_unused && self.has_no_streams => {
                info!("nothing runs here any more: leaving");
                Next::MayGo
            }
            () = tokio::time::sleep_until(until) => {
                let tasks = *self.running_tasks.borrow();
                warn!(tasks, "it took too long: leaving with work left, which others take over");
                Next::MayGo
            }
        }
    }
}
