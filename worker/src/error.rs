//! What can go wrong with a worker as a whole.

use std::net::SocketAddr;

use drumline_lake::ErrorKind;

/// A worker that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why it cannot.
        source: std::io::Error,
    },
    /// The folder for spilled rows cannot be used.
    #[error("work folder {path} cannot be used: {source}")]
    WorkDir {
        /// The folder.
        path: String,
        /// Why it cannot.
        source: std::io::Error,
    },
    /// The master will not have this worker.
    #[error("master {master} refused this worker: {reason}")]
    Refused {
        /// The master.
        master: String,
        /// What it said.
        reason: String,
    },
    /// The engine could not be set up.
    #[error("{0}")]
    Engine(#[from] drumline_engine::Error),
    /// The worker's certificate cannot be used.
    #[error(transparent)]
    Security(#[from] drumline_security::Error),
    /// An encrypted master, and nothing to know it by.
    #[error("master {master} is encrypted, and this worker has no certificate")]
    NoCertificate {
        /// The master.
        master: String,
    },
    /// A thread or server of the worker ended badly.
    #[error("{context}")]
    Bug {
        /// What happened.
        context: String,
    },
}

impl Error {
    /// Who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { .. } | Self::WorkDir { .. } | Self::Refused { .. } => ErrorKind::User,
            Self::Engine(error) => error.kind(),
            Self::NoCertificate { .. } => ErrorKind::User,
            Self::Security(error) => match error.kind() {
                drumline_security::Kind::User => ErrorKind::User,
                drumline_security::Kind::Retryable => ErrorKind::Retryable,
                drumline_security::Kind::Bug => ErrorKind::Bug,
            },
            Self::Bug { .. } => ErrorKind::Bug,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("use `--listen 127.0.0.1:0` for any free port".to_owned()),
            Self::WorkDir { .. } => Some("name another with `--work-dir`".to_owned()),
            Self::Refused { .. } | Self::Bug { .. } => None,
            Self::Engine(error) => error.hint(),
            Self::Security(error) => error.hint(),
            Self::NoCertificate { .. } => {
                Some("give --tls with the folder that `drumline init` made".to_owned())
            }
        }
    }
}
