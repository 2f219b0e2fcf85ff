//! Distributed queries: work on both workers, and the right answer when one of them goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use drumline_testkit::Cluster;
use drumline_testkit::cluster::{Options, rows};

const PATIENCE: Duration = Duration::from_secs(120);

/// A table of some 100 MB whose sums are known.
pub(crate) fn with_numbers(cluster: &Cluster, rows: u64) {
    cluster
        .sql(&format!(
            "CREATE TABLE numbers AS SELECT value AS n, value % 1000 AS bucket, \
             md5(CAST(value AS varchar)) AS text FROM generate_series(1, {rows})"
        ))
        .unwrap();
}

pub(crate) const QUERY: &str = "SELECT count(*) AS buckets, sum(total) AS total, sum(texts) AS texts FROM (\
     SELECT a.bucket, sum(a.n) AS total, count(DISTINCT b.text) AS texts \
     FROM numbers a JOIN numbers b ON a.n = b.n GROUP BY a.bucket)";

pub(crate) fn assert_answer(rows: &[serde_json::Value], count: u64) {
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["buckets"], 1000, "{rows:?}");
    assert_eq!(rows[0]["total"], count * (count + 1) / 2, "{rows:?}");
    assert_eq!(rows[0]["texts"], count, "{rows:?}");
}

#[test]
fn a_large_query_runs_on_both_workers_and_exchanges_rows() {
    let cluster = Cluster::start(Options::default()).unwrap();
    with_numbers(&cluster, 2_000_000);
    let output = cluster
        .run(&["sql", "-o", "json", "--facts", "-c", QUERY])
        .unwrap();
    assert_answer(&rows(&output).unwrap(), 2_000_000);
    let facts = String::from_utf8(output.stderr).unwrap();
    let workers: BTreeSet<&str> = facts
        .split_whitespace()
        .filter(|word| word.starts_with("worker-"))
        .collect();
    assert_eq!(workers.len(), 2, "{facts}");
    assert!(facts.contains("exchanged"), "{facts}");

    let explain = cluster
        .run(&["sql", "-c", &format!("EXPLAIN {QUERY}")])
        .unwrap();
    let explain = String::from_utf8(explain.stdout).unwrap();
    assert!(explain.contains("tasks=2"), "{explain}");
    assert!(explain.contains("NetworkShuffleExec"), "{explain}");
}

#[test]
fn what_needs_no_exchange_does_not_wait_for_workers() {
    let cluster = Cluster::start(Options {
        workers: 0,
        ..Options::default()
    })
    .unwrap();
    let started = Instant::now();
    cluster
        .sql("CREATE TABLE few AS SELECT value AS n FROM generate_series(1, 100)")
        .unwrap();
    assert_eq!(cluster.number("SELECT sum(n) FROM few").unwrap(), 5050);
    // Each statement that waits for a worker waits this long.
    assert!(started.elapsed() < Duration::from_secs(30));

    let large = cluster.spawn(
        "large",
        &[
            "sql",
            "-c",
            "SET drumline.bytes_per_task = 1; SELECT n % 3, count(*) FROM few GROUP BY 1",
        ],
    );
    let mut large = large.unwrap();
    let waits = "SELECT count(*) FROM system.statements WHERE statement = 2 AND state = 'running'";
    cluster.wait_for_number(waits, 1, PATIENCE).unwrap();
    let runs = "SELECT count(*) FROM system.jobs WHERE statement = 2";
    assert_eq!(cluster.number(runs).unwrap(), 0);
    assert!(large.is_running(), "it waits for a worker");
}

const ROWS: u64 = 3_000_000;

/// Does something to a worker in the middle of a query.
fn answer_survives(what: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    with_numbers(&cluster, ROWS);
    let mut query = cluster
        .spawn("query", &["sql", "--quiet", "-o", "json", "-c", QUERY])
        .unwrap();
    // In the middle: tasks run, because a worker burns processor time.
    let pid = cluster.worker(0).unwrap().pid();
    let before = cpu_ticks(pid);
    let until = Instant::now() + Duration::from_secs(30);
    while cpu_ticks(pid) < before + 20 {
        assert!(
            query.is_running(),
            "the query ended before its fault: {}",
            query.log()
        );
        assert!(Instant::now() < until, "no task runs on the worker");
        std::thread::yield_now();
    }
    what(&mut cluster);
    assert!(
        query.is_running(),
        "the query ended before its fault: {}",
        query.log()
    );
    let status = query.wait(PATIENCE).unwrap();
    assert!(status.success(), "{}", query.log());
    let line = query.log();
    let row = line.lines().find(|line| line.starts_with('{')).unwrap();
    assert_answer(&[serde_json::from_str(row).unwrap()], ROWS);
    cluster
}

#[test]
fn a_worker_killed_in_the_middle_of_a_query_does_not_change_its_answer() {
    drop(answer_survives(|cluster| {
        cluster.worker(0).unwrap().kill().unwrap()
    }));
}

#[test]
fn a_worker_frozen_in_the_middle_of_a_query_does_not_change_its_answer() {
    // Frozen for as long as the query runs: it must not need the worker again.
    let mut cluster = answer_survives(|cluster| cluster.worker(0).unwrap().freeze().unwrap());
    cluster.worker(0).unwrap().thaw().unwrap();
    assert_answer(&cluster.sql(QUERY).unwrap(), ROWS);
}

/// User and system time of a process, in clock ticks (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
