//! `drumline apps`: what was submitted.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::failure::Result;
use crate::records::{Asked, Column, Kind, Part, Unit, Which, run as show, took};

/// Applications, the newest first; or one with its statements.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drumline apps --state running --watch\n  \
    drumline apps 0198c2d0-5b1e-7c3a-9f00-3a1b2c4d5e6f\n  drumline apps -o json | jq .failure")]
pub(crate) struct Arguments {
    /// Id of one application
    id: Option<String>,
    /// Only those in this state: waiting, running, succeeded, failed or cancelled
    #[arg(long, conflicts_with = "id")]
    state: Option<String>,
    /// Only those with this in their name, whatever the case
    #[arg(long, conflicts_with = "id")]
    name: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

const STATEMENTS: &[Column] = &[
    Column::new("#", "statement", "/statement", Unit::Count),
    Column::new("STATE", "state", "/state", Unit::Text),
    Column::new("TOOK", "ended_at", "/ended_at", Unit::Made(took)).spare(1),
    Column::new("ROWS", "rows", "/rows", Unit::Count),
    Column::new("TABLE", "table", "/table", Unit::Text).spare(2),
    Column::new("ATTEMPTS", "attempts", "/attempts", Unit::Count).spare(3),
    Column::new("SQL", "sql", "/sql", Unit::Words),
];

const KIND: Kind = Kind {
    path: "applications",
    identity: &["/id"],
    columns: &[
        Column::new("ID", "id", "/id", Unit::Text),
        Column::new("NAME", "name", "/name", Unit::Words),
        Column::new("STATE", "state", "/state", Unit::Text),
        Column::new(
            "DONE",
            "statement_count",
            "/statement_count",
            Unit::Made(done),
        )
        .spare(1),
        Column::new("TOOK", "ended_at", "/ended_at", Unit::Made(took)).spare(2),
        Column::new("SUBMITTED", "submitted_at", "/submitted_at", Unit::Ago).spare(4),
        Column::new("BY", "submitted_by", "/submitted_by", Unit::Text).spare(5),
        Column::new("WHY", "error", "/failure/message", Unit::Words).spare(3),
    ],
    parts: &[Part {
        title: "statements",
        field: "/statements",
        columns: STATEMENTS,
    }],
};

pub(crate) async fn run(arguments: Arguments) -> Result {
    let which = match arguments.id {
        Some(id) => Which::One(id),
        None => Which::List(vec![("state", arguments.state), ("name", arguments.name)]),
    };
    show(arguments.asked, &KIND, which).await
}

/// Statements that are over, of all.
fn done(application: &Value, _: DateTime<Utc>) -> String {
    let statements = application["statements"].as_array();
    let over = statements
        .into_iter()
        .flatten()
        .filter(|statement| statement["state"] == "succeeded");
    match application["statement_count"].as_u64() {
        Some(count @ 1..) => format!("{}/{count}", over.count()),
        _ => String::new(),
    }
}
