//! Many at once, with nothing going wrong but each other: appends, merges, an OPTIMIZE and a VACUUM after another, and
//! readers that look whether what every transaction keeps is kept.
//!
//! A row says what it must hold: `v = side * (x + m)`, where `m` counts the merges that changed it. Every statement
//! brings or changes rows of both sides alike, so the sum of `v` is nothing, for each key and in every version. At the
//! end each append that was told done is there once, and rows that were there from the beginning have been changed
//! by every merge of their key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use drumline_client::{Client, Options as Connect};
use tokio::task::JoinSet;

use super::plan::Format;
use super::{BUCKET, ROOT, table};
use crate::cluster::Options;
use crate::{Cluster, Gcs};

const APPENDERS: i64 = 8;
const MERGERS: i64 = 2;
const READERS: usize = 3;
const KEYS: i64 = 8;

/// Rows of an append.
const BATCH: i64 = 32;

/// Rows that are there at the beginning: one of each side for every key.
const FIRST: i64 = 2 * KEYS;

/// What VACUUM keeps meanwhile: longer than a statement may take from its first file to its commit.
const KEPT: Duration = Duration::from_secs(25);

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Appends that were told done.
    pub appends: u64,
    /// Merges that were told done.
    pub merges: u64,
    /// Times that OPTIMIZE was.
    pub optimizes: u64,
    /// Times that VACUUM was.
    pub vacuums: u64,
    /// Answers that were looked at.
    pub reads: u64,
    /// What was refused, each naming who won.
    pub conflicts: Vec<String>,
    /// The most often that one merge was planned.
    pub merge_attempts: i64,
    /// The longest that a merge took.
    pub longest_merge: Duration,
    /// Versions of the table.
    pub versions: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            appends,
            merges,
            optimizes,
            vacuums,
            reads,
            conflicts,
            merge_attempts,
            longest_merge,
            versions,
        } = self;
        write!(
            f,
            "{appends} appends, {merges} merges (planned up to {merge_attempts} times, {longest_merge:.1?} at most), \
             {optimizes} times OPTIMIZE, {vacuums} times VACUUM, {reads} reads, {versions} versions: no row lost, no \
             read failed, {} refused naming who won",
            conflicts.len()
        )
    }
}

