//! Why a caller is turned away, and what it is told.

use http::StatusCode;
use tonic::Code;

use crate::Role;

/// Why a call does not come through. It says no more than the caller may know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing says who calls.
    #[error("this needs a token, and the call brings none")]
    NoToken,
    /// What was brought is no token.
    #[error("what the call brings is no token")]
    Malformed,
    /// No token of this id, or not with this secret.
    #[error("the token is not known here")]
    Unknown,
    /// It was good once.
    #[error("token {id} ({name}) has expired")]
    Expired {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// It was good until somebody said no.
    #[error("token {id} ({name}) is revoked")]
    Revoked {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// A session that is over.
    #[error("the session is over")]
    SessionOver,
    /// The caller is known and may not.
    #[error("this needs the role {needed}, and {who} has the role {role}")]
    WrongRole {
        /// Who it is.
        who: String,
        /// The role it has.
        role: Role,
        /// The role it would take.
        needed: Role,
    },
    /// Another site may have sent a browser here.
    #[error("a page's change needs the header X-Drumline: 1")]
    CrossSite,
    /// A path that is in no table.
    #[error("there is nothing at {path}")]
    NotListed {
        /// As it was asked for.
        path: String,
    },
    /// More calls than one caller may make.
    #[error("too many calls in too short a time")]
    TooOften,
    /// A worker knows callers only once it has joined its master.
    #[error("this worker has not joined its master yet")]
    NotJoined,
}

impl Refusal {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::WrongRole { .. } | Self::CrossSite => Code::PermissionDenied,
            Self::NotListed { .. } => Code::Unimplemented,
            Self::NotJoined => Code::Unavailable,
            Self::TooOften => Code::ResourceExhausted,
            _ => Code::Unauthenticated,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::WrongRole { .. } | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NotListed { .. } => StatusCode::NOT_FOUND,
            Self::NotJoined => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoToken | Self::Malformed => "send it as `Authorization: Bearer drl_…`",
            Self::Unknown | Self::Expired { .. } | Self::Revoked { .. } => {
                "an admin makes a new one with `drumline token create`"
            }
            Self::SessionOver => "sign in again",
            Self::WrongRole { .. } => "an admin makes a token with more rights",
            Self::CrossSite => "send it, or a bearer token",
            Self::NotListed { .. } => "check the path",
            Self::TooOften => {
                "wait a second, and ask less often: `/api/v1/events` tells of changes"
            }
            Self::NotJoined => "it joins by itself once its master answers",
        }
    }

    /// The token that was brought, where it is one that there was.
    pub(crate) fn token(&self) -> Option<String> {
        match self {
            Self::Expired { id, name } | Self::Revoked { id, name } => {
                Some(format!("token {id} ({name})"))
            }
            _ => None,
        }
    }

    /// One word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Malformed => "malformed_token",
            Self::Unknown => "unknown_token",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::SessionOver => "session_over",
            Self::WrongRole { .. } => "wrong_role",
            Self::CrossSite => "cross_site",
            Self::NotListed { .. } => "not_listed",
            Self::TooOften => "too_often",
            Self::NotJoined => "not_joined",
        }
    }
}
