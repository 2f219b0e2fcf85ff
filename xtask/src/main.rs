//! The project's own commands: `cargo xtask setup | verify | web | demo | bench | chaos`.
//!
//! Builds in seconds, because it depends on nothing of the workspace: what needs the workspace is
//! started through cargo.

mod imports;
mod page;
mod run;
mod setup;
mod steps;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::{cargo, run_with};

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
    Chaos {
        /// What to break
        victim: Victim,
        /// How many times (20; lake: 200)
        #[arg(long, visible_alias = "times")]
        seeds: Option<u64>,
        /// The first seed: a failing one is printed
        #[arg(long, visible_alias = "from", default_value_t = 0)]
        from_seed: u64,
        /// For how long, where it is no matter of seeds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
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
enum Victim {
    /// The journal's files: truncated, bits flipped
    Journal,
    /// The master's process: killed with applications and a stream running
    Master,
    /// A stream: every process killed and frozen at each step of a commit, brokers, store and disk failing; stops
    /// before the next seed can be gone on with by --from-seed
    Stream,
    /// The decisions of streams alone: a cluster in one thread, random schedules
    Schedules,
    /// A worker: killed and frozen at named places of a query
    Workers,
    /// What `fresh(t)` reads, while the stream commits and OPTIMIZE and VACUUM run: always the topic's prefix
    Fresh,
    /// Debezium's changes, out of order, again and with restarts: the newest rows are those of a replay in a map
    Changes,
    /// Links between network namespaces: cut while a query runs, one way too; needs root
    Links,
    /// The lake's writers and its store: killed, answered wrongly or never, while a statement commits
    Lake,
    /// Nothing: writers, merges, OPTIMIZE, VACUUM and readers of one table at once, for some seconds
    Writers,
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
        Command::Chaos {
            victim,
            seeds,
            from_seed,
            seconds,
        } => {
            let seeds = seeds.unwrap_or(match victim {
                Victim::Lake => 200,
                _ => 20,
            });
            let [seeds, from_seed, seconds] = [seeds, from_seed, seconds].map(|n| n.to_string());
            chaos(victim, &seeds, &from_seed, &seconds)
        }
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

/// Debug builds: only these have the places where faults fire.
fn faults(scenario: &str, seeds: &str, from_seed: &str) -> Result<()> {
    cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
    cargo(&[
        "run",
        "--quiet",
        "--package",
        "drumline-testkit",
        "--bin",
        "faults",
        "--",
        scenario,
        "--seeds",
        seeds,
        "--from",
        from_seed,
    ])
}

fn lakes(arguments: &[&str]) -> Result<()> {
    cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
    let mut command = vec![
        "run",
        "--quiet",
        "--package",
        "drumline-testkit",
        "--bin",
        "lakes",
        "--",
    ];
    command.extend(arguments);
    cargo(&command)
}

fn chaos(victim: Victim, seeds: &str, from_seed: &str, seconds: &str) -> Result<()> {
    match victim {
        Victim::Workers => faults("workers", seeds, from_seed),
        Victim::Links => faults("links", seeds, from_seed),
        Victim::Lake => lakes(&["lake", "--seeds", seeds, "--from", from_seed]),
        Victim::Writers => lakes(&["writers", "--seconds", seconds]),
        Victim::Stream => {
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            run_with(
                "cargo",
                &[
                    "test",
                    "--package",
                    "drumline-testkit",
                    "--test",
                    "it",
                    "chaos::",
                    "--",
                    "--nocapture",
                ],
                &[("DRUMLINE_SEEDS", seeds), ("DRUMLINE_FROM_SEED", from_seed)],
            )
        }
        Victim::Schedules => run_with(
            "cargo",
            &[
                "test",
                "--package",
                "drumline-master",
                "--lib",
                "streams::tests::schedules",
                "--",
                "--nocapture",
            ],
            &[("DRUMLINE_SEEDS", seeds), ("DRUMLINE_FROM_SEED", from_seed)],
        ),
        Victim::Fresh => {
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            run_with(
                "cargo",
                &[
                    "test",
                    "--package",
                    "drumline-testkit",
                    "--test",
                    "it",
                    "fresh::a_fresh_read",
                    "--",
                    "--nocapture",
                    "--test-threads=1",
                ],
                &[("DRUMLINE_TIMES", seeds)],
            )
        }
        Victim::Changes => {
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            run_with(
                "cargo",
                &[
                    "test",
                    "--package",
                    "drumline-testkit",
                    "--test",
                    "it",
                    "changes::",
                    "--",
                    "--nocapture",
                ],
                &[
                    ("DRUMLINE_TEST_CHANGES", "100000"),
                    ("DRUMLINE_FROM_SEED", from_seed),
                ],
            )
        }
        Victim::Journal => run_with(
            "cargo",
            &[
                "test",
                "--package",
                "drumline-master",
                "--lib",
                "journal::chaos",
                "--",
                "--nocapture",
            ],
            &[("DRUMLINE_SEEDS", seeds), ("DRUMLINE_FROM_SEED", from_seed)],
        ),
        Victim::Master => {
            cargo(&["build", "--quiet", "--package", "drumline-cli"])?;
            cargo(&[
                "run",
                "--quiet",
                "--package",
                "drumline-testkit",
                "--bin",
                "chaos",
                "--",
                seeds,
                from_seed,
            ])
        }
    }
}
