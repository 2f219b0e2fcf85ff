//! Applications, their statements, and the attempts of those.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asked::{self, Name, Nothing, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::facts::{self, Application, History, Statement};

/// Characters of a statement's text that lists show.
const SQL_IN_LISTS: usize = 2000;
/// How long a cancel waits for the end before it answers that it is under way.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Which applications.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only applications in this state.
    state: Option<facts::State>,
    /// Only applications with this in their name, whatever the case.
    name: Option<String>,
}

/// Applications, the newest first
///
/// Texts of statements are cut to 2000 characters here.
#[utoipa::path(
    get,
    path = "/applications",
    tag = "applications",
    params(Which, PageQuery),
    responses((status = 200, description = "Applications", body = Page<Application>))
)]
pub(super) async fn list_applications(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<Which>,
) -> Result<Json<Page<Application>>, Problem> {
    let name = asked::text("name", &which.name)?.map(str::to_lowercase);
    let history = rest.history();
    let wanted = history.applications.values().rev().filter(|application| {
        which.state.is_none_or(|state| application.state == state)
            && name
                .as_ref()
                .is_none_or(|name| application.name.to_lowercase().contains(name))
    });
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |application| Key::name(&application.id),
        |application| {
            let weight = application.statements.len();
            let statements = application.statements.iter().map(in_list).collect();
            let shown = Application {
                statements,
                ..(**application).clone()
            };
            (shown, weight)
        },
    )))
}

/// One application, with its statements
#[utoipa::path(
    get,
    path = "/applications/{id}",
    tag = "applications",
    params(("id" = String, Path, description = "The application's id")),
    responses((status = 200, description = "The application", body = Application))
)]
pub(super) async fn get_application(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<Json<Application>, Problem> {
    let history = rest.history();
    Ok(Json(application(&history, &id)?.clone()))
}

/// The statements of an application that have begun, in their order
#[utoipa::path(
    get,
    path = "/applications/{id}/statements",
    tag = "applications",
    params(("id" = String, Path, description = "The application's id"), PageQuery),
    responses((status = 200, description = "Statements", body = Page<Statement>))
)]
pub(super) async fn list_statements_of_application(
    State(rest): State<Rest>,
    Name(id): Name,
    Paged(paging, _): Paged<Nothing>,
) -> Result<Json<Page<Statement>>, Problem> {
    let history = rest.history();
    let statements = &application(&history, &id)?.statements;
    Ok(Json(paging.page(
        Order::NewestFirst,
        statements,
        |statement| Key::numbers(&id, statement.statement, 0),
        |statement| (statement.clone(), 1),
    )))
}

/// Stop an application and what runs of it
///
/// Answers 204 once nothing of it runs (also where it had ended before), 202 where that takes longer.
#[utoipa::path(
    post,
    path = "/applications/{id}/cancel",
    tag = "applications",
    params(("id" = String, Path, description = "The application's id")),
    responses(
        (status = 202, description = "It is being stopped"),
        (status = 204, description = "Nothing of it runs any more"),
    )
)]
pub(super) async fn cancel_application(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<StatusCode, Problem> {
    if application(&rest.history(), &id)?.state.is_over() {
        return Ok(StatusCode::NO_CONTENT);
    }
    // Cancelling goes on where nobody waits for it.
    match tokio::time::timeout(CANCEL_WAIT, rest.applications.cancel(&id)).await {
        Ok(ended) => ended
            .map(|()| StatusCode::NO_CONTENT)
            .map_err(Problem::from),
        Err(_) => Ok(StatusCode::ACCEPTED),
    }
}

/// Which statements.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichStatements {
    /// Only statements of this application.
    application: Option<String>,
    /// Only statements in this state.
    state: Option<facts::State>,
}

/// Statements that have begun, those of the newest application first
///
/// Their texts are cut to 2000 characters here.
#[utoipa::path(
    get,
    path = "/statements",
    tag = "applications",
    params(WhichStatements, PageQuery),
    responses((status = 200, description = "Statements", body = Page<Statement>))
)]
pub(super) async fn list_statements(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<WhichStatements>,
) -> Result<Json<Page<Statement>>, Problem> {
    let of = asked::text("application", &which.application)?;
    let history = rest.history();
    let wanted = statements(&history, of)
        .filter(|statement| which.state.is_none_or(|state| statement.state == state));
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |statement| Key::numbers(&statement.application, statement.statement, 0),
        |statement| (in_list(statement), 1),
    )))
}

/// One attempt to run a statement.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attempt {
    application: String,
    statement: u32,
    /// From 1.
    attempt: u32,
    /// Its job's id; empty where it got no plan.
    job: String,
    state: facts::State,
    /// Why it failed or was repeated.
    reason: String,
}

/// Which attempts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichAttempts {
    /// Only attempts of this application's statements.
    application: Option<String>,
}

/// Attempts of statements, those of the newest application first
#[utoipa::path(
    get,
    path = "/attempts",
    tag = "applications",
    params(WhichAttempts, PageQuery),
    responses((status = 200, description = "Attempts", body = Page<Attempt>))
)]
pub(super) async fn list_attempts(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<WhichAttempts>,
) -> Result<Json<Page<Attempt>>, Problem> {
    let of = asked::text("application", &which.application)?;
    let history = rest.history();
    let wanted = statements(&history, of).flat_map(|statement| attempts(&history, statement));
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |attempt| Key::numbers(&attempt.application, attempt.statement, attempt.attempt),
        |attempt| (attempt, 1),
    )))
}

fn application<'a>(history: &'a History, id: &str) -> Result<&'a Application, Problem> {
    let found = history.applications.get(id).map(|found| &**found);
    found.ok_or_else(|| {
        Problem::unknown("application", id)
            .hint("`drumline apps` and /api/v1/applications list those that are known")
    })
}

/// Statements of one application or all, the newest application first.
fn statements<'a>(
    history: &'a History,
    of: Option<&'a str>,
) -> impl Iterator<Item = &'a Statement> {
    let applications = history.applications.values().rev();
    applications
        .filter(move |application| of.is_none_or(|id| application.id == id))
        .flat_map(|application| &application.statements)
}

fn attempts(history: &History, statement: &Statement) -> Vec<Attempt> {
    let last = statement.attempts.max(1);
    let attempt = |attempt: u32| {
        let mut jobs = statement.jobs.iter().filter_map(|id| history.jobs.get(id));
        let job = jobs.find(|job| job.attempt == attempt);
        let retried = statement.retries.get(attempt as usize - 1);
        let state = match job {
            Some(job) => job.state,
            None if attempt < last => facts::State::Failed,
            None => statement.state,
        };
        let reason = match retried {
            Some(reason) => reason.clone(),
            None => job.map(|job| job.reason.clone()).unwrap_or_default(),
        };
        Attempt {
            application: statement.application.clone(),
            statement: statement.statement,
            attempt,
            job: job.map(|job| job.id.clone()).unwrap_or_default(),
            state,
            reason,
        }
    };
    (1..=last).map(attempt).collect()
}

fn in_list(statement: &Statement) -> Statement {
    let sql = match statement.sql.char_indices().nth(SQL_IN_LISTS) {
        Some((end, _)) => format!("{}…", &statement.sql[..end]),
        None => statement.sql.clone(),
    };
    Statement {
        application: statement.application.clone(),
        sql,
        table: statement.table.clone(),
        message: statement.message.clone(),
        jobs: statement.jobs.clone(),
        retries: statement.retries.clone(),
        ..*statement
    }
}
