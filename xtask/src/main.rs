//! The project's own commands: `cargo xtask setup | verify | demo | bench`.
//!
//! Builds in seconds, because it depends on nothing of the workspace: what needs the workspace is
//! started through cargo.

mod imports;
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
    /// Bring what tests need beside Rust: C tools, Java, Apache Kafka, pyarrow; safe to repeat
    Setup,
    /// All that CI checks: setup, format, import rules, lints, tests, docs
    Verify(verify::Arguments),
    /// Build `drumline` and run its demo; arguments are passed on
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
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
    /// Kafka to committed Parquet, against decoding and encoding in memory
    Ingest,
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
        Command::Demo { arguments } => {
            eprintln!("building drumline (about 5 minutes the first time)");
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            let mut command = vec!["run", "--quiet", "--package", "drumline-cli", "--", "demo"];
            command.extend(arguments.iter().map(String::as_str));
            cargo(&command)
        }
        Command::Bench { bench, arguments } => {
            let name = match bench {
                Bench::Tpch => "tpch",
                Bench::Ingest => "ingest",
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
