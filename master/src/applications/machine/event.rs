//! What an application's machine hears, and what it has done.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::failure::Failure;

/// One try of one statement. Both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptId {
    pub(crate) ordinal: u32,
    pub(crate) attempt: u32,
}

/// What has happened. Events of another attempt than the current one are stale and change nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The text was read; nothing of it is planned yet.
    Read {
        statements: u32,
    },
    /// The text could not be read.
    Refused(Failure),
    CancelRequested,
    /// The attempt's job runs on these workers.
    Started {
        id: AttemptId,
        workers: BTreeSet<String>,
    },
    /// The attempt begins to hand rows to the client: it cannot be repeated unseen any more.
    Delivered {
        id: AttemptId,
    },
    /// The attempt begins to change names, which either happens or does not.
    Defining {
        id: AttemptId,
    },
    Ended {
        id: AttemptId,
        outcome: Outcome,
    },
    /// The attempt was told to stop, and nothing of it runs any more.
    Stopped {
        id: AttemptId,
    },
    Committed {
        id: AttemptId,
    },
    CommitFailed {
        id: AttemptId,
        failure: Failure,
    },
    /// Nothing was committed: somebody else changed what the attempt had read.
    Conflicted {
        id: AttemptId,
        failure: Failure,
    },
    /// The workers that are there; one that is missing is lost or frozen.
    WorkersChanged {
        alive: BTreeSet<String>,
    },
}

/// How an attempt came to an end by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Nothing is left to do for the statement.
    Done,
    /// Files are staged and wait for their commit.
    Staged,
    WorkerLost {
        worker: Option<String>,
        reason: String,
    },
    Failed(Failure),
    /// The same, on a worker: the next attempt is better made elsewhere.
    FailedOn {
        worker: String,
        failure: Failure,
    },
    /// An operator got no more memory. It may fit with joins that sort and spill, where the operator held
    /// one side of a join.
    OutOfMemory {
        is_join_side: bool,
        failure: Failure,
    },
    /// Whoever read the result has hung up.
    ClientGone,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    AnnounceApplication {
        statements: u32,
    },
    AnnounceStatement {
        ordinal: u32,
    },
    /// `id` is the attempt that comes; `worker` may be empty.
    AnnounceRetry {
        id: AttemptId,
        reason: String,
        worker: String,
    },
    RunAttempt {
        id: AttemptId,
        avoid: BTreeSet<String>,
        /// How long to wait before it begins.
        after: Duration,
        /// Whether its joins sort both sides instead of holding one in memory.
        merge_joins: bool,
    },
    /// Answered by `Stopped`, also when the attempt has ended meanwhile.
    StopAttempt {
        id: AttemptId,
    },
    CommitStaged {
        id: AttemptId,
    },
    FinishStatement {
        ordinal: u32,
        elapsed: Duration,
    },
    Finish(End),
}

/// How the application ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Succeeded,
    Failed(Failure),
    Cancelled,
}

impl Event {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Event::Read { .. } => "Read",
            Event::Refused(_) => "Refused",
            Event::CancelRequested => "CancelRequested",
            Event::Started { .. } => "Started",
            Event::Delivered { .. } => "Delivered",
            Event::Defining { .. } => "Defining",
            Event::Ended { .. } => "Ended",
            Event::Stopped { .. } => "Stopped",
            Event::Committed { .. } => "Committed",
            Event::CommitFailed { .. } => "CommitFailed",
            Event::Conflicted { .. } => "Conflicted",
            Event::WorkersChanged { .. } => "WorkersChanged",
        }
    }
}
