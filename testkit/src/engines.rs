//! Other engines' view of Delta tables: deltalake, Polars and DuckDB, at pinned versions.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::kafka::cache_folder;

/// The pinned versions; `xtask setup` reads the same file.
const REQUIREMENTS: &str = include_str!("../engines.requirements");

const SCRIPT: &str = include_str!("engines.py");

const CONFORM: &str = include_str!("conform.py");

/// The rows of a table as each engine reads them, sorted by `n`, every value as text.
pub fn read(table: &Path) -> Result<BTreeMap<String, Vec<Value>>> {
    Ok(serde_json::from_slice(&call("read", Some(table))?)?)
}

/// Makes a table with deltalake: every type, partitions, two commits. Answers with its rows.
pub fn make(table: &Path) -> Result<Vec<Value>> {
    call("make", Some(table))?;
    Ok(serde_json::from_slice(&call("rows", None)?)?)
}

/// Appends a row to what [`make`] made.
pub fn append(table: &Path) -> Result<()> {
    call("append", Some(table)).map(drop)
}

/// Columns `_partition`, `_offset` and `n` of every row of a table: a Delta table as deltalake reads its log, a
/// plain one as pyarrow finds files in folders. Null where a column is missing.
pub fn origins(table: &Path, is_delta: bool) -> Result<Vec<(i32, i64, Option<i64>)>> {
    let what = match is_delta {
        true => "origins-delta",
        false => "origins-folder",
    };
    Ok(serde_json::from_slice(&call(what, Some(table))?)?)
}

/// Gives the files of the conformance suite to DuckDB; an error names each record that it answers otherwise.
pub fn conform(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder).context("no conformance suite")? {
        files.push(file?.path());
    }
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    let arguments = std::iter::once(PathBuf::from("check")).chain(files);
    run_script(CONFORM, arguments).map(drop)
}

fn call(what: &str, table: Option<&Path>) -> Result<Vec<u8>> {
    let table = table.map(Path::as_os_str);
    run_script(SCRIPT, std::iter::once(OsStr::new(what)).chain(table))
        .with_context(|| format!("other engines cannot {what}"))
}

/// What a Python script that has the engines prints; its error is what it says of itself.
pub fn run_script(
    script: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Vec<u8>> {
    let output = Command::new(python()?)
        .args(["-I", "-c", script])
        .args(arguments)
        .output()
        .context("cannot run python")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// The interpreter that has them.
fn python() -> Result<PathBuf> {
    let folder = cache_folder()?.join("engines");
    let there = std::fs::read_to_string(folder.join("ready")).unwrap_or_default();
    ensure!(
        there == REQUIREMENTS,
        "deltalake, Polars and DuckDB are not in {}: run `cargo xtask setup`",
        folder.display()
    );
    Ok(folder.join("bin/python"))
}
