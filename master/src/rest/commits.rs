//! Commits to tables, of statements and of streams.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::asked::{self, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::facts::Commit;

/// Which commits.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only commits to this table.
    table: Option<String>,
    /// Only commits of this stream.
    stream: Option<String>,
    /// Only commits of this application.
    application: Option<String>,
}

/// Commits, the newest first
///
/// The newest 10,000 are remembered; a table's own log has them all.
#[utoipa::path(
    get,
    path = "/commits",
    tag = "tables",
    params(Which, PageQuery),
    responses((status = 200, description = "Commits", body = Page<Commit>))
)]
pub(super) async fn list_commits(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<Which>,
) -> Result<Json<Page<Commit>>, Problem> {
    let table = asked::text("table", &which.table)?;
    let stream = asked::text("stream", &which.stream)?;
    let application = asked::text("application", &which.application)?;
    let history = rest.history();
    let is_wanted = |commit: &&Arc<Commit>| {
        table.is_none_or(|table| commit.table == table)
            && stream.is_none_or(|stream| commit.stream == stream)
            && application.is_none_or(|application| commit.application == application)
    };
    let mut wanted: Vec<(Key, &Commit)> = history
        .commits
        .iter()
        .filter(is_wanted)
        .map(|commit| (key(commit), &**commit))
        .collect();
    wanted.sort_by(|a, b| a.0.compare(&b.0, Order::NewestFirst));
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |(key, _)| key.clone(),
        |(_, commit)| (commit.clone(), 1),
    )))
}

/// Commits have no ids; of one table there are never two of one version at one time.
fn key(commit: &Commit) -> Key {
    Key::name(format!(
        "{:016}~{:012}~{}",
        commit.at, commit.version, commit.table
    ))
}
