//! Ctrl-C: the query is over for who asked it, and nothing of it computes any more, wherever it ran.

use std::time::{Duration, Instant};

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Process};
use nix::sys::signal::Signal;

/// Until which everything that a cancelled query used computes no more.
const CALM_WITHIN: Duration = Duration::from_secs(2);
/// How long the calm is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Of one core.
const CALM_PERCENT: f64 = 5.0;

/// Each takes hours, and computes in another operator.
const ENDLESS: [&str; 5] = [
    "SELECT count(*), sum(a.n * b.n) FROM a CROSS JOIN b",
    "SELECT count(*) FROM a JOIN b ON a.n + b.n < 0",
    "SELECT count(*) FROM a JOIN b ON a.n * 0 = b.n * 0 AND a.n + b.n < 0",
    "SELECT count(*) FROM (SELECT a.n AS n, b.n AS m, count(*) FROM a CROSS JOIN b GROUP BY 1, 2)",
    "SELECT max(r) FROM (SELECT row_number() OVER (ORDER BY a.n, b.n) AS r FROM a CROSS JOIN b)",
];

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options::default()).unwrap();
    for table in ["a", "b"] {
        // Of several files, so that both workers have something to read.
        let mut sql = format!("CREATE TABLE {table} (n bigint)");
        for part in 0..4 {
            let (from, to) = (part * 75_000 + 1, (part + 1) * 75_000);
            sql +=
                &format!("; INSERT INTO {table} SELECT value FROM generate_series({from}, {to})");
        }
        cluster.sql(&sql).unwrap();
    }
    cluster
}

/// Runs an endless query until all of `pids` compute, interrupts it as Ctrl-C does, and looks at what they
/// do from two seconds later on.
fn calm_after_interrupt(cluster: &Cluster, settings: &[&str], sql: &str, pids: &[u32]) {
    let mut arguments = vec!["sql", "--quiet", "-c", sql];
    arguments.extend(settings);
    let mut query = cluster.spawn("endless", &arguments).unwrap();
    let before: Vec<u64> = pids.iter().map(|pid| cpu_ticks(*pid)).collect();
    let until = Instant::now() + Duration::from_secs(180);
    while pids
        .iter()
        .zip(&before)
        .any(|(pid, before)| cpu_ticks(*pid) < before + 100)
    {
        assert!(query.is_running(), "{sql}: ended: {}", query.log());
        assert!(Instant::now() < until, "{sql}: not everybody computes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let since = Instant::now();
    query.signal(Signal::SIGINT).unwrap();
    let code = ended_within(&mut query, CALM_WITHIN, sql);
    let told = since.elapsed();
    assert_eq!(code, Some(130), "{sql}: {}", query.log());
    std::thread::sleep(CALM_WITHIN.saturating_sub(since.elapsed()));
    let (before, from) = (
        pids.iter().map(|pid| cpu_ticks(*pid)).collect::<Vec<_>>(),
        Instant::now(),
    );
    std::thread::sleep(LOOK);
    let seconds = from.elapsed().as_secs_f64();
    for (pid, before) in pids.iter().zip(before) {
        // A tick is a hundredth of a second.
        let percent = (cpu_ticks(*pid) - before) as f64 / seconds;
        println!("{sql}: told after {told:?}, then process {pid} used {percent:.1} % of a core");
        assert!(percent < CALM_PERCENT, "{sql}: {pid} uses {percent:.1} %");
    }
    assert_eq!(cluster.number("SELECT count(*) FROM a").unwrap(), 300_000);
}

fn ended_within(query: &mut Process, limit: Duration, sql: &str) -> Option<i32> {
    match query.wait(limit) {
        Ok(status) => status.code(),
        Err(error) => panic!("{sql}: {error:#}"),
    }
}

#[test]
fn an_interrupted_query_on_two_workers_stops_computing_within_two_seconds() {
    let mut cluster = cluster();
    let pids = [
        cluster.worker(0).unwrap().pid(),
        cluster.worker(1).unwrap().pid(),
    ];
    // So small a share that every scan, and what is above it, runs on both.
    let settings = ["--settings", "drumline.bytes_per_task=1"];
    for sql in ENDLESS {
        // One task numbers all rows, and rows of one key meet in one: nobody says on which worker.
        if !sql.contains("OVER") && !sql.contains("* 0") {
            calm_after_interrupt(&cluster, &settings, sql, &pids);
        }
    }
}

#[test]
fn an_interrupted_query_in_place_stops_computing_within_two_seconds() {
    let mut cluster = cluster();
    let master = cluster.master().unwrap().pid();
    for sql in ENDLESS {
        calm_after_interrupt(&cluster, &[], sql, &[master]);
    }
}

/// User and system time of a process, in clock ticks (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
