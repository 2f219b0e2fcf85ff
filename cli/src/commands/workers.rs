//! `drumline workers`: the processes that run tasks and consume streams.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::failure::Result;
use crate::records::{Asked, Column, Kind, Unit, Which, bytes, run as show};

/// Workers of the cluster, those that are gone among them; or one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline workers --watch\n  drumline workers --state alive -o json"
)]
pub(crate) struct Arguments {
    /// Id of one worker
    id: Option<String>,
    /// Only those in this state: alive, draining, set_aside, left or lost
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

const KIND: Kind = Kind {
    path: "workers",
    identity: &["/id"],
    columns: &[
        Column::new("ID", "id", "/id", Unit::Text),
        Column::new("STATE", "state", "/state", Unit::Text),
        Column::new("CORES", "cores", "/cores", Unit::Count),
        Column::new("TASKS", "running_tasks", "/running_tasks", Unit::Count),
        Column::new(
            "MEMORY",
            "memory_used_bytes",
            "/memory_used_bytes",
            Unit::Made(memory),
        )
        .spare(1),
        Column::new("JOINED", "joined_at", "/joined_at", Unit::Ago).spare(2),
        Column::new("URL", "url", "/url", Unit::Text).spare(4),
        Column::new("PID", "pid", "/pid", Unit::Text).spare(5),
        Column::new("WHY", "reason", "/reason", Unit::Words).spare(3),
    ],
    parts: &[],
};

pub(crate) async fn run(arguments: Arguments) -> Result {
    let which = match arguments.id {
        Some(id) => Which::One(id),
        None => Which::List(vec![("state", arguments.state)]),
    };
    show(arguments.asked, &KIND, which).await
}

/// What it uses, of what its tasks may.
fn memory(worker: &Value, _: DateTime<Utc>) -> String {
    let number = |name: &str| worker[name].as_u64().unwrap_or(0);
    match (number("memory_used_bytes"), number("memory_bytes")) {
        (used, 0) => bytes(used),
        (used, limit) => format!("{} of {}", bytes(used), bytes(limit)),
    }
}
