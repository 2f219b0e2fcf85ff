//! `cargo xtask chaos`: builds what is broken, and starts the program or the tests that break it. In debug builds:
//! only these have the places where faults fire.

use anyhow::Result;

use crate::run::{cargo, run_with};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to break
    victim: Victim,
    /// How many times (20; lake and statements: 200)
    #[arg(long, visible_alias = "times")]
    seeds: Option<u64>,
    /// The first seed: a failing one is printed
    #[arg(long, visible_alias = "from", default_value_t = 0)]
    from_seed: u64,
    /// For how long, where it is no matter of seeds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
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
    /// Nothing: random statements, whose answers are compared with DuckDB's
    Statements,
    /// Nothing: writers, merges, OPTIMIZE, VACUUM and readers of one table at once, for some seconds
    Writers,
}

/// What the tests are told by their environment.
const SEEDS: &str = "DRUMLINE_SEEDS";
const FROM_SEED: &str = "DRUMLINE_FROM_SEED";

pub(crate) fn chaos(arguments: &Arguments) -> Result<()> {
    let victim = arguments.victim;
    let seeds = arguments.seeds.unwrap_or(match victim {
        Victim::Lake | Victim::Statements => 200,
        _ => 20,
    });
    let [seeds, from, seconds] =
        [seeds, arguments.from_seed, arguments.seconds].map(|number| number.to_string());
    let [seeds, from, seconds] = [&seeds, &from, &seconds].map(String::as_str);
    let faults = |scenario| program("faults", &[scenario, "--seeds", seeds, "--from", from]);
    match victim {
        Victim::Workers => faults("workers"),
        Victim::Links => faults("links"),
        Victim::Lake => program("lakes", &["lake", "--seeds", seeds, "--from", from]),
        Victim::Statements => program("statements", &["--seeds", seeds, "--from", from]),
        Victim::Writers => program("lakes", &["writers", "--seconds", seconds]),
        Victim::Master => program("chaos", &[seeds, from]),
        Victim::Stream => cluster_tests("chaos::", &[], &[(SEEDS, seeds), (FROM_SEED, from)]),
        Victim::Fresh => {
            let alone = "--test-threads=1";
            cluster_tests(
                "fresh::a_fresh_read",
                &[alone],
                &[("DRUMLINE_TIMES", seeds)],
            )
        }
        Victim::Changes => {
            let changes = ("DRUMLINE_TEST_CHANGES", "100000");
            cluster_tests("changes::", &[], &[changes, (FROM_SEED, from)])
        }
        Victim::Schedules => master_tests("streams::tests::schedules", seeds, from),
        Victim::Journal => master_tests("journal::chaos", seeds, from),
    }
}

/// Runs a program of the test kit's on clusters of `drumline`.
fn program(name: &str, arguments: &[&str]) -> Result<()> {
    build()?;
    let kit = [
        "run",
        "--quiet",
        "--package",
        "drumline-testkit",
        "--bin",
        name,
        "--",
    ];
    cargo(&[&kit, arguments].concat())
}

/// Runs tests of the test kit's, which start clusters of `drumline`.
fn cluster_tests(tests: &str, more: &[&str], told: &[(&str, &str)]) -> Result<()> {
    build()?;
    let kit = ["--package", "drumline-testkit", "--test", "it", tests];
    run_tests(&kit, more, told)
}

/// Runs tests of decisions alone, in one process.
fn master_tests(tests: &str, seeds: &str, from: &str) -> Result<()> {
    let master = ["--package", "drumline-master", "--lib", tests];
    run_tests(&master, &[], &[(SEEDS, seeds), (FROM_SEED, from)])
}

/// What a test says of its seeds is shown.
fn run_tests(which: &[&str], more: &[&str], told: &[(&str, &str)]) -> Result<()> {
    let command = [&["test"], which, &["--", "--nocapture"], more].concat();
    run_with("cargo", &command, told)
}

fn build() -> Result<()> {
    cargo(&["build", "--quiet", "--package", "drumline-cli"])
}
