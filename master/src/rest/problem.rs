//! How an error looks: a status, what is wrong with which object, and the next step.

use axum::Json;
use axum::response::{IntoResponse, Response};
use drumline_lake::ErrorKind;
use http::{Method, StatusCode};
use serde::Serialize;
use tonic::{Code, Status};
use utoipa::ToSchema;

use crate::Error;

/// Longest piece of a request that an error repeats.
const SHOWN: usize = 100;

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    hint: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong, and the next step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// Names the object and the reason.
    message: String,
    /// The next step; may be empty.
    hint: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            hint: String::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A request that cannot be understood.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// `kind` is what people call such objects.
    pub(crate) fn unknown(kind: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("{kind} `{}` is not known", shown(name)),
        )
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// There is nothing at a path.
    pub(crate) fn no_route(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is nothing at {}", shown(path)),
        )
        .hint("/api/v1/openapi.json names every route")
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("{} does not take {}", shown(path), shown(method.as_str()));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
            .hint("/api/v1/openapi.json names the methods of every route")
    }
}

/// A piece of a request as an error may repeat it: short.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorDetail {
                message: self.message,
                hint: self.hint,
            },
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::UnknownApplication { .. } => StatusCode::NOT_FOUND,
            other => of_kind(other.kind()),
        };
        let hint = error.hint().unwrap_or_default();
        Self::new(status, error.to_string()).hint(hint)
    }
}

/// What a gRPC service of ours answered.
impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, status.message())
    }
}

fn of_kind(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::User => StatusCode::BAD_REQUEST,
        ErrorKind::Retryable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_little_of_what_it_was_sent() {
        let problem = Problem::unknown("job", &"x".repeat(5000));
        assert_eq!(problem.status, StatusCode::NOT_FOUND);
        assert!(problem.message.chars().count() < 200, "{}", problem.message);
        assert_eq!(shown("é"), "é");
    }
}
