//! The crate's error, and how errors of DataFusion, the lake and other processes become one of its kinds.

use std::time::Duration;

use drumline_lake::ErrorKind;

use crate::memory::Exhausted;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a statement and its rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A worker cannot be reached any more: refused, reset, or silent for longer than the keepalive.
    #[error("worker {worker} is lost: {reason}")]
    WorkerLost {
        /// Id of the worker, or its URL where the id is not known.
        worker: String,
        /// What the connection said.
        reason: String,
    },
    /// A worker answers, but not to us: another build, or no right to call it.
    #[error("worker {worker} refuses the call: {reason}")]
    WorkerRefused {
        /// Id of the worker, or its URL where the id is not known.
        worker: String,
        /// What it said.
        reason: String,
    },
    /// Planning or running failed, here or on a worker.
    #[error("{message}")]
    Failed {
        /// Whose fault it is.
        kind: ErrorKind,
        /// What happened, as DataFusion tells it.
        message: String,
        /// The next step, if one is known.
        hint: Option<String>,
        /// Id of the worker it happened on, or its URL where the id is not known; none: on the master.
        worker: Option<String>,
    },
    /// An operator got no more memory, and could not do with less.
    #[error("{}", exhausted.message())]
    OutOfMemory {
        /// Which, and how much.
        exhausted: Exhausted,
    },
    /// A session setting that does not exist, or not with this value.
    #[error("cannot set {key} to '{value}': {reason}")]
    Setting {
        /// The setting.
        key: String,
        /// The value as given.
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// The job ran for longer than `drumline.job_deadline`.
    #[error("the job did not end within its deadline of {limit:?}")]
    DeadlineExceeded {
        /// The deadline it had.
        limit: Duration,
    },
    /// A topic is read, and there is no worker that could.
    #[error("workers read topics of Kafka, and none has joined this master")]
    NoReader,
    /// The folder for spilled rows cannot be made.
    #[error("cannot make the work folder '{}': {source}", path.display())]
    WorkDir {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A statement cannot be planned as it is written.
    #[error(transparent)]
    Sql(#[from] crate::sql::Error),
    /// The lake answered with an error.
    #[error(transparent)]
    Lake(#[from] drumline_lake::Error),
    /// A state that cannot be.
    #[error("unexpected state: {context}")]
    Bug {
        /// What was found, where.
        context: String,
    },
}

impl Error {
    /// A state that cannot be, with its context.
    pub fn bug(context: impl Into<String>) -> Self {
        Self::Bug {
            context: context.into(),
        }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WorkerLost { .. } => ErrorKind::Retryable,
            Self::WorkerRefused { .. }
            | Self::WorkDir { .. }
            | Self::Setting { .. }
            | Self::OutOfMemory { .. }
            | Self::NoReader
            | Self::DeadlineExceeded { .. } => ErrorKind::User,
            Self::Failed { kind, .. } => *kind,
            Self::Sql(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::Bug { .. } => ErrorKind::Bug,
        }
    }

    /// The worker that it happened on or that is lost, where there is one.
    pub fn worker(&self) -> Option<&str> {
        match self {
            Self::WorkerLost { worker, .. } | Self::WorkerRefused { worker, .. } => Some(worker),
            Self::Failed { worker, .. } => worker.as_deref(),
            _ => None,
        }
    }

    /// Where in the submitted text, when that is known.
    pub fn position(&self) -> Option<crate::sql::Position> {
        match self {
            Self::Sql(error) => error.position(),
            _ => None,
        }
    }

    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WorkerRefused { .. } => Some(
                "run the same build, with the same token, on the master and all workers".to_owned(),
            ),
            Self::DeadlineExceeded { .. } => {
                Some("raise drumline.job_deadline (seconds; 0: none)".to_owned())
            }
            Self::Failed { hint, .. } => hint.clone(),
            Self::NoReader => Some("start one with `drumline worker --master URL`".to_owned()),
            Self::OutOfMemory { .. } => Some(
                "give the workers (and the master, for what runs in place) more with --memory, or read less at \
                 once; with `SET datafusion.optimizer.prefer_hash_join = false` joins sort, and spill"
                    .to_owned(),
            ),
            Self::Sql(error) => error.hint(),
            Self::Lake(error) => error.hint(),
            _ => None,
        }
    }
}
