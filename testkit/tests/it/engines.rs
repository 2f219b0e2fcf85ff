//! Tables that we make, read by others; tables that others make, read and written by us.

use std::path::Path;

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, engines};
use serde_json::Value;

/// Rows as the other engines tell them.
const COLUMNS: &str = "n, part, CAST(money AS VARCHAR) AS money,
    replace(CAST(zoned AS VARCHAR), 'T', ' ') AS zoned, replace(CAST(plain AS VARCHAR), 'T', ' ') AS plain,
    CAST(day AS VARCHAR) AS day, CAST(x AS VARCHAR) AS x, encode(raw, 'hex') AS raw, tags, pair, yes";

fn told(cluster: &Cluster, table: &str) -> Vec<Value> {
    let sql = format!("SELECT {COLUMNS} FROM {table} ORDER BY n");
    let rows = cluster.sql(&sql).unwrap();
    rows.into_iter().map(|row| normal(&row)).collect()
}

/// Where engines write the same value differently: fractions of seconds, case of NaN, nulls left out.
fn normal(row: &Value) -> Value {
    let mut normal = row.clone();
    for column in ["zoned", "plain"] {
        if let Some(text) = row[column].as_str() {
            let text = text.trim_end_matches('Z');
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            normal[column] = format!("{seconds}.{fraction:0<6}").into();
        }
    }
    if let Some(text) = row["x"].as_str() {
        let value: f64 = text.parse().unwrap();
        normal["x"] = format!("{value:?}").into();
    }
    without_nulls(&normal)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

fn assert_same(found: &[Value], expected: &[Value], who: &str) {
    let expected: Vec<Value> = expected.iter().map(normal).collect();
    let found: Vec<Value> = found.iter().map(normal).collect();
    assert_eq!(found.len(), expected.len(), "{who}: {found:#?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{who}");
    }
}

#[test]
fn every_value_survives_between_engines() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let lake = Path::new(cluster.lake()).to_owned();
    let theirs = lake.join("theirs");
    let rows = engines::make(&theirs).unwrap();
    let sql = |sql: &str| cluster.sql(sql).unwrap();

    // Theirs, read by us: without taking it over first.
    let location = theirs.display();
    sql(&format!(
        "CREATE EXTERNAL TABLE theirs STORED AS DELTA LOCATION '{location}'"
    ));
    assert_same(&told(&cluster, "theirs"), &rows, "drumline reads theirs");
    engines::append(&theirs).unwrap();
    assert_eq!(told(&cluster, "theirs").len(), rows.len() + 1);
    assert_eq!(told(&cluster, "theirs VERSION AS OF 0").len(), 2);

    // Ours, read by them, after a change and a new column.
    sql(
        "CREATE TABLE ours PARTITIONED BY (part) AS SELECT n, money, zoned, plain, day, x, raw, tags, pair, yes, part
         FROM theirs VERSION AS OF 1; INSERT INTO ours (n) VALUES (9); DELETE FROM ours WHERE n = 9",
    );
    let ours = lake.join("default/ours");
    assert_same(&told(&cluster, "ours"), &rows, "drumline reads ours");
    for (engine, found) in engines::read(&ours).unwrap() {
        assert_same(&found, &rows, &format!("{engine} reads ours"));
    }

    // Theirs, taken over: both write it in turn.
    sql(
        "DROP TABLE theirs; CREATE TABLE theirs LOCATION 'theirs'; INSERT INTO theirs SELECT * FROM theirs WHERE n = 1",
    );
    engines::append(&theirs).unwrap();
    sql("INSERT INTO theirs (n, part, x) VALUES (7, 'new', -0.5)");
    let expected = told(&cluster, "theirs");
    assert_eq!(expected.len(), rows.len() + 4, "{expected:#?}");
    for (engine, found) in engines::read(&theirs).unwrap() {
        let mut found: Vec<Value> = found.iter().map(normal).collect();
        found.sort_by_key(|row| (row["n"].as_i64(), row.to_string()));
        let mut expected = expected.clone();
        expected.sort_by_key(|row| (row["n"].as_i64(), row.to_string()));
        assert_same(&found, &expected, &format!("{engine} reads theirs"));
    }
}

/// `engine/tests/it/conformance.rs` asks the same of us.
#[test]
fn the_conformance_suite_says_what_duckdb_answers() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/conformance");
    engines::conform(&suite).unwrap();
    // The check can fail.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.slt");
    std::fs::write(&wrong, "query\nSELECT 1\n----\n2\n").unwrap();
    let refused = engines::conform(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("1 differ"), "{refused}");
}
