//! What can go wrong, in words a user can act on.

use drumline_proto::v1;
use prost::Message as _;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Whose fault a failure is, and whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong: the same again fails again.
    User,
    /// Passing: the same again may succeed.
    Retryable,
    /// Drumline is wrong.
    Bug,
}

/// Line and column, from 1, within the submitted text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 where only the line is known.
    pub column: u32,
}

/// A failure that the cluster reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub kind: Kind,
    /// Object and reason.
    pub message: String,
    /// The next step, where there is one to name.
    pub hint: Option<String>,
    /// Statement it happened in, from 0; meaningful where the failure belongs to one.
    pub ordinal: u32,
    /// Where in the submitted text.
    pub position: Option<Position>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Failure {
        let kind = match failure.kind() {
            v1::FailureKind::User => Kind::User,
            v1::FailureKind::Retryable => Kind::Retryable,
            v1::FailureKind::Bug | v1::FailureKind::Unspecified => Kind::Bug,
        };
        Failure {
            kind,
            message: failure.message,
            hint: (!failure.hint.is_empty()).then_some(failure.hint),
            ordinal: failure.ordinal,
            position: (failure.line > 0).then_some(Position {
                line: failure.line,
                column: failure.column,
            }),
        }
    }
}

/// Every error of the SDK.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The master's address makes no sense.
    #[error("master address {url}: {reason}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No master answers.
    #[error("cannot reach a master at {url}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The master does not let this caller do that.
    #[error("{url} refuses: {reason}")]
    Refused {
        /// The master.
        url: String,
        /// What it said.
        reason: String,
        /// Whether it knows who called; else the token is missing or no good.
        known: bool,
    },
    /// An encrypted master, and nothing to know it by.
    #[error("{url} is encrypted, and the authority that signed its certificate is not known")]
    NoAuthority {
        /// The master.
        url: String,
    },
    /// A token or certificate that was named cannot be used.
    #[error("{reason}")]
    Credentials {
        /// Which one, and why.
        reason: String,
        /// The next step, where there is one to name.
        hint: Option<String>,
    },
    /// The cluster said no, or failed at it.
    #[error("{0}")]
    Failure(Box<Failure>),
    /// The application was cancelled.
    #[error("application {application} was cancelled")]
    Cancelled {
        /// Its id.
        application: String,
    },
    /// No table of this name.
    #[error("table {table} not found")]
    NoSuchTable {
        /// As it was asked for.
        table: String,
        /// A name that is close.
        candidate: Option<String>,
    },
    /// A DataFrame program cannot be sent.
    #[error("the plan cannot be sent to the cluster: {reason}")]
    Plan {
        /// Why not.
        reason: String,
    },
    /// A stream file does not hold.
    #[error("{file}{}: {}{reason}", at_line(*.line), of_key(.key))]
    StreamFile {
        /// The file.
        file: String,
        /// Line, from 1, where known.
        line: Option<usize>,
        /// Which key, such as `topic[1].transform`; empty: the file as a whole.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// What would be accepted.
        accepted: Option<String>,
    },
    /// The cluster refused a stream's definition; nothing was kept.
    #[error("stream {stream}: {}{failure}", of_key(.key))]
    StreamRefused {
        /// The stream.
        stream: String,
        /// Which key of its definition, where one is to blame.
        key: String,
        /// Why.
        failure: Box<Failure>,
    },
    /// The master sent something this client cannot read.
    #[error("the master's answer makes no sense: {reason}")]
    Protocol {
        /// What was read.
        reason: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Address { .. }
            | Error::Refused { .. }
            | Error::NoAuthority { .. }
            | Error::Credentials { .. }
            | Error::Cancelled { .. }
            | Error::NoSuchTable { .. }
            | Error::Plan { .. }
            | Error::StreamFile { .. } => Kind::User,
            Error::Unreachable { .. } => Kind::Retryable,
            Error::Failure(failure) | Error::StreamRefused { failure, .. } => failure.kind,
            Error::Protocol { .. } => Kind::Bug,
        }
    }

    /// The next step, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Address { .. } => Some("write it as http://HOST:PORT".into()),
            Error::Refused { known: false, .. } => Some(
                "name your token with DRUMLINE_TOKEN_FILE or DRUMLINE_TOKEN; whoever runs the master finds the \
                 first one in its state folder, and makes more with `drumline token create`"
                    .into(),
            ),
            Error::Refused { known: true, .. } => {
                Some("an admin makes a token with more rights: `drumline token create`".into())
            }
            Error::NoAuthority { .. } => Some(
                "give the ca.pem that `drumline init` made with --ca or DRUMLINE_CA".into(),
            ),
            Error::Credentials { hint, .. } => hint.clone(),
            Error::Unreachable { .. } => Some(
                "start one with `drumline up`, or name yours with --master or DRUMLINE_MASTER"
                    .into(),
            ),
            Error::Failure(failure) | Error::StreamRefused { failure, .. } => failure.hint.clone(),
            Error::NoSuchTable { candidate, .. } => candidate
                .as_ref()
                .map(|name| format!("did you mean {name}?")),
            Error::StreamFile { accepted, .. } => {
                accepted.as_ref().map(|what| format!("accepted: {what}"))
            }
            Error::Protocol { .. } => {
                Some("check that client and master are of one release".into())
            }
            Error::Cancelled { .. } | Error::Plan { .. } => None,
        }
    }

    /// Where in the submitted text.
    pub fn position(&self) -> Option<Position> {
        match self {
            Error::Failure(failure) => failure.position,
            _ => None,
        }
    }

    /// A call's failure. A master puts its `Failure` into the status' details; other statuses come
    /// from the network or from something that is no master.
    pub(crate) fn from_status(url: &str, status: &tonic::Status) -> Error {
        if !status.details().is_empty()
            && let Ok(failure) = v1::Failure::decode(status.details())
            && !failure.message.is_empty()
        {
            return Error::Failure(Box::new(failure.into()));
        }
        use tonic::Code;
        if let Code::Unauthenticated | Code::PermissionDenied = status.code() {
            return Error::Refused {
                url: url.to_owned(),
                reason: status.message().to_owned(),
                known: status.code() == Code::PermissionDenied,
            };
        }
        // Nobody sent it: the connection broke under the call.
        let is_broken = std::error::Error::source(status).is_some()
            && matches!(
                status.code(),
                Code::Unknown | Code::Internal | Code::Cancelled
            );
        let kind = match status.code() {
            _ if is_broken => {
                return Error::Unreachable {
                    url: url.to_owned(),
                    reason: root_cause(status),
                };
            }
            Code::Unavailable => {
                return Error::Unreachable {
                    url: url.to_owned(),
                    reason: root_cause(status),
                };
            }
            Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => Kind::Retryable,
            Code::Unimplemented => {
                return Error::Unreachable {
                    url: url.to_owned(),
                    reason: "what answers there is no Drumline master of this release".into(),
                };
            }
            Code::Internal | Code::Unknown | Code::DataLoss => Kind::Bug,
            _ => Kind::User,
        };
        let message = match status.message() {
            "" => status.code().description().to_lowercase(),
            message => message.to_owned(),
        };
        Error::Failure(Box::new(Failure {
            kind,
            message,
            hint: None,
            ordinal: 0,
            position: None,
        }))
    }

    pub(crate) fn credentials(error: drumline_security::Error) -> Error {
        Error::Credentials {
            hint: error.hint(),
            reason: error.to_string(),
        }
    }

    /// A connection that was not made.
    pub(crate) fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Unreachable {
            url: url.to_owned(),
            reason: root_cause(error),
        }
    }

    /// A DataFusion error met before anything was sent.
    pub(crate) fn plan(error: &datafusion::error::DataFusionError) -> Error {
        Error::Plan {
            reason: error.strip_backtrace(),
        }
    }
}

/// The innermost message: the outer ones of a transport say "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => cause.to_string(),
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}"))
        .unwrap_or_default()
}

fn of_key(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    }
}
