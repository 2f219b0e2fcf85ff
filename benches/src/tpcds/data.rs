//! The 24 tables as Parquet files, generated once per scale and kept.

use std::path::Path;

use anyhow::{Context, Result};
use drumline_testkit::engines;

/// The tables, each a folder of Parquet files.
pub const TABLES: [&str; 24] = [
    "call_center",
    "catalog_page",
    "catalog_returns",
    "catalog_sales",
    "customer",
    "customer_address",
    "customer_demographics",
    "date_dim",
    "household_demographics",
    "income_band",
    "inventory",
    "item",
    "promotion",
    "reason",
    "ship_mode",
    "store",
    "store_returns",
    "store_sales",
    "time_dim",
    "warehouse",
    "web_page",
    "web_returns",
    "web_sales",
    "web_site",
];

const SCRIPT: &str = include_str!("generate.py");

/// Generates the tables under `folder`, unless they are there already.
///
/// A whole folder is renamed into place last: a run that was cut off leaves nothing that looks done.
pub fn generate(scale: f64, folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let staging = folder.with_extension("partial");
    if staging.exists() {
        std::fs::remove_dir_all(&staging)?;
    }
    std::fs::create_dir_all(&staging)?;
    call(&["data", &scale.to_string(), &staging.display().to_string()])?;
    std::fs::rename(&staging, folder).context("cannot move the generated data into place")
}

/// What the script prints.
pub(super) fn call(arguments: &[&str]) -> Result<Vec<u8>> {
    engines::run_script(SCRIPT, arguments)
        .with_context(|| format!("duckdb cannot make {arguments:?}"))
}
