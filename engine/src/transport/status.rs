//! Errors across the wire. A failing task answers with a status whose details are a
//! [`pb::TaskFailure`]; a status without them was made by the connection, and means a lost worker.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use drumline_lake::ErrorKind;
use drumline_proto::v1 as pb;
use prost::Message;
use tonic::{Code, Status};

use crate::Error;
use crate::memory::Exhausted;

/// Headers are limited to 16 KiB by default, and the details are sent in base64.
const MESSAGE_LIMIT: usize = 6 * 1024;

/// What a task's error is on the wire.
pub(super) fn to_status(error: DataFusionError) -> Status {
    failure_status(&Error::from(error))
}

pub(super) fn failure_status(error: &Error) -> Status {
    let mut failure = pb::TaskFailure {
        kind: kind_to_wire(error.kind()).into(),
        message: clip(error.to_string()),
        hint: error.hint().map(clip).unwrap_or_default(),
        lost_worker: String::new(),
        exhausted: String::new(),
        worker: error.worker().unwrap_or_default().to_owned(),
    };
    if let Error::WorkerLost { worker, reason } = error {
        failure.lost_worker = worker.clone();
        failure.message = clip(reason.clone());
    }
    if let Error::OutOfMemory { exhausted } = error {
        failure.exhausted = exhausted.to_string();
    }
    let code = match error.kind() {
        ErrorKind::User => Code::InvalidArgument,
        ErrorKind::Retryable => Code::Unavailable,
        ErrorKind::Bug => Code::Internal,
    };
    Status::with_details(code, "the task failed", failure.encode_to_vec().into())
}

/// What a status means to the caller of `worker`.
pub(super) fn from_status(status: &Status, worker: &str) -> Error {
    let failure = match status.details() {
        [] => None,
        details => pb::TaskFailure::decode(details).ok(),
    };
    if let Some(failure) = failure {
        if !failure.lost_worker.is_empty() {
            return Error::WorkerLost {
                worker: failure.lost_worker,
                reason: failure.message,
            };
        }
        if let Some(exhausted) = Exhausted::read(&failure.exhausted) {
            return Error::OutOfMemory { exhausted };
        }
        let kind = kind_from_wire(failure.kind());
        let known = Some(failure.worker).filter(|worker| !worker.is_empty());
        return Error::Failed {
            kind,
            message: failure.message,
            hint: Some(failure.hint).filter(|hint| !hint.is_empty()),
            worker: Some(known.unwrap_or_else(|| worker.to_owned())),
        };
    }
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::OutOfRange => Error::WorkerRefused {
            worker: worker.to_owned(),
            reason: status.message().to_owned(),
        },
        _ => Error::WorkerLost {
            worker: worker.to_owned(),
            reason: describe(status),
        },
    }
}

/// The whole chain: the first link of a broken connection says no more than "transport error".
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = source.source();
    }
    if text.is_empty() {
        "the connection ended".to_owned()
    } else {
        text
    }
}

fn clip(mut text: String) -> String {
    if text.len() > MESSAGE_LIMIT {
        text.truncate(text.floor_char_boundary(MESSAGE_LIMIT));
        text.push('…');
    }
    text
}

fn kind_to_wire(kind: ErrorKind) -> pb::FailureKind {
    match kind {
        ErrorKind::User => pb::FailureKind::User,
        ErrorKind::Retryable => pb::FailureKind::Retryable,
        ErrorKind::Bug => pb::FailureKind::Bug,
    }
}

fn kind_from_wire(kind: pb::FailureKind) -> ErrorKind {
    match kind {
        pb::FailureKind::User => ErrorKind::User,
        pb::FailureKind::Retryable => ErrorKind::Retryable,
        pb::FailureKind::Bug | pb::FailureKind::Unspecified => ErrorKind::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_kind_message_and_hint() {
        let sent = Error::Failed {
            kind: ErrorKind::User,
            message: "Divide by zero error".to_owned(),
            hint: Some("use nullif".to_owned()),
            worker: None,
        };
        let got = from_status(&failure_status(&sent), "http://w1");
        assert_eq!(got.kind(), ErrorKind::User);
        assert_eq!(got.to_string(), "Divide by zero error");
        assert_eq!(got.hint().as_deref(), Some("use nullif"));
        assert_eq!(got.worker(), Some("http://w1"));
        let passed_on = from_status(&failure_status(&got), "http://w2");
        assert_eq!(passed_on.worker(), Some("http://w1"), "who failed first");
    }

    #[test]
    fn exhausted_memory_arrives_as_what_it_is() {
        let exhausted = Exhausted {
            operator: "hash join".to_owned(),
            asked: 5,
            available: 3,
            of: 100,
        };
        let sent = Error::OutOfMemory {
            exhausted: exhausted.clone(),
        };
        let got = from_status(&failure_status(&sent), "http://w1");
        assert!(
            matches!(&got, Error::OutOfMemory { exhausted: got } if *got == exhausted),
            "{got:?}"
        );
    }

    #[test]
    fn a_worker_lost_by_another_worker_stays_that_worker() {
        let sent = Error::WorkerLost {
            worker: "http://w2".to_owned(),
            reason: "reset".to_owned(),
        };
        let got = from_status(&failure_status(&sent), "http://w1");
        assert!(
            matches!(got, Error::WorkerLost { ref worker, ref reason } if worker == "http://w2" && reason == "reset")
        );
    }

    #[test]
    fn a_status_of_the_connection_is_a_lost_worker() {
        for code in [
            Code::Unavailable,
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
        ] {
            let got = from_status(&Status::new(code, "transport error"), "http://w1");
            assert!(
                matches!(got, Error::WorkerLost { ref worker, .. } if worker == "http://w1"),
                "{code:?}"
            );
        }
    }

    #[test]
    fn a_refused_call_is_not_retried() {
        let got = from_status(
            &Status::unauthenticated("no valid bearer token"),
            "http://w1",
        );
        assert!(matches!(got, Error::WorkerRefused { .. }));
        assert_eq!(got.kind(), ErrorKind::User);
    }

    #[test]
    fn a_long_message_is_clipped_at_a_character() {
        let sent = Error::Failed {
            kind: ErrorKind::User,
            message: "ü".repeat(50_000),
            hint: None,
            worker: None,
        };
        let status = failure_status(&sent);
        assert!(status.details().len() < 8 * 1024);
        assert!(from_status(&status, "w").to_string().ends_with("ü…"));
    }
}
