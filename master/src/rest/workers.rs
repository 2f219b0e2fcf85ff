//! Workers, present and past.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::asked::{Name, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::facts::{Worker, WorkerState};

/// Which workers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only workers in this state.
    state: Option<WorkerState>,
}

/// Workers, by name
///
/// Those that are gone are among them for a while; `state=alive` leaves those that take work.
#[utoipa::path(
    get,
    path = "/workers",
    tag = "workers",
    params(Which, PageQuery),
    responses((status = 200, description = "Workers", body = Page<Worker>))
)]
pub(super) async fn list_workers(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<Which>,
) -> Result<Json<Page<Worker>>, Problem> {
    let history = rest.history();
    let wanted = history
        .workers
        .values()
        .filter(|worker| which.state.is_none_or(|state| worker.state == state));
    Ok(Json(paging.page(
        Order::ByName,
        wanted,
        |worker| Key::name(&worker.id),
        |worker| ((**worker).clone(), 1),
    )))
}

/// One worker
#[utoipa::path(
    get,
    path = "/workers/{id}",
    tag = "workers",
    params(("id" = String, Path, description = "The worker's id")),
    responses((status = 200, description = "The worker", body = Worker))
)]
pub(super) async fn get_worker(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<Json<Worker>, Problem> {
    match rest.history().workers.get(&id) {
        Some(worker) => Ok(Json((**worker).clone())),
        None => Err(unknown(&rest, &id)),
    }
}

/// Let a worker finish what it has and give it nothing more
#[utoipa::path(
    post,
    path = "/workers/{id}/drain",
    tag = "workers",
    params(("id" = String, Path, description = "The worker's id")),
    responses((status = 202, description = "It drains"))
)]
pub(super) async fn drain_worker(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<StatusCode, Problem> {
    match rest.workers.drain(&id).await {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(unknown(&rest, &id)),
    }
}

fn unknown(rest: &Rest, id: &str) -> Problem {
    let history = rest.history();
    let members = history.workers.values().filter(|w| w.state.is_member());
    let names: Vec<&str> = members.map(|worker| worker.id.as_str()).take(20).collect();
    let hint = match names.as_slice() {
        [] => "no worker is a member now".to_owned(),
        names => format!("members are: {}", names.join(", ")),
    };
    Problem::unknown("worker", id).hint(hint)
}
