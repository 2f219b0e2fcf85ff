//! A worker that is asked to leave finishes what it has, and nobody notices.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use drumline_testkit::cluster::Options;
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use drumline_testkit::{Cluster, Kafka, poll};
use nix::sys::signal::Signal;

use crate::consumer::assert_bare_folders_hold_the_example;
use crate::queries::{QUERY, assert_answer, cpu_ticks, with_numbers};

const PATIENCE: Duration = Duration::from_secs(120);
const ROWS: u64 = 3_000_000;

/// Starts the query, and asks a worker to leave while it computes for it.
fn leave_in_the_middle(ask: impl FnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    with_numbers(&cluster, ROWS);
    let mut query = cluster
        .spawn("query", &["sql", "-o", "json", "-c", QUERY])
        .unwrap();
    let pid = cluster.worker(0).unwrap().pid();
    let before = cpu_ticks(pid);
    let until = Instant::now() + Duration::from_secs(30);
    while cpu_ticks(pid) < before + 20 {
        assert!(query.is_running(), "too early an end: {}", query.log());
        assert!(Instant::now() < until, "no task runs on the worker");
        std::thread::yield_now();
    }
    ask(&mut cluster);
    assert!(query.is_running(), "too early an end: {}", query.log());
    let status = query.wait(PATIENCE).unwrap();
    let said = query.log();
    assert!(status.success(), "{said}");
    let row = said.lines().find(|line| line.starts_with('{')).unwrap();
    assert_answer(&[serde_json::from_str(row).unwrap()], ROWS);
    assert!(!said.contains("attempt"), "it was tried again: {said}");
    let worker = cluster.worker(0).unwrap();
    let status = worker.wait(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{status}: {}", worker.log());
    assert!(
        worker.log().contains("nothing runs here any more"),
        "{}",
        worker.log()
    );
    // The other one goes on alone.
    assert_answer(&cluster.sql(QUERY).unwrap(), ROWS);
}

#[test]
fn a_query_over_the_sigterm_of_a_worker_is_answered_without_a_retry() {
    leave_in_the_middle(|cluster| {
        cluster.worker(0).unwrap().signal(Signal::SIGTERM).unwrap();
    });
}

#[test]
fn a_worker_is_drained_from_the_command_line() {
    let refused = |cluster: &Cluster| {
        let output = cluster.run(&["worker", "drain", "nobody"]).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("nobody"), "{said}");
    };
    leave_in_the_middle(|cluster| {
        refused(cluster);
        let output = cluster.run(&["worker", "drain", "worker-1"]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    });
}

#[test]
fn a_worker_that_leaves_commits_what_its_streams_have_read() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    // Nothing is committed by itself for as long as this test takes.
    let interval = Duration::from_secs(600);
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), interval).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    // On a busy machine it takes a while until something of every partition waits for its commit.
    let is_read = |cluster: &Cluster, by: usize| {
        let status = cluster.run(&["stream", "status", "beatlytica", "-o", "json"])?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
        let partitions = status["partitions"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let waits = partitions
            .iter()
            .all(|it| it["lag_millis"].as_i64() >= Some(0) && it["worker"] != "");
        let workers: BTreeSet<&str> = partitions
            .iter()
            .filter_map(|it| it["worker"].as_str())
            .collect();
        Ok((waits && workers.len() == by).then_some(()))
    };
    poll("the stream is read", PATIENCE, || is_read(&cluster, 2)).unwrap();
    assert_eq!(
        cluster
            .number("SELECT count(*) FROM page_view_events")
            .unwrap(),
        0
    );
    let leave = |cluster: &mut Cluster, worker: usize| {
        let worker = cluster.worker(worker).unwrap();
        let status = worker.terminate(Duration::from_secs(45)).unwrap();
        assert!(status.success(), "{status}: {}", worker.log());
    };
    leave(&mut cluster, 0);
    let part = cluster
        .number("SELECT count(*) FROM page_view_events")
        .unwrap();
    assert!(part > 0, "what it had read is committed");
    // The other one goes on where the tables say.
    poll("the other one reads", PATIENCE, || is_read(&cluster, 1)).unwrap();
    let rows = |cluster: &Cluster| {
        let tables = EXAMPLE_TOPICS.iter();
        let count =
            |(table, _): &(&str, _)| cluster.number(&format!("SELECT count(*) FROM {table}"));
        tables.map(|topic| count(topic).unwrap()).sum::<i64>()
    };
    let before = rows(&cluster);
    leave(&mut cluster, 1);
    assert!(rows(&cluster) > before, "so is what the other one had read");
    cluster.start_worker().unwrap();
    // On a busy machine neither may have come to the end: the rest is committed soon.
    let soon = Duration::from_millis(400);
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), soon).unwrap())
        .unwrap();
    // The parts are all: nothing was left open, nothing was read twice.
    cluster.wait_for_example(PATIENCE).unwrap();
    assert_bare_folders_hold_the_example(Path::new(cluster.lake()));
}
