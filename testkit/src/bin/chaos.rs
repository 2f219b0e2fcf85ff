//! `cargo xtask chaos master`: kills masters, seed after seed, and says how long they took to be back.

use std::process::ExitCode;

use anyhow::{Context, Result};
use drumline_testkit::chaos::{self, Load};

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
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        arguments.next().map_or(Ok(default), |text| {
            text.parse()
                .with_context(|| format!("`{text}` is no number"))
        })
    };
    let (seeds, from) = (number(20)?, number(0)?);
    let kafka = chaos::example_broker()?;
    let mut accepting = Vec::new();
    for seed in from..from + seeds {
        let round = chaos::kill_master(seed, Load::default(), &kafka)
            .with_context(|| format!("seed {seed}; again with --from-seed {seed}"))?;
        println!("seed {seed}: {round}");
        accepting.push(round.accepting);
    }
    accepting.sort();
    let at = |percent: usize| accepting.get((accepting.len() * percent).div_ceil(100).max(1) - 1);
    if let (Some(p50), Some(p99)) = (at(50), at(99)) {
        println!("{seeds} seeds: accepting again after p50 {p50:.1?}, p99 {p99:.1?}");
    }
    Ok(())
}
