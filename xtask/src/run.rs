//! Running other programs, in the workspace's folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A program in the environment of whoever called us. What `cargo run` adds to ours (`CARGO_PKG_NAME`,
/// `CARGO_MANIFEST_DIR` …) would make the build scripts that look at it run again, and all above them build
/// again, each time a build by hand follows one of ours.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let from_cargo = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if from_cargo {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program with its output passed on; fails unless it succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(program, arguments, &[])
}

/// [`run`], with something more in the environment.
pub(crate) fn run_with(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<()> {
    run_in(&root(), program, arguments, environment)
}

/// [`run_with`], in another folder.
pub(crate) fn run_in(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<()> {
    let status = command(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        status.success(),
        "`{program} {}` failed ({status})",
        arguments.join(" ")
    );
    Ok(())
}

/// Runs cargo, the one that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(&cargo_path(), arguments)
}

pub(crate) fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// What a program prints on stdout; fails unless it succeeds.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program)
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).with_context(|| format!("{program} does not print UTF-8"))
}

/// All that a program prints, where it is there and succeeds; quiet otherwise.
pub(crate) fn probe(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // Java tells its version on stderr.
    let text = [output.stdout, output.stderr].concat();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&text).into_owned())
}
