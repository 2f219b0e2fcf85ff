//! `drumline stages`: what jobs are cut into.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::failure::Result;
use crate::records::{Asked, Column, Kind, Unit, Which, run as show};

/// Stages, those of the newest job first; or of one job.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline stages 0198c2d0-5b1e-7c3a-9f00-3a1b2c4d5e6f --watch\n  \
    drumline stages --state running"
)]
pub(crate) struct Arguments {
    /// Id of one job
    job: Option<String>,
    /// Only those in this state: waiting, running, succeeded, failed or cancelled
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

pub(super) const COLUMNS: &[Column] = &[
    Column::new("JOB", "job", "/job", Unit::Text).spare(1),
    Column::new("STAGE", "stage", "/stage", Unit::Count),
    Column::new("STATE", "state", "/state", Unit::Text),
    Column::new("TASKS", "tasks", Column::NO_FIELD, Unit::Made(tasks_done)),
    Column::new("PARTITIONS", "partitions", "/partitions", Unit::Count).spare(6),
    Column::new(
        "ROWS READ",
        "rows_read",
        Column::NO_FIELD,
        Unit::Sum(rows_read),
    ),
    Column::new(
        "ROWS OUT",
        "rows_out",
        Column::NO_FIELD,
        Unit::Sum(rows_out),
    )
    .spare(2),
    Column::new(
        "EXCHANGED",
        "bytes_exchanged",
        Column::NO_FIELD,
        Unit::SumBytes(exchanged),
    )
    .spare(3),
    Column::new(
        "SPILLED",
        "spilled_bytes",
        Column::NO_FIELD,
        Unit::SumBytes(spilled),
    )
    .spare(4),
    Column::new(
        "MEMORY",
        "memory_peak_bytes",
        Column::NO_FIELD,
        Unit::SumBytes(memory),
    )
    .spare(5),
];

const KIND: Kind = Kind {
    path: "stages",
    identity: &["/job", "/stage"],
    columns: COLUMNS,
    parts: &[],
};

pub(crate) async fn run(arguments: Arguments) -> Result {
    let filters = vec![("state", arguments.state)];
    let which = match arguments.job {
        Some(job) => Which::OfJob(job, filters),
        None => Which::List(filters),
    };
    show(arguments.asked, &KIND, which).await
}

pub(super) fn tasks_of(stage: &Value) -> impl Iterator<Item = &Value> {
    stage["tasks"].as_array().into_iter().flatten()
}

/// Records that have succeeded, of all.
pub(super) fn done<'a>(records: impl Iterator<Item = &'a Value>) -> String {
    let (mut all, mut succeeded) = (0, 0);
    for record in records {
        all += 1;
        succeeded += u32::from(record["state"] == "succeeded");
    }
    format!("{succeeded}/{all}")
}

/// A metric over tasks.
pub(super) fn sum<'a>(tasks: impl Iterator<Item = &'a Value>, metric: &str) -> u64 {
    tasks
        .filter_map(|task| task["metrics"][metric].as_u64())
        .sum()
}

fn tasks_done(stage: &Value, _: DateTime<Utc>) -> String {
    done(tasks_of(stage))
}

fn rows_read(stage: &Value) -> u64 {
    sum(tasks_of(stage), "rows_read")
}

fn rows_out(stage: &Value) -> u64 {
    sum(tasks_of(stage), "rows_out")
}

fn exchanged(stage: &Value) -> u64 {
    sum(tasks_of(stage), "bytes_exchanged")
}

fn spilled(stage: &Value) -> u64 {
    sum(tasks_of(stage), "spilled_bytes")
}

fn memory(stage: &Value) -> u64 {
    sum(tasks_of(stage), "memory_peak_bytes")
}
