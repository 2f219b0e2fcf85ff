//! The project's own commands: `cargo xtask setup | verify | web | demo | bench | chaos`.
//!
//! Builds in seconds, because it depends on nothing of the workspace: what needs the workspace is
//! started through cargo.

mod chaos;
mod imports;
mod page;
mod run;
mod setup;
mod steps;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::cargo;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set up, verify, demonstrate and measure Drumline"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring what tests need beside Rust: C tools, Java, Apache Kafka, pyarrow, deltalake, DuckDB, Polars, Node, Chromium; safe to repeat
    Setup,
    /// All that CI checks: setup, format, import rules, lints, tests, the page, docs
    Verify(verify::Arguments),
    /// Build the status page, web/ → web/dist: debug builds read it there, release builds take it in
    Web,
    /// Build `drumline` and run its demo; arguments are passed on
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break things at random and count what is left
    Chaos(chaos::Arguments),
    /// Measure, in release builds; arguments are passed on
    Bench {
        /// What to measure
        bench: Bench,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// The 22 TPC-H queries: a cluster of processes against one process, answers compared
    Tpch,
    /// The 99 TPC-DS queries, the same way
    Tpcds,
    /// Large writes by workers with little memory, and a thousand partitions open at once
    Write,
    /// Kafka to committed Parquet, against decoding and encoding in memory
    Ingest,
    /// From production to visibility of records that come at a steady rate
    Visible,
    /// From the start of processes to a stream's next commit, on a table of many commits
    Restart,
    /// Resident memory of a worker with a thousand open folders and 64 Kafka partitions
    IngestMemory,
    /// Ten schema versions mixed in one topic, beside one: processor time and files
    Formats,
    /// Ten million generated events in the lake, beside what a plain Python consumer reads: every field compared
    Rows,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::setup(),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Web => page::build(),
        Command::Demo { arguments } => {
            eprintln!("building drumline (about 5 minutes the first time)");
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            let mut command = vec!["run", "--quiet", "--package", "drumline-cli", "--", "demo"];
            command.extend(arguments.iter().map(String::as_str));
            cargo(&command)
        }
        Command::Chaos(arguments) => chaos::chaos(&arguments),
        Command::Bench { bench, arguments } => {
            let name = match bench {
                Bench::Tpch => "tpch",
                Bench::Tpcds => "tpcds",
                Bench::Write => "write",
                Bench::Ingest => "ingest",
                Bench::Visible => "visible",
                Bench::Restart => "restart",
                Bench::IngestMemory => "ingest_memory",
                Bench::Formats => "formats",
                Bench::Rows => "rows",
            };
            cargo(&["build", "--release", "--package", "drumline-cli"])?;
            let mut command = vec![
                "run",
                "--release",
                "--package",
                "drumline-benches",
                "--bin",
                name,
                "--",
            ];
            command.extend(arguments.iter().map(String::as_str));
            cargo(&command)
        }
    }
}
