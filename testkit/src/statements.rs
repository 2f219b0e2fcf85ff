//! Random statements on a cluster and on DuckDB: whether both answer alike, and leave the same rows.
//!
//! A seed is four tables of a few to many rows and a dozen statements on them, reads and writes, as
//! `statements.py` makes them. Each runs with another number of bytes for a task, so that scans are shared, read by one
//! worker or by the master, as it comes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Cluster, Options, rows};
use crate::engines::run_script;

const SCRIPT: &str = include_str!("statements.py");

/// What failures that are no refusals say.
const FAULTS: [&str; 3] = ["internal error", "panicked", "unexpected state"];

const NINE_DIGITS: u64 = 1_000_000_000;

/// How many of the rows that differ are shown.
const SHOWN: usize = 4;

/// What a seed was.
#[derive(Debug, Default)]
pub struct Report {
    /// Statements that were taken, reads among them.
    pub statements: u64,
    /// Answers that were compared.
    pub answers: u64,
    /// Rows of these.
    pub rows: u64,
    /// Statements that both refused.
    pub refused: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            statements,
            answers,
            rows,
            refused,
        } = self;
        write!(
            f,
            "{statements} statements, {answers} answers of {rows} rows, {refused} refused by both"
        )
    }
}

#[derive(Debug, Deserialize)]
struct Step {
    sql: String,
    bytes_per_task: Option<u64>,
    rows: Option<Vec<BTreeMap<String, Value>>>,
    #[serde(default)]
    ordered: bool,
    refused: Option<String>,
}

/// A cluster of so many workers to run statements on.
pub fn cluster(workers: usize) -> Result<Cluster> {
    Cluster::start(Options {
        workers,
        ..Options::default()
    })
}

/// Runs the statements of a seed. The error is the first difference.
pub fn run(cluster: &Cluster, seed: u64) -> Result<Report> {
    let steps = run_script(SCRIPT, [seed.to_string()]).context("DuckDB")?;
    let steps: Vec<Step> = serde_json::from_slice(&steps)?;
    let mut report = Report::default();
    for step in steps {
        let set = step.bytes_per_task;
        let set = set.map_or_else(String::new, |bytes| {
            format!("SET drumline.bytes_per_task = {bytes}; ")
        });
        let sql = format!("{set}{}", step.sql);
        let output = cluster.run(&["sql", "--quiet", "-o", "json", "-c", &sql])?;
        match (rows(&output), &step.refused) {
            (Err(error), Some(_)) => {
                refusal(&output).with_context(|| format!("{sql}\n{error:#}"))?;
                report.refused += 1;
            }
            (Err(error), None) => bail!("{sql}\nis refused by Drumline alone: {error:#}"),
            (Ok(_), Some(reason)) => bail!("{sql}\nis refused by DuckDB alone: {reason}"),
            (Ok(found), None) => {
                report.statements += 1;
                if let Some(expected) = step.rows {
                    report.answers += 1;
                    report.rows += expected.len() as u64;
                    compare(found, expected, step.ordered).with_context(|| sql)?;
                }
            }
        }
    }
    Ok(report)
}

/// Fails unless the statement was refused: a fault of ours is no refusal.
fn refusal(output: &Output) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
    ensure!(
        matches!(output.status.code(), Some(1 | 2))
            && !FAULTS.iter().any(|fault| told.contains(fault)),
        "fails, where DuckDB refuses it"
    );
    Ok(())
}

/// Fails unless both have the same rows, in the same order where there is one.
fn compare(found: Vec<Value>, expected: Vec<BTreeMap<String, Value>>, ordered: bool) -> Result<()> {
    let found: Vec<BTreeMap<String, Value>> = serde_json::from_value(Value::Array(found))?;
    let found: Vec<String> = found.iter().map(canonical).collect();
    let expected: Vec<String> = expected.iter().map(canonical).collect();
    let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
    for row in &found {
        *counts.entry(row).or_default() += 1;
    }
    for row in &expected {
        *counts.entry(row).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    if counts.is_empty() {
        let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
        return match differs.filter(|_| ordered) {
            Some(row) => bail!("row {row} is {}, not {}", found[row], expected[row]),
            None => Ok(()),
        };
    }
    let mut told = String::new();
    for (whose, sign) in [("Drumline", 1), ("DuckDB", -1)] {
        let more = counts.iter().filter(|(_, count)| count.signum() == sign);
        let all: i64 = more.clone().map(|(_, count)| count.abs()).sum();
        writeln!(told, "{all} rows of {whose} alone:")?;
        for (row, count) in more.take(SHOWN) {
            writeln!(told, "  {}x {row}", count.abs())?;
        }
    }
    bail!("{told}")
}

/// A row in one way of writing: whole numbers as they are, others to nine digits, however an engine types them.
fn canonical(row: &BTreeMap<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in row {
        // Sums of whole numbers are wider in DuckDB, averages of decimals narrower.
        let number = match value {
            // Nine digits are all of a smaller one, which may be a double in one engine.
            Value::Number(number)
                if number
                    .as_i64()
                    .is_some_and(|n| n.unsigned_abs() >= NINE_DIGITS) =>
            {
                None
            }
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let value = match number {
            // Minus zero is zero.
            Some(number) => format!("{:.8e}", number + 0.0),
            None => value.to_string(),
        };
        text.push_str(name);
        text.push('=');
        text.push_str(&value);
        text.push(' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differs(found: Value, expected: Value) -> Option<String> {
        let found = serde_json::from_value(found).unwrap();
        let expected = serde_json::from_value(expected).unwrap();
        compare(found, expected, false)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn an_order_is_compared_where_there_is_one() {
        let rows = [json!({ "a": 1 }), json!({ "a": 2 })];
        let turned = || vec![rows[1].clone(), rows[0].clone()];
        let expected = || serde_json::from_value(json!(rows)).unwrap();
        assert!(compare(turned(), expected(), false).is_ok());
        let told = compare(turned(), expected(), true).unwrap_err().to_string();
        assert!(told.starts_with("row 0 is a=2"), "{told}");
    }

    #[test]
    fn rows_are_compared_as_often_as_they_come() {
        let one = json!([{ "a": 1, "b": null }, { "a": 2.5, "b": "x" }]);
        let turned = json!([{ "b": "x", "a": "2.50" }, { "a": 1.0, "b": null }]);
        assert_eq!(differs(one.clone(), turned), None);
        let twice = json!([{ "a": 1, "b": null }, { "a": 1, "b": null }, { "a": 2.5, "b": "x" }]);
        let told = differs(twice, one.clone()).unwrap();
        assert!(
            told.contains("1 rows of Drumline alone:\n  1x a=1"),
            "{told}"
        );
        let told = differs(json!([]), one).unwrap();
        assert!(told.contains("2 rows of DuckDB alone"), "{told}");
    }

    #[test]
    fn whole_numbers_are_compared_to_the_last_digit() {
        let of = |number: i64| json!([{ "a": number }]);
        assert_eq!(
            differs(of(4_503_599_627_370_497), of(4_503_599_627_370_497)),
            None
        );
        assert!(differs(of(4_503_599_627_370_497), of(4_503_599_627_370_496)).is_some());
        assert_eq!(
            differs(json!([{ "a": 999_999_999.0 }]), of(999_999_999)),
            None
        );
    }

    #[test]
    fn null_is_no_value() {
        for other in [json!(0), json!(""), json!("null"), json!(false)] {
            let null = json!([{ "a": null }]);
            assert!(differs(null, json!([{ "a": other }])).is_some(), "{other}");
        }
    }
}
