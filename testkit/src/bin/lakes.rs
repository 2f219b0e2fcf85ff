//! Chaos of the lake: writers that die and a store that fails; and many writers at once.
//!
//! `lakes lake [--seeds N] [--from SEED] [--landing SECONDS] [--no-minute]`. Each seed is a table, a statement and a
//! fault, and prints a line, so that a run that was stopped can go on with `--from`. A seed whose fault did not fire
//! is done again under another number. At the end stands how often each pair of step and fault was seen.
//!
//! `lakes writers [--seconds N]`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drumline_testkit::lakes::bench::Bench;
use drumline_testkit::lakes::plan::{Fault, PAIRS, Plan, Step};
use drumline_testkit::lakes::seed::{self, Timing};
use drumline_testkit::lakes::writers;

/// Seeds that one cluster serves: its history stays small, and what one seed breaks does not last.
const SEEDS_PER_CLUSTER: u32 = 10;

/// Times that a seed is done again because its fault did not fire.
const AGAIN: u64 = 3;

struct Arguments {
    seeds: u64,
    from: u64,
    landing: Duration,
    minute: bool,
    seconds: Duration,
}

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
    let scenario = given.next().unwrap_or_default();
    let mut arguments = Arguments {
        seeds: 200,
        from: 0,
        landing: Duration::from_secs(5),
        minute: true,
        seconds: Duration::from_secs(60),
    };
    while let Some(name) = given.next() {
        if name == "--no-minute" {
            arguments.minute = false;
            continue;
        }
        let value = given
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        let number: u64 = value.parse().with_context(|| name.clone())?;
        match name.as_str() {
            "--seeds" => arguments.seeds = number,
            "--from" => arguments.from = number,
            "--seconds" => arguments.seconds = Duration::from_secs(number),
            "--landing" => arguments.landing = Duration::from_secs(number),
            other => bail!("unknown argument {other}"),
        }
    }
    match scenario.as_str() {
        "lake" => lake(&arguments),
        "writers" => {
            println!("{}", writers::run(arguments.seconds)?);
            Ok(())
        }
        _ => bail!(
            "usage: lakes lake [--seeds N] [--from SEED] [--landing SECONDS] [--no-minute], or lakes writers \
             [--seconds N]"
        ),
    }
}

fn lake(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut counts: BTreeMap<(Step, Fault), u64> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut bench: Option<(Bench, u32)> = None;
    for number in arguments.from..arguments.from + arguments.seeds {
        let mut done = false;
        for again in 0..=AGAIN {
            // The same pair, another statement.
            let seed = number + again * 1000 * PAIRS.len() as u64;
            let plan = Plan {
                real_minute: arguments.minute && is_the_minute(number),
                ..Plan::of(seed)
            };
            match one(&mut bench, &plan, arguments.landing) {
                Ok(Some(report)) => {
                    println!("seed {seed}: {plan}: {report}");
                    *counts.entry((plan.step, plan.fault)).or_default() += 1;
                    done = true;
                    break;
                }
                Ok(None) => println!("seed {seed}: {plan}: the fault did not fire"),
                Err(error) => {
                    println!("seed {seed}: {plan}: FAILED");
                    eprintln!("seed {seed}: {plan}: {error:#}");
                    failures.push(format!("seed {seed}: {plan}: {}", error.root_cause()));
                    bench = None;
                    done = true;
                    break;
                }
            }
        }
        if !done {
            failures.push(format!("seed {number}: its fault never fired"));
        }
    }
    println!("\n{:<12} {:<24} seeds", "step", "fault");
    for (step, fault) in PAIRS {
        let count = counts.get(&(step, fault)).copied().unwrap_or_default();
        println!(
            "{:<12} {:<24} {count}",
            format!("{step:?}"),
            format!("{fault:?}")
        );
    }
    println!(
        "{} seeds in {:.0?}, {} failed",
        counts.values().sum::<u64>() + failures.len() as u64,
        started.elapsed(),
        failures.len()
    );
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// One seed of a run waits for as long as it takes in the world.
fn is_the_minute(seed: u64) -> bool {
    let pair = PAIRS
        .iter()
        .position(|pair| *pair == (Step::Commit, Fault::LandsLater));
    pair == Some(seed as usize)
}

fn one(
    bench: &mut Option<(Bench, u32)>,
    plan: &Plan,
    landing: Duration,
) -> Result<Option<seed::Report>> {
    if plan.real_minute {
        let mut bench = Bench::start(None)?;
        return seed::run(&mut bench, plan, Timing::real());
    }
    let timing = Timing::short(landing);
    if bench
        .as_ref()
        .is_none_or(|(_, used)| *used >= SEEDS_PER_CLUSTER)
    {
        *bench = None;
        *bench = Some((Bench::start(Some(timing.request_timeout))?, 0));
    }
    let (bench, used) = bench.as_mut().context("no cluster")?;
    *used += 1;
    seed::run(bench, plan, timing)
}
