//! What went wrong, in the form that events and answers carry: kind, message, next step, position.

use drumline_lake::ErrorKind;
use drumline_proto::v1;

/// A failure of an application, without the statement it belongs to (its event says which).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// The next step; may be empty.
    pub(crate) hint: String,
    /// 1-based, within the submitted text; zero where it is not known.
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: String::new(),
            line: 0,
            column: 0,
        }
    }

    pub(crate) fn retryable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retryable, message)
    }

    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    pub(crate) fn to_message(&self, ordinal: u32) -> v1::Failure {
        v1::Failure {
            kind: match self.kind {
                ErrorKind::User => v1::FailureKind::User,
                ErrorKind::Retryable => v1::FailureKind::Retryable,
                ErrorKind::Bug => v1::FailureKind::Bug,
            }
            .into(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            ordinal,
            line: self.line,
            column: self.column,
        }
    }
}

impl From<drumline_lake::Error> for Failure {
    fn from(error: drumline_lake::Error) -> Self {
        Failure {
            hint: error.hint().unwrap_or_default(),
            ..Failure::new(error.kind(), error.to_string())
        }
    }
}

impl From<drumline_engine::Error> for Failure {
    fn from(error: drumline_engine::Error) -> Self {
        let position = error.position();
        Failure {
            hint: error.hint().unwrap_or_default(),
            line: position.map_or(0, |position| position.line),
            column: position.map_or(0, |position| position.column),
            ..Failure::new(error.kind(), error.to_string())
        }
    }
}
