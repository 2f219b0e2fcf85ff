//! The crate's error: why a master cannot start, or a request of it cannot be answered.
//!
//! What goes wrong inside an application is a [`Failure`]; both become gRPC statuses here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use drumline_lake::ErrorKind;
use prost::Message;
use tonic::{Code, Status};

use crate::failure::Failure;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a master.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder '{}': {source}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another master runs on the state folder.
    #[error("another master runs on the state folder '{}'", path.display())]
    StateDirInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The journal was written by a newer build.
    #[error(
        "the journal '{}' has format {found}, and this build ({}) knows formats up to {known}",
        path.display(),
        drumline_proto::BUILD
    )]
    JournalTooNew {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this build knows.
        known: u64,
    },
    /// The journal's check took too long; nothing is known of its state.
    #[error("{reason}")]
    JournalSlow {
        /// Which file, and how long it took.
        reason: String,
    },
    /// The journal cannot be read or written.
    #[error("{reason}")]
    Journal {
        /// Which file, and what the system said.
        reason: String,
    },
    /// The journal cannot be written at the moment: nothing more is taken on.
    #[error("the master cannot write its journal, so it takes nothing on: {reason}")]
    JournalFailing {
        /// Which file, and what the system said.
        reason: String,
    },
    /// The lake answered with an error.
    #[error(transparent)]
    Lake(#[from] drumline_lake::Error),
    /// The engine answered with an error.
    #[error(transparent)]
    Engine(#[from] drumline_engine::Error),
    /// Tokens, keys or certificates cannot be used.
    #[error(transparent)]
    Security(#[from] drumline_security::Error),
    /// No application of this id, or none any more.
    #[error("application '{id}' is not known")]
    UnknownApplication {
        /// As asked for.
        id: String,
    },
    /// A request that carries nothing to run.
    #[error("the application has neither SQL nor a plan")]
    NothingToRun,
    /// More applications at a time than a master takes.
    #[error("{running} applications run already, which is as many as this master takes")]
    TooManyApplications {
        /// How many.
        running: usize,
    },
    /// The master is on its way out.
    #[error("the master is stopping")]
    Stopping,
    /// A stream's target is not in the catalog (any more).
    #[error("table {table}, a target of the stream, does not exist")]
    StreamTableMissing {
        /// The table.
        table: String,
    },
    /// A table that is there is not what the stream would write to.
    #[error("table {table} exists and cannot take the stream's rows: {difference}")]
    StreamTableDiffers {
        /// The table.
        table: String,
        /// How they differ.
        difference: String,
    },
    /// Records of a stream's topics cannot be counted, because nobody is there to do it.
    #[error("no worker is there to count the records of stream {stream}")]
    NoWorkerToCount {
        /// The stream.
        stream: String,
    },
    /// A worker went away while it counted.
    #[error("worker {worker} left while it counted the records of {topic}/{partition}")]
    WorkerLeftCounting {
        /// The worker.
        worker: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Records of a topic could not be counted.
    #[error("counting the records of {topic}/{partition} failed: {reason}")]
    Count {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Why.
        reason: String,
    },
    /// Columns that a stream's records need could not be added at this time.
    #[error("stream {stream} could not be given new columns: {reason}")]
    NewColumns {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// The newest rows of a stream's changes could not be merged into their table.
    #[error("table {table} could not take over its newest changes: {reason}")]
    LatestRows {
        /// The table.
        table: String,
        /// What the statement says.
        reason: String,
    },
    /// A stream was to begin where Kafka has nothing.
    #[error(
        "topic {topic} partition {partition} has offsets {first} to {end}, so it cannot begin at {start}"
    )]
    StreamStart {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it was to begin.
        start: i64,
        /// The first offset that Kafka has.
        first: i64,
        /// The offset after the last.
        end: i64,
    },
    /// A stream's definition in the catalog cannot be read.
    #[error("the definition of stream {stream} cannot be read: {reason}")]
    StreamDefinition {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// The webhook's URL cannot be used. It is a secret, and not told.
    #[error("the webhook cannot be used: {reason}")]
    Webhook {
        /// Why.
        reason: String,
    },
    /// Traces cannot be sent there.
    #[error("the collector of traces at {url} cannot be used: {reason}")]
    Collector {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A state that cannot be.
    #[error("unexpected state: {context}")]
    Bug {
        /// What was found, where.
        context: String,
    },
    /// A thread or runtime could not be made.
    #[error("cannot start the runtime that jobs run on: {source}")]
    Runtime {
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Whose turn it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { .. }
            | Self::StateDir { .. }
            | Self::StateDirInUse { .. }
            | Self::JournalTooNew { .. }
            | Self::Journal { .. }
            | Self::UnknownApplication { .. }
            | Self::StreamTableMissing { .. }
            | Self::StreamTableDiffers { .. }
            | Self::LatestRows { .. }
            | Self::StreamStart { .. }
            | Self::StreamDefinition { .. }
            | Self::Webhook { .. }
            | Self::Collector { .. }
            | Self::NothingToRun => ErrorKind::User,
            Self::Bug { .. } => ErrorKind::Bug,
            Self::TooManyApplications { .. }
            | Self::JournalFailing { .. }
            | Self::JournalSlow { .. }
            | Self::Stopping
            | Self::NoWorkerToCount { .. }
            | Self::WorkerLeftCounting { .. }
            | Self::Count { .. }
            | Self::NewColumns { .. }
            | Self::Runtime { .. } => ErrorKind::Retryable,
            Self::Lake(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Security(error) => match error.kind() {
                drumline_security::Kind::User => ErrorKind::User,
                drumline_security::Kind::Retryable => ErrorKind::Retryable,
                drumline_security::Kind::Bug => ErrorKind::Bug,
            },
        }
    }

    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Listen { .. } => "choose another port, or 0 for any free one",
            Self::StateDir { .. } => "check the folder's rights, or choose another",
            Self::StateDirInUse { .. } => "stop that master, or choose another folder",
            Self::JournalTooNew { path, .. } => {
                return Some(format!(
                    "start the newer build again; or move '{}' and the folder 'events' beside it away: that loses the history, and nothing in the lake",
                    path.display()
                ));
            }
            Self::JournalSlow { .. } => {
                "start it again once the disk has less to do; if that does not help, move the file away: the history \
                 is then read from the folder 'events' beside it"
            }
            Self::Journal { .. } => "check the folder's rights and its disk's space",
            Self::JournalFailing { .. } => {
                "make room on the disk of its state folder, then try again"
            }
            Self::UnknownApplication { .. } => "the master keeps its newest applications",
            Self::NothingToRun => "send one of `sql` and `logical_plan`",
            Self::TooManyApplications { .. } => "wait for one of them, or cancel it",
            Self::Collector { .. } => {
                "an OTLP collector over gRPC looks like http://host:4317; secrets go into OTEL_EXPORTER_OTLP_HEADERS"
            }
            Self::Webhook { .. } => "a webhook looks like https://host/path",
            Self::StreamTableMissing { .. } => "apply the stream again: that makes its tables",
            Self::StreamTableDiffers { .. } => "name another table, or drop that one",
            Self::NoWorkerToCount { .. } => "start one with `drumline worker`",
            Self::WorkerLeftCounting { .. } | Self::Count { .. } => {
                "run `drumline stream verify` again"
            }
            Self::NewColumns { .. } => "it is tried again, and the stream waits for it",
            Self::LatestRows { .. } => {
                "it is tried again; the changes are in the table of changes, and the statement in the list of applications"
            }
            Self::StreamStart { .. } => "begin at one of those offsets, or at earliest or latest",
            Self::StreamDefinition { .. } => "apply the stream again with this version",
            Self::Lake(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Security(error) => return error.hint(),
            Self::Stopping | Self::Runtime { .. } | Self::Bug { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<crate::journal::Error> for Error {
    fn from(error: crate::journal::Error) -> Self {
        match error {
            crate::journal::Error::TooNew { path, found, known } => {
                Self::JournalTooNew { path, found, known }
            }
            slow @ crate::journal::Error::CheckTooSlow { .. } => Self::JournalSlow {
                reason: slow.to_string(),
            },
            other => Self::Journal {
                reason: other.to_string(),
            },
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Failure {
            hint: error.hint().unwrap_or_default(),
            ..Failure::new(error.kind(), error.to_string())
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::UnknownApplication { .. }
            | Error::Security(drumline_security::Error::UnknownToken { .. }) => Code::NotFound,
            Error::TooManyApplications { .. } => Code::ResourceExhausted,
            _ => code(error.kind()),
        };
        status_with(code, &Failure::from(&error), 0)
    }
}

/// A failure of a statement as a status; its details are the `drumline.v1.Failure`.
pub(crate) fn status(failure: &Failure, ordinal: u32) -> Status {
    status_with(code(failure.kind), failure, ordinal)
}

fn status_with(code: Code, failure: &Failure, ordinal: u32) -> Status {
    let details = failure.to_message(ordinal).encode_to_vec();
    Status::with_details(code, failure.message.clone(), details.into())
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::User => Code::InvalidArgument,
        ErrorKind::Retryable => Code::Unavailable,
        ErrorKind::Bug => Code::Internal,
    }
}
