//! The cluster in a few numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Rest;
use crate::facts;

/// The cluster in a few numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cluster {
    cluster_id: String,
    /// Which Drumline the master runs.
    build: String,
    /// Root URL of the lake.
    lake: String,
    /// When this master started; milliseconds since 1970.
    started_at: i64,
    /// The master's clock; milliseconds since 1970.
    now: i64,
    /// Newest fact in these answers: `/events?after=` goes on from here.
    sequence: u64,
    /// Workers that are members.
    workers: u32,
    /// Cores of the workers that are members.
    cores: u32,
    /// Tasks that run on workers, as of their last heartbeats.
    running_tasks: u32,
    running_applications: u32,
    /// Accepted, and not started or waiting in line.
    waiting_applications: u32,
    running_jobs: u32,
}

/// The cluster in a few numbers
#[utoipa::path(
    get,
    path = "/cluster",
    tag = "cluster",
    responses((status = 200, description = "The cluster", body = Cluster))
)]
pub(super) async fn get_cluster(State(rest): State<Rest>) -> Json<Cluster> {
    let history = rest.history();
    let members = || history.workers.values().filter(|w| w.state.is_member());
    let is_waiting = |application: &facts::Application| {
        application.state == facts::State::Waiting || application.queue_position.is_some()
    };
    let open = || {
        let applications = history.applications.values();
        applications.filter(|application| !application.state.is_over())
    };
    let jobs = history.jobs.values();
    Json(Cluster {
        cluster_id: rest.cluster_id.to_string(),
        build: history.build.clone(),
        lake: history.lake.clone(),
        started_at: history.started_at,
        now: now(),
        sequence: history.sequence,
        workers: count(members()),
        cores: members().map(|worker| worker.cores).sum(),
        running_tasks: members().map(|worker| worker.running_tasks).sum(),
        running_applications: count(open().filter(|application| !is_waiting(application))),
        waiting_applications: count(open().filter(|application| is_waiting(application))),
        running_jobs: count(jobs.filter(|job| !job.state.is_over())),
    })
}

fn count<T>(records: impl Iterator<Item = T>) -> u32 {
    u32::try_from(records.count()).unwrap_or(u32::MAX)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
