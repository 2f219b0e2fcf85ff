//! The `drumline` binary: arguments in, text out.
//!
//! `main` parses, calls, and maps the exit code. Each command is one file in `commands/`; what they
//! share has a module of its own: finding and reaching the cluster (`config`, `connect`), running an
//! application (`application`), local processes (`local`), rows on stdout (`output`). Nothing here
//! decides anything about data: that is the master's and the workers' work.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod application;
mod caret;
mod commands;
mod config;
mod connect;
mod demo;
mod failure;
mod local;
mod logging;
mod output;
mod progress;
mod pump;
mod signals;
mod sink;
mod sql;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{OrFail as _, Result};

/// A Spark-class batch cluster with a Kafka-to-lake consumer, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "drumline",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 cluster unreachable, 130 cancelled.\n\
    Start with `drumline demo`, or with `drumline up` and `drumline sql`."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole path on real listening events: Kafka, lake, distributed SQL, answers
    Demo(commands::demo::Arguments),
    /// Start a master and workers on this machine, until Ctrl-C
    Up(commands::up::Arguments),
    /// Run SQL on the cluster: one text, a file, or line by line
    Sql(commands::sql::Arguments),
    /// Submit a SQL script as an application and follow it to its end
    Submit(commands::submit::Arguments),
    /// Standing consumers: Kafka topics to tables
    Stream(commands::stream::Arguments),
    /// Turn Eventsim logs into the three topics of a music service, in event-time order
    Replay(commands::replay::Arguments),
    /// Make listening events: seeded, the same again for the same seed
    Generate(commands::generate::Arguments),
    /// Run a master
    Master(commands::master::Arguments),
    /// Run a worker of a master
    Worker(commands::worker::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail(|| "cannot start the runtime".to_owned())?;
    let result = runtime.block_on(async {
        match command {
            Command::Demo(arguments) => commands::demo::run(arguments).await,
            Command::Up(arguments) => commands::up::run(arguments).await,
            Command::Sql(arguments) => commands::sql::run(arguments).await,
            Command::Submit(arguments) => commands::submit::run(arguments).await,
            Command::Stream(arguments) => commands::stream::run(arguments).await,
            Command::Replay(arguments) => commands::replay::run(arguments).await,
            Command::Generate(arguments) => commands::generate::run(arguments).await,
            Command::Master(arguments) => commands::master::run(arguments).await,
            Command::Worker(arguments) => commands::worker::run(arguments).await,
        }
    });
    // A blocking read (of stdin, say) must not hold up the end of the process.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
