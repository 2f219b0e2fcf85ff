//! `drumline submit`: a SQL script as one application.

use std::path::PathBuf;

use crate::application::{self, Script};
use crate::commands::sql::{ShowArg, read};
use crate::config::MasterArg;
use crate::connect::connect;
use crate::failure::{Failure, Result};
use crate::signals::StopSignals;

/// Submit a SQL script as an application and follow it to its end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline submit daily.sql\n  drumline submit daily.sql --facts -o json --quiet > answers.jsonl"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    master: MasterArg,
    /// The script; `-` is stdin
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// Name of the application [default: the script's]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    show: ShowArg,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let master = arguments.master.resolve()?;
    let (sql, source) = read(&arguments.script)?;
    if sql.trim().is_empty() {
        return Err(Failure::usage(format!(
            "{}: there is no SQL in it",
            arguments.script.display()
        )));
    }
    let mut signals = StopSignals::listen()?;
    let client = tokio::select! {
        client = connect(&master) => client?,
        () = signals.recv() => return Err(Failure::cancelled()),
    };
    let script = Script {
        name: arguments
            .name
            .as_deref()
            .or(source.as_deref())
            .unwrap_or("drumline submit"),
        sql: &sql,
        source: source.as_deref(),
        settings: arguments.show.settings(),
    };
    application::run(&client, &script, arguments.show.view(), &mut signals).await
}