/// Runs them for a while, and counts.
///
/// # Errors
/// What is lost, or there twice; a read that failed; a statement that failed for anything but a named conflict.
pub fn run(seconds: Duration) -> Result<Report> {
    let gcs = Gcs::start(&[BUCKET])?;
    let mut environment = gcs.environment();
    environment.push((
        "DRUMLINE_MASTER__CONCURRENT_JOBS".to_owned(),
        "10".to_owned(),
    ));
    let cluster = Cluster::start(Options {
        cores: 5,
        lake: Some(format!("gs://{BUCKET}/{ROOT}")),
        environment,
        ..Options::default()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ran = runtime.block_on(at_once(&cluster, seconds));
    let mut report = ran.with_context(|| cluster.log_tails())?;
    report.versions = check_files(&gcs, &cluster)?;
    Ok(report)
}

/// What one client is for.
#[derive(Debug, Clone, Copy)]
enum Role {
    Append(i64),
    Merge(i64),
    Optimize,
    Vacuum,
    Read,
}

/// What one client did.
#[derive(Default)]
struct Did {
    /// Numbers of the appends that are done, by writer.
    appended: Vec<(i64, i64)>,
    /// Keys of the merges that are done.
    merged: Vec<i64>,
    optimizes: u64,
    vacuums: u64,
    reads: u64,
    conflicts: Vec<String>,
    longest_merge: Duration,
}

async fn at_once(cluster: &Cluster, seconds: Duration) -> Result<Report> {
    let mut connect = Connect::default();
    connect.token = Some(cluster.token()?);
    let client = Client::connect_with(&cluster.url(), connect).await?;
    let first = format!(
        "CREATE TABLE ledger (k BIGINT, side BIGINT, x BIGINT, v BIGINT, m BIGINT, w BIGINT, n BIGINT); \
         INSERT INTO ledger {}",
        rows(KEYS, -1, 0)
    );
    client.collect_sql(&first).await?;
    let appenders = (0..APPENDERS).map(Role::Append);
    let mergers = (0..MERGERS).map(Role::Merge);
    let others = [Role::Optimize, Role::Vacuum]
        .into_iter()
        .chain([Role::Read; READERS]);
    let until = Instant::now() + seconds;
    let mut clients = JoinSet::new();
    for role in appenders.chain(mergers).chain(others) {
        clients.spawn(play(client.clone(), role, until));
    }
    let mut all = Did::default();
    while let Some(did) = clients.join_next().await {
        let did = did??;
        all.appended.extend(did.appended);
        all.merged.extend(did.merged);
        all.optimizes += did.optimizes;
        all.vacuums += did.vacuums;
        all.reads += did.reads;
        all.conflicts.extend(did.conflicts);
        all.longest_merge = all.longest_merge.max(did.longest_merge);
    }
    check_all(&client, &all).await?;
    let sql = "SELECT coalesce(max(attempts), 0) FROM system.statements WHERE sql LIKE 'MERGE%'";
    let attempts = numbers(&client.collect_sql(sql).await?)?;
    Ok(Report {
        appends: all.appended.len() as u64,
        merges: all.merged.len() as u64,
        optimizes: all.optimizes,
        vacuums: all.vacuums,
        reads: all.reads,
        conflicts: all.conflicts,
        merge_attempts: *attempts.first().and_then(|row| row.first()).unwrap_or(&0),
        longest_merge: all.longest_merge,
        versions: 0,
    })
}

async fn play(client: Client, role: Role, until: Instant) -> Result<Did> {
    let mut did = Did::default();
    let mut seen = 0;
    let mut number = 0;
    while Instant::now() < until {
        number += 1;
        let begun = Instant::now();
        let (sql, pause) = match role {
            Role::Append(writer) => {
                let rows = rows(BATCH / 2, writer, number);
                (format!("{ONE_FILE}; INSERT INTO ledger {rows}"), 0)
            }
            Role::Merge(merger) => (merge(key(merger, number)), 0),
            Role::Optimize => ("OPTIMIZE ledger".to_owned(), 300),
            Role::Vacuum => (vacuum(KEPT), 1000),
            Role::Read => (READ.to_owned(), 0),
        };
        let answer = match client.collect_sql(&sql).await {
            Ok(answer) => answer,
            Err(error) => {
                let told = error.to_string();
                let is_named = told.contains("was changed while the statement ran: version");
                ensure!(
                    is_named && !matches!(role, Role::Read | Role::Append(_)),
                    "{role:?} {number} failed: {told}"
                );
                did.conflicts.push(told);
                continue;
            }
        };
        match role {
            Role::Append(writer) => did.appended.push((writer, number)),
            Role::Merge(merger) => {
                did.merged.push(key(merger, number));
                did.longest_merge = did.longest_merge.max(begun.elapsed());
            }
            Role::Optimize => did.optimizes += 1,
            Role::Vacuum => did.vacuums += 1,
            Role::Read => {
                seen = check_read(&answer, seen)?;
                did.reads += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Ok(did)
}

/// An append is one small file: many of them are what OPTIMIZE is for, and more would keep the stand-in busy only.
const ONE_FILE: &str = "SET datafusion.execution.target_partitions = 1";

/// Rows of both sides of so many keys, one after another.
fn rows(pairs: i64, writer: i64, number: i64) -> String {
    let x = 100 + number % 7;
    format!(
        "SELECT value % {KEYS} AS k, s.side, {x} AS x, s.side * {x} AS v, 0 AS m, {writer} AS w, {number} AS n \
         FROM generate_series(0, {}) CROSS JOIN (VALUES (1), (-1)) AS s(side)",
        pairs - 1
    )
}

fn key(merger: i64, number: i64) -> i64 {
    (merger * 3 + number) % KEYS
}

fn merge(key: i64) -> String {
    format!(
        "MERGE INTO ledger USING (SELECT CAST({key} AS BIGINT) AS wanted) AS s ON ledger.k = s.wanted \
         WHEN MATCHED THEN UPDATE SET v = ledger.v + ledger.side, m = ledger.m + 1"
    )
}

fn vacuum(keep: Duration) -> String {
    let hours = keep.as_secs_f64() / 3600.0;
    format!("SET drumline.vacuum_shortest = 0; VACUUM ledger RETAIN {hours:.6} HOURS")
}

/// How many rows; what `v` sums up to; how many rows are not as they say; how many keys are out of balance.
const READ: &str = "SELECT count(*) AS rows, coalesce(sum(v), 0) AS total, \
     coalesce(sum(CASE WHEN v <> side * (x + m) THEN 1 ELSE 0 END), 0) AS wrong, \
     (SELECT count(*) FROM (SELECT k FROM ledger GROUP BY k HAVING sum(v) <> 0)) AS unbalanced FROM ledger";

fn check_read(answer: &[RecordBatch], seen: i64) -> Result<i64> {
    let found = numbers(answer)?;
    let Some([count, sum, wrong, unbalanced]) = found.first().map(Vec::as_slice) else {
        anyhow::bail!("not one row of four numbers: {found:?}");
    };
    ensure!(
        (*sum, *wrong, *unbalanced) == (0, 0, 0),
        "a read of {count} rows: the sum is {sum}, {wrong} rows are not as they say, {unbalanced} keys out of balance"
    );
    ensure!(
        (count - FIRST) % BATCH == 0,
        "{count} rows: part of an append is there"
    );
    ensure!(*count >= seen, "{seen} rows were there, and now {count}");
    Ok(*count)
}

/// Everything that was told done is there, once.
async fn check_all(client: &Client, all: &Did) -> Result<()> {
    check_read(&client.collect_sql(READ).await?, FIRST)?;
    let sql = "SELECT w, n, count(*) FROM ledger WHERE w >= 0 GROUP BY w, n";
    let found = numbers(&client.collect_sql(sql).await?)?;
    let mut there = BTreeMap::new();
    for row in &found {
        if let [writer, number, count] = row.as_slice() {
            there.insert((*writer, *number), *count);
        }
    }
    for append in &all.appended {
        let count = there.remove(append).unwrap_or_default();
        ensure!(
            count == BATCH,
            "append {append:?} was told done: {count} of {BATCH} rows are there"
        );
    }
    ensure!(
        there.is_empty(),
        "rows of appends that nobody was told of: {there:?}"
    );
    let sql = "SELECT k, side, m FROM ledger WHERE w < 0";
    let firsts = numbers(&client.collect_sql(sql).await?)?;
    ensure!(
        firsts.len() as i64 == FIRST,
        "{} first rows of {FIRST}",
        firsts.len()
    );
    for row in &firsts {
        if let [key, side, merges] = row.as_slice() {
            let done = all.merged.iter().filter(|merged| *merged == key).count();
            ensure!(
                *merges == done as i64,
                "key {key}, side {side}: {done} merges were told done, and {merges} are there"
            );
        }
    }
    Ok(())
}

/// Its files hold its rows, and nothing else is left once all that can be is thrown away. Gives the version.
fn check_files(gcs: &Gcs, cluster: &Cluster) -> Result<u64> {
    cluster.sql(&vacuum(Duration::ZERO))?;
    let (version, named) = table::files(gcs, Format::Delta, "ledger")?.context("no log")?;
    let mut rows = 0;
    for key in &named {
        let bytes = gcs.bytes(BUCKET, key).with_context(|| key.clone())?;
        rows += table::count_rows(&bytes)?;
    }
    let told = cluster.number("SELECT count(*) FROM ledger")?;
    ensure!(
        rows == told,
        "files hold {rows} rows, and Drumline tells {told}"
    );
    let there = table::data_under(gcs, &format!("{ROOT}/default/ledger"));
    let orphans: Vec<_> = there.difference(&named).collect();
    ensure!(orphans.is_empty(), "VACUUM leaves orphans: {orphans:?}");
    Ok(version)
}

/// Rows of numbers.
fn numbers(batches: &[RecordBatch]) -> Result<Vec<Vec<i64>>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let columns: Vec<Arc<dyn arrow::array::Array>> = columns
            .map(|column| cast(column, &DataType::Int64))
            .collect::<Result<_, _>>()?;
        for place in 0..batch.num_rows() {
            let value = |column: &Arc<dyn arrow::array::Array>| {
                column.as_primitive::<Int64Type>().value(place)
            };
            rows.push(columns.iter().map(value).collect());
        }
    }
    Ok(rows)
}
