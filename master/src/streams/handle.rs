//! The handle: how the rest of the master has the runner start, hold and change streams, and asks it and its workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drumline_proto::v1::{
    CountRecords, CountedRecords, LettersReplayed, ProbeResult, ReplayLetters, StreamDefinition,
    StreamStatus,
};
use tokio::sync::{mpsc, oneshot};

use super::tables::TableProgress;
use super::{Layout, TableOffsets};

/// How long a client waits for a worker's look at brokers and topics.
const PROBE_LIMIT: Duration = Duration::from_secs(25);

/// How long a stream's tables may take to come to the same offsets before its definition changes.
const HOLD_LIMIT: Duration = Duration::from_secs(60);
/// What the runner is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Put {
        definition: Arc<StreamDefinition>,
        layout: Option<Layout>,
    },
    Delete {
        stream: String,
    },
    Hold {
        stream: String,
        reply: oneshot::Sender<()>,
    },
    Release {
        stream: String,
    },
    Moved {
        stream: String,
        offsets: TableOffsets,
        progress: BTreeMap<String, TableProgress>,
    },
    Replay {
        order: Box<ReplayLetters>,
        reply: oneshot::Sender<LettersReplayed>,
    },
    Probe {
        definition: Box<StreamDefinition>,
        edges: bool,
        reply: oneshot::Sender<ProbeResult>,
    },
    Status {
        reply: oneshot::Sender<BTreeMap<String, StreamStatus>>,
    },
    Count {
        worker: String,
        request: Box<CountRecords>,
        reply: oneshot::Sender<CountedRecords>,
    },
}

/// The streams of this master. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(super) commands: mpsc::Sender<Command>,
}

impl Streams {
    /// Starts or changes a stream whose definition is in the catalog.
    pub(crate) async fn put(&self, definition: StreamDefinition, layout: Option<Layout>) {
        let definition = Arc::new(definition);
        let _ = self
            .commands
            .send(Command::Put { definition, layout })
            .await;
    }

    pub(crate) async fn delete(&self, stream: String) {
        let _ = self.commands.send(Command::Delete { stream }).await;
    }

    /// Has nobody read the stream, and its tables stand at the same offsets, until it is put or released; whether
    /// that was so in time.
    pub(crate) async fn hold(&self, stream: &str) -> bool {
        let (reply, held) = oneshot::channel();
        let stream = stream.to_owned();
        let sent = self.commands.send(Command::Hold { stream, reply }).await;
        sent.is_ok() && matches!(tokio::time::timeout(HOLD_LIMIT, held).await, Ok(Ok(())))
    }

    /// Has the stream go on as it was.
    pub(crate) async fn release(&self, stream: &str) {
        let stream = stream.to_owned();
        let _ = self.commands.send(Command::Release { stream }).await;
    }

    /// Tells where tables of a stream go on now, and what they hold.
    pub(crate) async fn moved(
        &self,
        stream: String,
        offsets: TableOffsets,
        progress: BTreeMap<String, TableProgress>,
    ) {
        let moved = Command::Moved {
            stream,
            offsets,
            progress,
        };
        let _ = self.commands.send(moved).await;
    }

    /// Has a worker decode dead letters; nothing if none did in time.
    pub(crate) async fn replay_letters(
        &self,
        order: ReplayLetters,
        within: Duration,
    ) -> Option<LettersReplayed> {
        let (reply, answer) = oneshot::channel();
        let order = Box::new(order);
        self.commands
            .send(Command::Replay { order, reply })
            .await
            .ok()?;
        tokio::time::timeout(within, answer).await.ok()?.ok()
    }

    /// What a worker sees of the definition's brokers, topics and transforms, with the edges of partitions where
    /// they are asked for; nothing if no worker answered in time.
    pub(crate) async fn probe(
        &self,
        definition: StreamDefinition,
        edges: bool,
    ) -> Option<ProbeResult> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Probe {
                definition: Box::new(definition),
                edges,
                reply,
            })
            .await
            .ok()?;
        tokio::time::timeout(PROBE_LIMIT, answer).await.ok()?.ok()
    }

    /// Records of a partition as a worker finds them; nothing if the worker goes.
    pub(crate) async fn count(
        &self,
        worker: String,
        request: CountRecords,
    ) -> Option<CountedRecords> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Count {
            worker,
            request: Box::new(request),
            reply,
        };
        self.commands.send(command).await.ok()?;
        answer.await.ok()
    }

    pub(crate) async fn status(&self) -> BTreeMap<String, StreamStatus> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Status { reply }).await;
        answer.await.unwrap_or_default()
    }
}
