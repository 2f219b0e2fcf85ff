//! `drumline tasks`: what workers run.

use crate::failure::Result;
use crate::records::{Asked, Column, Kind, Unit, Which, run as show, took};

/// Tasks, those of the newest job first; or of one job.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline tasks --worker worker-1 --state running --watch\n  \
    drumline tasks 0198c2d0-5b1e-7c3a-9f00-3a1b2c4d5e6f"
)]
pub(crate) struct Arguments {
    /// Id of one job
    job: Option<String>,
    /// Only those on this worker
    #[arg(long)]
    worker: Option<String>,
    /// Only those in this state: waiting, running, succeeded, failed or cancelled
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

const KIND: Kind = Kind {
    path: "tasks",
    identity: &["/job", "/stage", "/task"],
    columns: &[
        Column::new("JOB", "job", "/job", Unit::Text).spare(1),
        Column::new("STAGE", "stage", "/stage", Unit::Count),
        Column::new("TASK", "task", "/task", Unit::Count),
        Column::new("WORKER", "worker", "/worker", Unit::Words),
        Column::new("STATE", "state", "/state", Unit::Text),
        Column::new("TOOK", "ended_at", "/ended_at", Unit::Made(took)),
        Column::new("ROWS READ", "rows_read", "/metrics/rows_read", Unit::Count).spare(2),
        Column::new("ROWS OUT", "rows_out", "/metrics/rows_out", Unit::Count).spare(3),
        Column::new(
            "EXCHANGED",
            "bytes_exchanged",
            "/metrics/bytes_exchanged",
            Unit::Bytes,
        )
        .spare(4),
        Column::new(
            "SPILLED",
            "spilled_bytes",
            "/metrics/spilled_bytes",
            Unit::Bytes,
        )
        .spare(5),
        Column::new(
            "MEMORY",
            "memory_peak_bytes",
            "/metrics/memory_peak_bytes",
            Unit::Bytes,
        )
        .spare(6),
        Column::new("ATTEMPT", "attempt", "/attempt", Unit::Count).spare(7),
    ],
    parts: &[],
};

pub(crate) async fn run(arguments: Arguments) -> Result {
    let filters = vec![("worker", arguments.worker), ("state", arguments.state)];
    let which = match arguments.job {
        Some(job) => Which::OfJob(job, filters),
        None => Which::List(filters),
    };
    show(arguments.asked, &KIND, which).await
}
