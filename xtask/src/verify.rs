//! `cargo xtask verify`: what CI runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::run::{cargo, cargo_path, output, run, run_with};
use crate::steps::{Step, run_all};
use crate::{imports, page, setup};

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// A cold run on 2 cores stays under 45 minutes.
const STEPS: [Step; 8] = [
    Step {
        name: "setup",
        budget: minutes(4),
        run: setup::setup,
    },
    Step {
        name: "format",
        budget: minutes(1),
        run: || cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "imports",
        budget: minutes(1),
        run: imports::check,
    },
    Step {
        name: "lints",
        budget: minutes(8),
        run: lints,
    },
    Step {
        name: "tests",
        budget: minutes(21),
        run: tests,
    },
    Step {
        name: "tpch",
        budget: minutes(3),
        run: tpch,
    },
    Step {
        name: "page",
        budget: minutes(3),
        run: page,
    },
    Step {
        name: "docs",
        budget: minutes(4),
        run: docs,
    },
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only these steps: setup, format, imports, lints, tests, tpch, page, docs
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
}

pub(crate) fn verify(arguments: &Arguments) -> Result<()> {
    for name in &arguments.only {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("no step {name}: there are {}", names.join(", "));
        }
    }
    let only = &arguments.only;
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect();
    run_all(&chosen)
}

fn lints() -> Result<()> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn tests() -> Result<()> {
    // Tests of the whole path start the binary. Built with all else: alone, it would resolve other
    // features and build DataFusion a second time.
    cargo(&["build", "--workspace", "--all-targets"])?;
    cargo(&["test", "--workspace", "--no-fail-fast"])
}

/// The 22 queries of TPC-H on two workers give what one process gives.
fn tpch() -> Result<()> {
    cargo(&["build", "--workspace", "--all-targets"])?;
    let binary = target_folder()?.join("debug/tpch");
    run(
        &binary.display().to_string(),
        &["--scale", "0.1", "--check"],
    )
}

/// The status page in a browser, served by the binary that was built.
fn page() -> Result<()> {
    cargo(&["build", "--workspace", "--all-targets"])?;
    page::test(&target_folder()?.join("debug/drumline"))
}

/// Where cargo puts what it builds.
fn target_folder() -> Result<PathBuf> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata = output(&cargo_path(), &arguments)?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    match metadata["target_directory"].as_str() {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => bail!("cargo does not say where its target folder is"),
    }
}

fn docs() -> Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps"];
    run_with(
        &cargo_path(),
        &arguments,
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::root;

    #[test]
    fn a_cold_run_stays_under_45_minutes() {
        let budget: Duration = STEPS.iter().map(|step| step.budget).sum();
        assert!(budget <= minutes(45), "{budget:?}");
    }

    #[test]
    fn ci_runs_the_command_that_the_readme_gives() {
        let command = "cargo xtask verify";
        for file in ["README.md", ".ci/run"] {
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            assert!(text.contains(command), "{file} does not say `{command}`");
        }
    }
}
