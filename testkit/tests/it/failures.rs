//! What goes wrong without anybody being killed: a worker that cannot do its work, a job that stands still, a client
//! that does not read.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::gcs::{Effect, Gcs, Operation};
use drumline_testkit::{Cluster, poll};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: u64 = 4 * 999;

/// A table of four files, so that each of two workers has something to read.
fn four_files(table: &str) -> String {
    let rows = |part: u32| format!("SELECT value AS n FROM generate_series({part}001, {part}999)");
    let first = format!("CREATE TABLE {table} AS {}", rows(1));
    let more = (2..=4).map(|part| format!("; INSERT INTO {table} {}", rows(part)));
    std::iter::once(first).chain(more).collect()
}

/// Every scan is read by all workers.
const SPREAD: [&str; 2] = ["--settings", "drumline.bytes_per_task=1"];

#[test]
fn a_worker_whose_tasks_keep_failing_is_set_aside_and_says_why() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 1,
        lake: Some("gs://bucket/lake".to_owned()),
        environment: gcs.environment(),
        ..Options::default()
    })
    .unwrap();
    cluster.sql(&four_files("numbers")).unwrap();
    // A worker to which the store's door is closed.
    let closed = Gcs::start(&["bucket"]).unwrap();
    let refusing = closed
        .faults()
        .plant(Effect::StatusBefore(400), u64::MAX, |_| true);
    let broken = cluster.start_worker_with(&closed.environment()).unwrap();
    poll("the worker joins", PATIENCE, || {
        let joined = cluster.worker(broken)?.log().contains("joined the cluster");
        Ok(joined.then_some(()))
    })
    .unwrap();

    let sql = "SELECT count(*) AS rows, sum(n) AS total FROM numbers";
    let mut attempts = 0;
    let seen = poll("the worker is set aside", PATIENCE, || {
        let output = cluster.run(&[&["sql", "-o", "json", "-c", sql], &SPREAD[..]].concat())?;
        // Whoever asks gets an answer all the same.
        let answer = rows(&output)?;
        assert_eq!(answer[0]["rows"], ROWS, "{answer:?}");
        attempts += 1;
        let workers = cluster.run(&["workers", "-o", "json"])?;
        let shown = String::from_utf8_lossy(&workers.stdout).into_owned();
        Ok(shown.contains("set_aside").then_some(shown))
    })
    .unwrap();
    println!("after {attempts} queries: {seen}");
    assert!(attempts >= 3, "one failure is none");
    let table = cluster.run(&["workers"]).unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    println!("{table}");
    let line = table
        .lines()
        .find(|line| line.contains("worker-2"))
        .unwrap();
    assert!(line.contains("set_aside"), "{table}");
    assert!(
        line.len() > table.lines().next().unwrap().trim_end().len(),
        "no reason: {table}"
    );
    // The others go on without it.
    let output = cluster
        .run(&[&["sql", "-o", "json", "-c", sql], &SPREAD[..]].concat())
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(rows(&output).unwrap()[0]["rows"], ROWS);
    assert!(!said.contains("attempt"), "{said}");
    assert!(refusing.fired() >= 3);
}

#[test]
fn a_job_that_stands_still_is_tried_again_and_answered() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let cluster = Cluster::start(Options {
        lake: Some("gs://bucket/lake".to_owned()),
        environment: gcs.environment(),
        ..Options::default()
    })
    .unwrap();
    cluster.sql(&four_files("t")).unwrap();
    // A store that takes a file's call and says nothing for a long time.
    let silent = gcs
        .faults()
        .plant(Effect::Delay(Duration::from_secs(100)), 1, |call| {
            call.operation == Operation::Get && call.key.ends_with(".parquet")
        });
    let asked = Instant::now();
    let arguments = [
        "sql",
        "-o",
        "json",
        "-c",
        "SELECT count(*) AS n, sum(n) AS total FROM t",
        "--settings",
        "drumline.stall_limit=3",
    ];
    let output = cluster
        .run(&[&arguments[..], &SPREAD[..]].concat())
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{said}");
    let answer = rows(&output).unwrap();
    assert_eq!(answer[0]["n"], ROWS, "{said}");
    assert_eq!(silent.fired(), 1);
    assert!(
        said.contains("stood still") || said.contains("no progress"),
        "{said}"
    );
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn a_client_that_stops_reading_is_found_and_its_job_ended() {
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Options::default()
    })
    .unwrap();
    let mut client = cluster
        .command()
        .args([
            "sql",
            "-o",
            "csv",
            "--settings",
            "drumline.read_limit=3",
            "-c",
            "SELECT value FROM generate_series(1, 1000000000)",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = client.stdout.take().unwrap();
    let mut some = [0; 4096];
    stdout.read_exact(&mut some).unwrap();
    // And no more.
    let stopped = Instant::now();
    let failed = poll("its job is ended", PATIENCE, || {
        let found = cluster.sql("SELECT error FROM system.applications WHERE state = 'failed'")?;
        Ok(found.into_iter().next())
    })
    .unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(30));
    let Value::Object(failed) = failed else {
        panic!("{failed}");
    };
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("stopped reading"), "{error}");
    // Once it reads on, it hears so, too.
    let rest = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let output = client.wait_with_output().unwrap();
    rest.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped reading"), "{said}");
    assert!(said.contains("drumline.read_limit"), "{said}");
}
