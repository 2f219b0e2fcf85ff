//! The `drumline` binary: arguments in, text out.
//!
//! `main` parses, calls, and maps the exit code. Each command is one file in `commands/`; what they
//! share has a module of its own: finding and reaching the cluster (`config`, `connect`), running an
//! application (`application`), local processes (`local`), rows on stdout (`output`). Nothing here
//! decides anything about data: that is the master's and the workers' work.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod allocator;
mod amount;
mod application;
mod caret;
mod commands;
mod config;
mod connect;
mod demo;
mod failure;
mod local;
mod logging;
mod memory;
mod output;
mod progress;
mod pump;
mod records;
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
    /// Run SQL on the cluster: from the command line, a file, stdin, or a prompt
    Sql(commands::sql::Arguments),
    /// Run a SQL script as a named application, and follow it to its end
    Submit(commands::submit::Arguments),
    /// Read Kafka topics into tables, continuously: define, look at, pause, move, delete
    Stream(commands::stream::Arguments),
    /// Applications: what was submitted and what became of it
    Apps(commands::apps::Arguments),
    /// Jobs: runs of statements' plans on the cluster
    Jobs(commands::jobs::Arguments),
    /// Stages that jobs are cut into
    Stages(commands::stages::Arguments),
    /// Tasks of jobs on workers
    Tasks(commands::tasks::Arguments),
    /// Workers of the cluster
    Workers(commands::workers::Arguments),
    /// Stop an application
    Cancel(commands::cancel::Arguments),
    /// What the master or a worker logs
    Logs(commands::logs::Arguments),
    /// Look at what a cluster needs: the lake, its rights, brokers, disks, clocks, the master; and say what to do
    Doctor(commands::doctor::Arguments),
    /// Make certificates: a small authority, one for masters and one for workers
    Init(commands::init::Arguments),
    /// Who may come in: make, list and revoke tokens
    Token(commands::token::Arguments),
    /// Send recorded listening events (Eventsim logs) to Kafka or to files, in event-time order
    Replay(commands::replay::Arguments),
    /// Make up listening events and send them to Kafka or to files; the same seed gives the same
    Generate(commands::generate::Arguments),
    /// Run the master of a cluster: it plans, admits and commits
    Master(commands::master::Arguments),
    /// Run a worker: it joins a master, runs tasks and reads topics
    Worker(commands::worker::Arguments),
}

fn main() -> ExitCode {
    drumline_security::install_crypto();
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
            Command::Doctor(arguments) => commands::doctor::run(arguments).await,
            Command::Init(arguments) => commands::init::run(arguments),
            Command::Token(arguments) => commands::token::run(arguments).await,
            Command::Apps(arguments) => commands::apps::run(arguments).await,
            Command::Jobs(arguments) => commands::jobs::run(arguments).await,
            Command::Stages(arguments) => commands::stages::run(arguments).await,
            Command::Tasks(arguments) => commands::tasks::run(arguments).await,
            Command::Workers(arguments) => commands::workers::run(arguments).await,
            Command::Cancel(arguments) => commands::cancel::run(arguments).await,
            Command::Logs(arguments) => commands::logs::run(arguments).await,
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
