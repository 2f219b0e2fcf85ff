//! REST `/api/v1`: what the facts say, as JSON, and the few actions that need no SDK.
//!
//! One file per family of resources; each takes its answers from the records of `facts` and decides
//! nothing. `asked.rs` checks what comes in, `page.rs` bounds what goes out, `problem.rs` is how every
//! error looks, and `document.rs` is the OpenAPI document, made from the routes themselves.
//!
//! Invariant: a route is registered with its description in one step (`routes!`), so there is none that
//! `/api/v1/openapi.json` does not name; every list has an upper bound; every filter is checked.

mod applications;
mod asked;
mod cluster;
mod commits;
mod document;
mod events;
mod health;
mod jobs;
mod logs;
mod page;
mod problem;
mod settings;
mod streams;
mod tables;
mod workers;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::HeaderValue;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::response::IntoResponse;
use drumline_engine::LogTail;
use drumline_security::Doors;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::applications::Applications;
use crate::cluster::Workers;
use crate::facts::{Facts, History};
use crate::streams::StreamsService;
pub(crate) use health::Readiness;
pub(crate) use problem::{ErrorBody, Problem};
pub(crate) use settings::{Setting, of as settings};

/// Where the routes are.
const PREFIX: &str = "/api/v1";

/// The largest body of a request; none of the routes needs one.
const MAX_BODY: usize = 64 << 10;

/// Event streams that are open at the same time.
const MAX_EVENT_STREAMS: usize = 256;

/// What the routes answer from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) facts: Facts,
    pub(crate) workers: Workers,
    pub(crate) log: LogTail,
    pub(crate) streams: StreamsService,
    pub(crate) applications: Applications,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) settings: Arc<[Setting]>,
    pub(crate) readiness: Readiness,
    /// Ends what would go on for ever.
    pub(crate) shutdown: CancellationToken,
    event_streams: Arc<Semaphore>,
    document: Arc<OnceLock<String>>,
}

/// What [`Rest`] is made of.
pub(crate) struct Parts {
    pub(crate) facts: Facts,
    pub(crate) workers: Workers,
    pub(crate) log: LogTail,
    pub(crate) streams: StreamsService,
    pub(crate) applications: Applications,
    pub(crate) cluster_id: String,
    pub(crate) settings: Vec<Setting>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
}

impl Rest {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            facts: parts.facts,
            workers: parts.workers,
            log: parts.log,
            streams: parts.streams,
            applications: parts.applications,
            cluster_id: parts.cluster_id.into(),
            settings: parts.settings.into(),
            readiness: parts.readiness,
            shutdown: parts.shutdown,
            event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            document: Arc::default(),
        }
    }

    fn history(&self) -> History {
        self.facts.history()
    }
}

/// All routes, `/healthz`, `/readyz` and those of `session` among them, and the doors to those that are not open to
/// everybody.
pub(crate) fn routes(rest: Rest, session: OpenApiRouter<Rest>) -> (Router, Doors) {
    let (api, described) = OpenApiRouter::with_openapi(document::frame())
        .nest(PREFIX, resources().merge(session))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(health::live))
                .routes(routes!(health::ready)),
        )
        .split_for_parts();
    let doors = document::doors(&described);
    let text = document::finish(described);
    // The first and only time that it is set.
    let _ = rest.document.set(text);
    let routes = api
        .method_not_allowed_fallback(wrong_method)
        .layer(SetResponseHeaderLayer::if_not_present(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(rest);
    (routes, doors)
}

fn resources() -> OpenApiRouter<Rest> {
    OpenApiRouter::default()
        .routes(routes!(cluster::get_cluster))
        .routes(routes!(workers::list_workers))
        .routes(routes!(workers::get_worker))
        .routes(routes!(workers::drain_worker))
        .routes(routes!(applications::list_applications))
        .routes(routes!(applications::get_application))
        .routes(routes!(applications::list_statements_of_application))
        .routes(routes!(applications::cancel_application))
        .routes(routes!(applications::list_statements))
        .routes(routes!(applications::list_attempts))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::list_stages_of_job))
        .routes(routes!(jobs::get_plan))
        .routes(routes!(jobs::list_stages))
        .routes(routes!(jobs::list_tasks))
        .routes(routes!(streams::list_streams))
        .routes(routes!(streams::get_stream))
        .routes(routes!(streams::pause_stream))
        .routes(routes!(streams::resume_stream))
        .routes(routes!(tables::list_tables))
        .routes(routes!(tables::get_table))
        .routes(routes!(commits::list_commits))
        .routes(routes!(settings::list_settings))
        .routes(routes!(logs::read_log))
        .routes(routes!(events::follow_events))
        .routes(routes!(document::get_document))
}

async fn wrong_method(request: Request) -> impl IntoResponse {
    Problem::wrong_method(request.method(), request.uri().path())
}
