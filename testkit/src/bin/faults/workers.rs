//! A worker that kills or freezes itself at a named place (`drumline_engine::fault`).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, poll};

use crate::{Arguments, HANGS_AFTER, QUERY, ROWS, Tally, check_answer, expect, spread, table};

/// Where, and how often a process passes there at most before its fault: more would miss it.
const PLACES: [(&str, u64); 8] = [
    ("registering", 1),
    ("task-start", 3),
    ("scan", 8),
    ("exchange-out", 8),
    ("exchange-in", 8),
    ("last-stage", 1),
    ("staging", 1),
    ("rows-sent", 2),
];
const SIGNALS: [&str; 2] = ["kill", "stop"];

pub(crate) fn seed(seed: u64, arguments: &Arguments, tally: &mut Tally) {
    for (place, most) in PLACES
        .into_iter()
        .filter(|(place, _)| !arguments.skips(place))
    {
        for signal in SIGNALS {
            let fault = format!("{place}:{signal}:{}", 1 + seed % most);
            tally.note(&format!("seed {seed} {fault}"), one(place, signal, &fault));
        }
    }
}

/// One fault in one cluster; how long the answer took from it on.
fn one(place: &str, signal: &str, fault: &str) -> Result<Duration> {
    let mut cluster = Cluster::start(Options::default())?;
    cluster.sql(&table())?;
    let environment = [("DRUMLINE_FAULT".to_owned(), fault.to_owned())];
    let faulty = cluster.start_worker_with(&environment)?;
    if place != "registering" {
        poll("the worker joins", Duration::from_secs(30), || {
            let joined = cluster.worker(faulty)?.log().contains("joined the cluster");
            Ok(joined.then_some(()))
        })?;
    }
    let statement = match place {
        "staging" => "CREATE TABLE copy AS SELECT * FROM numbers",
        _ => QUERY,
    };
    let mut query = cluster.spawn("query", &spread(statement))?;
    let fired = poll("the fault fires", HANGS_AFTER, || {
        let has_fired = cluster.worker(faulty)?.log().contains("fault fires");
        Ok(has_fired.then(Instant::now))
    })
    .with_context(|| format!("query: {}", query.log()))?;
    let status = query.wait(HANGS_AFTER).context("the query hangs")?;
    let recovered = fired.elapsed();
    ensure!(status.success(), "the query failed: {}", query.log());
    if place != "staging" {
        check_answer(&query.log())?;
    }
    let worker = cluster.worker(faulty)?;
    match signal {
        "stop" => worker.thaw()?,
        _ => ensure!(!worker.is_running(), "the killed worker lives"),
    }
    // What a frozen worker does after its sleep changes nothing.
    check_again(&cluster, place)?;
    Ok(recovered)
}

fn check_again(cluster: &Cluster, place: &str) -> Result<()> {
    if place != "staging" {
        let output = cluster.run(&["sql", "--quiet", "-o", "json", "-c", QUERY])?;
        return check_answer(&String::from_utf8_lossy(&output.stdout));
    }
    let sql = "SELECT count(*) AS rows, count(DISTINCT n) AS texts, sum(n) AS total FROM copy";
    let answer = cluster.sql(sql)?;
    let row = answer.first().context("no answer")?;
    expect(row, "rows", ROWS)?;
    expect(row, "texts", ROWS)?;
    expect(row, "total", ROWS * (ROWS + 1) / 2)
}
