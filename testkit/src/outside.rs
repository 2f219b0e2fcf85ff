//! Another engine's view of a lake: pyarrow reads the bare files, without our log.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::kafka::cache_folder;

/// The pinned version; `xtask setup` reads the same file.
const PYARROW: &str = include_str!("../pyarrow.version").trim_ascii();

const SCRIPT: &str = include_str!("outside.py");

/// What pyarrow finds under a table's `month=/day=/hour=` folders.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BareFolder {
    /// Rows in all files.
    pub rows: u64,
    /// Parquet files.
    pub files: u64,
    /// Folders that hold a file.
    pub hours: u64,
    /// Rows whose `_topic, _partition, _offset` came before.
    pub twice: u64,
    /// Anything that is no Parquet file in such a folder.
    pub misplaced: Vec<String>,
    /// Distinct values of the columns asked for, nulls and empty texts left out.
    pub distinct: std::collections::BTreeMap<String, u64>,
}

/// Reads a folder with pyarrow.
pub fn read_bare_folder(folder: &Path, columns: &[&str]) -> Result<BareFolder> {
    let output = Command::new(python()?)
        .args(["-I", "-c", SCRIPT])
        .arg(folder)
        .args(columns)
        .output()
        .context("cannot run python")?;
    ensure!(
        output.status.success(),
        "pyarrow cannot read {}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn python() -> Result<PathBuf> {
    let folder = cache_folder()?.join(format!("pyarrow-{PYARROW}"));
    ensure!(
        folder.join("ready").exists(),
        "pyarrow {PYARROW} is not in {}: run `cargo xtask setup`",
        folder.display()
    );
    Ok(folder.join("bin/python"))
}
