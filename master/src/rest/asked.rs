//! What comes in, checked: the query, of which nothing may be unknown, and the names in the path.

use std::error::Error as _;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::page::{PageQuery, Paging};
use super::problem::Problem;

/// Longest name in a path, and longest text to filter by.
const MAX_NAME: usize = 256;

/// A query of which every parameter is known and good; `T` denies unknown fields.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

/// A list's query: which part of it, and its own filters. (Serde's `flatten` does not know unknown fields.)
pub(super) struct Paged<T>(pub(super) Paging, pub(super) T);

/// No filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Paged<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let paging: PageQuery = parsed(query, PageQuery::has)?;
        let filters = parsed(query, |name| !PageQuery::has(name)).map_err(|problem| {
            problem.hint(
                "besides its filters a list takes limit and after; /api/v1/openapi.json names what each route takes",
            )
        })?;
        Ok(Self(paging.try_into()?, filters))
    }
}

/// The parameters of a query that are `wanted`.
fn parsed<T: DeserializeOwned>(query: &str, wanted: impl Fn(&str) -> bool) -> Result<T, Problem> {
    let mut part = form_urlencoded::Serializer::for_suffix("/?".to_owned(), "/?".len());
    let pairs = form_urlencoded::parse(query.as_bytes());
    part.extend_pairs(pairs.filter(|(name, _)| wanted(name)));
    let part = part
        .finish()
        .parse()
        .map_err(|_| Problem::bad_request("the query is too long"))?;
    match Query::try_from_uri(&part) {
        Ok(Query(asked)) => Ok(asked),
        Err(rejection) => Err(refused(&rejection)),
    }
}

fn refused(rejection: &QueryRejection) -> Problem {
    let mut reason = rejection.body_text();
    let mut source = rejection.source();
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    Problem::bad_request(format!("the query cannot be read: {}", long(&reason)))
        .hint("/api/v1/openapi.json names what each route takes")
}

/// Lists of what would be accepted are worth their length, what was sent is not.
fn long(reason: &str) -> String {
    match reason.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// The name in a path: an id, or the name of a stream or worker.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable())?;
        checked("the name in the path", &name)?;
        Ok(Self(name))
    }
}

/// The two names in a path: a schema and a table of it.
pub(super) struct NamePair(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for NamePair {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable())?;
        checked("the schema in the path", &first)?;
        checked("the name in the path", &second)?;
        Ok(Self(first, second))
    }
}

fn unreadable() -> Problem {
    Problem::bad_request("the path is no UTF-8 text")
}

/// Refuses what can be the name of nothing.
fn checked(what: &str, name: &str) -> Result<(), Problem> {
    if name.len() > MAX_NAME {
        return Err(Problem::bad_request(format!(
            "{what} is longer than {MAX_NAME} bytes"
        )));
    }
    let is_strange = |c: char| c.is_control() || matches!(c, '/' | '\\');
    if name.is_empty() || name == "." || name == ".." || name.contains(is_strange) {
        return Err(Problem::bad_request(format!(
            "{what} is empty, or holds a character that no name has"
        )));
    }
    Ok(())
}

/// A text to filter by; an empty one is none.
pub(super) fn text<'a>(
    parameter: &str,
    value: &'a Option<String>,
) -> Result<Option<&'a str>, Problem> {
    match value.as_deref() {
        None | Some("") => Ok(None),
        Some(text) if text.len() > MAX_NAME => Err(Problem::bad_request(format!(
            "{parameter} is longer than {MAX_NAME} bytes"
        ))),
        Some(text) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused() {
        let ok = |name: &str| checked("the name", name).is_ok();
        assert!(ok("019a-7"));
        assert!(ok("worker 1"));
        assert!(ok("hörer"));
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            &"x".repeat(257),
        ] {
            assert!(!ok(name), "{name:?}");
        }
    }
}
