//! `drumline jobs`: runs of statements' plans.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::stages;
use crate::failure::Result;
use crate::records::{Asked, Column, Kind, Part, Unit, Which, run as show, took};

/// Jobs, the newest first; or one with its stages.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drumline jobs --state running --watch\n  \
    drumline jobs 0198c2d0-5b1e-7c3a-9f00-3a1b2c4d5e6f\n  drumline jobs -o csv > jobs.csv")]
pub(crate) struct Arguments {
    /// Id of one job
    id: Option<String>,
    /// Only those of this application
    #[arg(long, visible_alias = "app", conflicts_with = "id")]
    application: Option<String>,
    /// Only those in this state: waiting, running, succeeded, failed or cancelled
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

const KIND: Kind = Kind {
    path: "jobs",
    identity: &["/id"],
    columns: &[
        Column::new("ID", "id", "/id", Unit::Text),
        Column::new("STATE", "state", "/state", Unit::Text),
        Column::new(
            "STAGES",
            "stages",
            Column::NO_FIELD,
            Unit::Made(stages_done),
        )
        .spare(2),
        Column::new("TASKS", "tasks", Column::NO_FIELD, Unit::Made(tasks_done)),
        Column::new("TOOK", "ended_at", "/ended_at", Unit::Made(took)),
        Column::new(
            "ROWS READ",
            "rows_read",
            Column::NO_FIELD,
            Unit::Sum(rows_read),
        )
        .spare(1),
        Column::new(
            "EXCHANGED",
            "bytes_exchanged",
            Column::NO_FIELD,
            Unit::SumBytes(exchanged),
        )
        .spare(4),
        Column::new("STARTED", "started_at", "/started_at", Unit::Ago).spare(5),
        Column::new("APPLICATION", "application", "/application", Unit::Text).spare(8),
        Column::new("STATEMENT", "statement", "/statement", Unit::Count).spare(7),
        Column::new("ATTEMPT", "attempt", "/attempt", Unit::Count).spare(6),
        Column::new("WHY", "reason", "/reason", Unit::Words).spare(3),
    ],
    parts: &[Part {
        title: "stages",
        field: "/stages",
        columns: stages::COLUMNS,
    }],
};

pub(crate) async fn run(arguments: Arguments) -> Result {
    let which = match arguments.id {
        Some(id) => Which::One(id),
        None => Which::List(vec![
            ("application", arguments.application),
            ("state", arguments.state),
        ]),
    };
    show(arguments.asked, &KIND, which).await
}

fn stages_of(job: &Value) -> impl Iterator<Item = &Value> {
    job["stages"].as_array().into_iter().flatten()
}

fn tasks_of(job: &Value) -> impl Iterator<Item = &Value> {
    stages_of(job).flat_map(stages::tasks_of)
}

fn stages_done(job: &Value, _: DateTime<Utc>) -> String {
    stages::done(stages_of(job))
}

fn tasks_done(job: &Value, _: DateTime<Utc>) -> String {
    stages::done(tasks_of(job))
}

fn rows_read(job: &Value) -> u64 {
    with_head(job, "rows_read")
}

fn exchanged(job: &Value) -> u64 {
    with_head(job, "bytes_exchanged")
}

/// Over its tasks, and what ran on the master.
fn with_head(job: &Value, metric: &str) -> u64 {
    let head = job["metrics"][metric].as_u64().unwrap_or(0);
    head + stages::sum(tasks_of(job), metric)
}
