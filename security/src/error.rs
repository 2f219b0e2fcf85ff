//! The crate's error: why tokens, certificates or keys cannot be used.

use std::path::PathBuf;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same again fails again, until somebody changes something.
    User,
    /// Passing.
    Retryable,
    /// Drumline is wrong.
    Bug,
}

/// What can go wrong around doors. A caller that is turned away is a [`crate::Refusal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that must be ours alone can be read by others.
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The token file is not one that this build can read.
    #[error("{} cannot be read as Drumline's tokens: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A token cannot be made as asked for.
    #[error("token {field} `{value}`: {reason}")]
    TokenRequest {
        /// Which part of the request.
        field: &'static str,
        /// As it was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No token has this id.
    #[error("there is no token `{id}`")]
    UnknownToken {
        /// As asked for.
        id: String,
    },
    /// Certificates exist where new ones were to be made.
    #[error("{} exists already", path.display())]
    WouldOverwrite {
        /// The file in the way.
        path: PathBuf,
    },
    /// A certificate or key cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A name that no certificate can carry.
    #[error("`{name}` is neither a host name nor an address")]
    HostName {
        /// As it was given.
        name: String,
    },
    /// An address that makes no sense.
    #[error("address {url}: {reason}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What answered at the other end is not who it has to be.
    #[error("{peer} is no {expected}: its certificate says {found}")]
    WrongPeer {
        /// Where.
        peer: String,
        /// Who should be there.
        expected: String,
        /// Who is.
        found: String,
    },
    /// Others can reach an address, and nothing protects it.
    #[error("{address} can be reached from other machines, and {missing}")]
    Exposed {
        /// Where it was to listen.
        address: std::net::SocketAddr,
        /// What protection is missing.
        missing: &'static str,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: {reason}")]
    Random {
        /// What it said.
        reason: String,
    },
    /// A state that cannot be.
    #[error("unexpected state: {context}")]
    Bug {
        /// What was found, where.
        context: String,
    },
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            action: "read",
            path: path.into(),
            source,
        }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            action: "write",
            path: path.into(),
            source,
        }
    }

    pub(crate) fn bug(context: impl Into<String>) -> Self {
        Self::Bug {
            context: context.into(),
        }
    }

    /// Whose turn it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Random { .. } => Kind::Retryable,
            Self::Bug { .. } => Kind::Bug,
            _ => Kind::User,
        }
    }

    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooOpen { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::TokenFile { .. } => {
                "run the version of Drumline that wrote it, or move it away and make new tokens"
                    .to_owned()
            }
            Self::UnknownToken { .. } => "`drumline token list` shows them".to_owned(),
            Self::WouldOverwrite { .. } => {
                "choose another --dir, or remove what is there if nobody uses it".to_owned()
            }
            Self::Certificate { .. } => "`drumline init` makes a new set".to_owned(),
            Self::HostName { .. } => "give --name master.example.org or --name 10.0.0.1".to_owned(),
            Self::WrongPeer { .. } => {
                "check the address, and that each process uses the certificate of its own role"
                    .to_owned()
            }
            Self::Exposed { .. } => {
                "make certificates with `drumline init` and give --tls; or listen on 127.0.0.1; or take \
                 the risk by name: --insecure-no-tls sends tokens and rows unencrypted, \
                 --insecure-no-authentication lets everybody in"
                    .to_owned()
            }
            _ => return None,
        })
    }
}
