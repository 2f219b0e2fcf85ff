//! Chaos: workers that are killed or frozen at named places, links that are cut, and what becomes of the query.
//!
//! `faults workers|links --seeds N [--from SEED] [--only NAME]`. Each seed goes through all faults; each run
//! prints a line, so that a run that was stopped can go on with `--from`. A run fails when the answer is
//! wrong, when it hangs, or when the fault did not fire.

mod links;
mod workers;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const ROWS: u64 = 400_000;
/// From the fault to the right answer.
const RECOVERED_WITHIN: Duration = Duration::from_secs(15);
/// After which a run counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(120);

const QUERY: &str = "SELECT count(*) AS buckets, sum(total) AS total, sum(texts) AS texts FROM (\
     SELECT a.bucket, sum(a.n) AS total, count(DISTINCT b.text) AS texts \
     FROM numbers a JOIN numbers b ON a.n = b.n GROUP BY a.bucket)";

struct Arguments {
    scenario: String,
    seeds: u64,
    from: u64,
    only: Option<String>,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut given = std::env::args().skip(1);
    let mut arguments = Arguments {
        scenario: given.next().unwrap_or_default(),
        seeds: 1,
        from: 0,
        only: None,
    };
    while let Some(name) = given.next() {
        let value = given
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seeds" => arguments.seeds = value.parse().context("--seeds")?,
            "--from" => arguments.from = value.parse().context("--from")?,
            "--only" => arguments.only = Some(value),
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut tally = Tally::default();
    for seed in arguments.from..arguments.from + arguments.seeds {
        match arguments.scenario.as_str() {
            "workers" => workers::seed(seed, arguments, &mut tally),
            "links" if !links::may_run() => {
                println!("cutting links needs root and `ip netns`: skipped");
                return Ok(());
            }
            "links" => links::seed(seed, arguments, &mut tally),
            _ => bail!("usage: faults workers|links [--seeds N] [--from SEED] [--only NAME]"),
        }
    }
    tally.close()
}

impl Arguments {
    fn skips(&self, name: &str) -> bool {
        self.only.as_deref().is_some_and(|only| only != name)
    }
}

/// What came of the runs.
#[derive(Default)]
struct Tally {
    recoveries: Vec<Duration>,
    failures: Vec<String>,
}

impl Tally {
    fn note(&mut self, name: &str, outcome: Result<Duration>) {
        match outcome {
            Ok(recovered) => {
                println!("{name}: recovered in {recovered:.1?}");
                self.recoveries.push(recovered);
            }
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }

    fn close(mut self) -> Result<()> {
        self.recoveries.sort();
        let p99 = self.percentile(0.99);
        println!(
            "{} runs, {} failed; recovery p50 {:.1?}, p99 {p99:.1?}, longest {:.1?}",
            self.recoveries.len() + self.failures.len(),
            self.failures.len(),
            self.percentile(0.5),
            self.percentile(1.0)
        );
        ensure!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        ensure!(
            p99 <= RECOVERED_WITHIN,
            "recovery took longer than {RECOVERED_WITHIN:?}"
        );
        Ok(())
    }

    /// The smallest that a share of all are not above; of none: nothing.
    fn percentile(&self, share: f64) -> Duration {
        let rank = (self.recoveries.len() as f64 * share).ceil() as usize;
        let found = self.recoveries.get(rank.saturating_sub(1));
        found.copied().unwrap_or_default()
    }
}

/// Statements that make the table, in several files, so that every worker has something to read.
fn table() -> String {
    let mut sql = "CREATE TABLE numbers (n bigint, bucket bigint, text varchar)".to_owned();
    let parts = 6;
    for part in 0..parts {
        let (from, to) = (part * ROWS / parts + 1, (part + 1) * ROWS / parts);
        sql += &format!(
            "; INSERT INTO numbers SELECT value, value % 1000, md5(CAST(value AS varchar)) \
             FROM generate_series({from}, {to})"
        );
    }
    sql
}

/// `drumline sql` that spreads the statement over all workers.
fn spread(statement: &str) -> [&str; 7] {
    [
        "sql",
        "-o",
        "json",
        "--settings",
        "drumline.bytes_per_task=1",
        "-c",
        statement,
    ]
}

/// The query's answer, among what else was said.
fn check_answer(said: &str) -> Result<()> {
    let row = said
        .lines()
        .find(|line| line.starts_with('{'))
        .with_context(|| format!("no answer: {said}"))?;
    let row = serde_json::from_str(row)?;
    expect(&row, "total", ROWS * (ROWS + 1) / 2)?;
    expect(&row, "texts", ROWS)
}

fn expect(row: &serde_json::Value, column: &str, value: u64) -> Result<()> {
    ensure!(
        row[column] == value,
        "wrong answer: {column} is {} and not {value}",
        row[column]
    );
    Ok(())
}
