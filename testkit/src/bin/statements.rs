//! Random statements, compared with what DuckDB answers. `statements [--seeds N] [--from SEED]`
//!
//! Seeds take turns on clusters of one, two and four workers. Each prints a line, so that a run that was stopped can go
//! on with `--from`; what differs is told at once and counted at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use drumline_testkit::statements;

const WORKERS: [usize; 3] = [1, 2, 4];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut given = std::env::args().skip(1);
    let (mut seeds, mut from) = (20, 0);
    while let Some(name) = given.next() {
        let number = match name.as_str() {
            "--seeds" => &mut seeds,
            "--from" => &mut from,
            other => bail!("unknown argument {other}: statements [--seeds N] [--from SEED]"),
        };
        let value = given
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        *number = value.parse().with_context(|| name.clone())?;
    }
    let started = Instant::now();
    let mut clusters = Vec::new();
    for workers in WORKERS {
        clusters.push((workers, statements::cluster(workers)?));
    }
    let turns = clusters.iter().cycle().skip(from as usize % WORKERS.len());
    let mut failed = 0_u64;
    for (seed, (workers, cluster)) in (from..from + seeds).zip(turns) {
        match statements::run(cluster, seed) {
            Ok(report) => println!("seed {seed}, {workers} workers: {report}"),
            Err(error) => {
                failed += 1;
                println!("seed {seed}, {workers} workers: DIFFERS\n{error:#}");
            }
        }
    }
    println!(
        "{seeds} seeds in {:.0?}, {failed} with a difference",
        started.elapsed()
    );
    ensure!(failed == 0, "{failed} of {seeds} seeds differ from DuckDB");
    Ok(())
}
