//! Steps with a time budget each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// One thing to check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What it may take on 2 cores with nothing built.
    pub(crate) budget: Duration,
    pub(crate) run: fn() -> Result<()>,
}

/// Runs all steps, whatever fails; prints a table of times and fails if one failed.
pub(crate) fn run_all(steps: &[&Step]) -> Result<()> {
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    let started = Instant::now();
    for step in steps {
        eprintln!("\n== {}", step.name);
        let began = Instant::now();
        let outcome = (step.run)();
        let took = began.elapsed();
        let word = match &outcome {
            Ok(()) if took > step.budget => "ok, over budget",
            Ok(()) => "ok",
            Err(_) => "FAILED",
        };
        if let Err(error) = outcome {
            eprintln!("{}: {error:#}", step.name);
            failed.push(step.name);
        }
        lines.push(format!(
            "{:<10} {:>9} of {:>9}  {word}",
            step.name,
            minutes(took),
            minutes(step.budget)
        ));
    }
    let budget: Duration = steps.iter().map(|step| step.budget).sum();
    eprintln!("\n{}", lines.join("\n"));
    eprintln!(
        "{:<10} {:>9} of {:>9}",
        "all",
        minutes(started.elapsed()),
        minutes(budget)
    );
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn minutes(time: Duration) -> String {
    format!("{}m {:02}s", time.as_secs() / 60, time.as_secs() % 60)
}
