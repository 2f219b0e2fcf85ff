//! How long after a record was produced a reader of the table sees it: events come at a steady rate, files are closed
//! every second, and the table's log is watched from outside.
//!
//! The clock starts when the producer is handed the record, so what its batching costs is in the figure; it stops
//! when the commit that holds the record is seen in the log's folder, which is looked at every few milliseconds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use clap::Parser;
use drumline_benches::connect;
use drumline_client::proto::FieldDefinition;
use drumline_client::{Client, stream_file};
use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{self, Cluster};
use drumline_testkit::streams::example_stream;
use drumline_testkit::{Kafka, poll};
use serde_json::Value;

const TOPIC: &str = "listen_events";
const PARTITIONS: u32 = 4;
/// Distinct events; they are sent again and again.
const EVENTS: &str = "100000";
const TICK: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Parser)]
#[command(about = "From production to visibility, at a steady rate")]
struct Arguments {
    /// Events per second; half of what `bench ingest` prints as wall time is what the figure is told for
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// For how many seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How often files are closed, in milliseconds
    #[arg(long, default_value_t = 1000)]
    flush_interval: u64,
    /// Cores of the worker
    #[arg(long, default_value_t = 1)]
    cores: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kafka = Kafka::start()?;
    kafka.create_topics(&[(TOPIC, PARTITIONS)])?;
    let cluster = Cluster::start(cluster::Options {
        workers: 1,
        cores: arguments.cores,
        ..Default::default()
    })?;
    let client = connect(&cluster).await?;
    let log = apply(&cluster, &client, &kafka, arguments.flush_interval).await?;
    let lines = lines(&cluster)?;

    let done = AtomicBool::new(false);
    let (sent, commits) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&log, &done));
        let sent = produce(&kafka.brokers(), &lines, &arguments);
        let settled = sent.and_then(|sent| {
            poll("all rows", PATIENCE, || {
                let rows = cluster.number(&format!("SELECT count(*) FROM {TOPIC}"))?;
                Ok((rows.unsigned_abs() >= sent).then_some(sent))
            })
        });
        done.store(true, Ordering::Relaxed);
        let commits = watcher
            .join()
            .map_err(|_| anyhow::anyhow!("the watcher died"))?;
        anyhow::Ok((settled?, commits?))
    })?;

    let mut waits = waits(&client, &commits).await?;
    ensure!(
        waits.len() as u64 == sent,
        "{} rows are there, {sent} were sent",
        waits.len()
    );
    waits.sort_unstable();
    let at = |part: f64| {
        let place = ((waits.len() - 1) as f64 * part) as usize;
        waits[place] as f64 / 1e6
    };
    println!(
        "{sent} events at {} a second, {} commits: median {:.3} s, p99 {:.3} s, longest {:.3} s",
        arguments.rate,
        commits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Applies the example's stream of one topic, with a column that says when a record was sent; gives the folder of the
/// table's log.
async fn apply(
    cluster: &Cluster,
    client: &Client,
    kafka: &Kafka,
    interval: u64,
) -> Result<PathBuf> {
    let text = example_stream(&kafka.brokers(), Duration::from_millis(interval))?;
    let mut definition = stream_file::parse(&text, Path::new("beatlytica.toml"))?;
    definition.topics.retain(|topic| topic.topic == TOPIC);
    definition.format = "delta".to_owned();
    let topic = definition.topics.first_mut().context("no topic")?;
    topic.format = "delta".to_owned();
    topic.location.clear();
    topic.partition_by.clear();
    topic.schema.push(FieldDefinition {
        name: "sent".to_owned(),
        r#type: "bigint".to_owned(),
        ..FieldDefinition::default()
    });
    topic.transform = topic.transform.replacen("SELECT", "SELECT sent,", 1);
    client.streams().apply(definition).await?;
    find_log(Path::new(cluster.lake()))
}

/// The one log folder under a lake's tables that belongs to the topic's table.
fn find_log(lake: &Path) -> Result<PathBuf> {
    poll("the table's log", PATIENCE, || {
        let mut folders = vec![lake.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)?.flatten() {
                let path = entry.path();
                let is_log = path.file_name().is_some_and(|name| name == "_delta_log");
                let text = path.display().to_string();
                match path.is_dir() {
                    true if is_log && text.contains(TOPIC) => return Ok(Some(path)),
                    true => folders.push(path),
                    false => {}
                }
            }
        }
        Ok(None)
    })
}

fn lines(cluster: &Cluster) -> Result<Vec<String>> {
    let folder = cluster.path("events");
    let output = cluster.run(&[
        "generate",
        "--quiet",
        "--events",
        EVENTS,
        "--output",
        &folder.display().to_string(),
    ])?;
    ensure!(
        output.status.success(),
        "generate: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = std::fs::File::open(folder.join(format!("{TOPIC}.jsonl")))?;
    Ok(BufReader::new(file).lines().collect::<Result<_, _>>()?)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Sends at the wanted rate; gives how many.
fn produce(brokers: &str, lines: &[String], arguments: &Arguments) -> Result<u64> {
    let producer = Producer::connect(brokers, &BTreeMap::new())?;
    let started = Instant::now();
    let wanted = arguments.rate * arguments.seconds;
    let mut events = lines.iter().cycle();
    let mut sent = 0;
    while sent < wanted {
        let due = started.elapsed().as_secs_f64() * arguments.rate as f64;
        while sent < wanted.min(due as u64) {
            let line = events.next().context("no events")?;
            let value = format!("{{\"sent\":{},{}", now(), line.trim_start_matches('{'));
            producer.send(TOPIC, None, Some(value.as_bytes()), None)?;
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
    let late = started.elapsed().as_secs_f64() / arguments.seconds as f64;
    ensure!(
        late < 1.1,
        "the producer could not keep up: it took {late:.2} of its time; a lower --rate"
    );
    producer.flush(PATIENCE)?;
    Ok(sent)
}

/// A commit, and when it was seen, in microseconds since 1970.
struct Seen {
    at: i64,
    /// Partition, first offset, offset after the last.
    ranges: Vec<(i64, i64, i64)>,
}

/// Looks for the next commit until it is told to stop.
fn watch(log: &Path, done: &AtomicBool) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut version = 0;
    loop {
        let path = log.join(format!("{version:020}.json"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let at = now();
                seen.push(Seen {
                    at,
                    ranges: ranges(&text)?,
                });
                version += 1;
            }
            Err(_) if done.load(Ordering::Relaxed) => return Ok(seen),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn ranges(commit: &str) -> Result<Vec<(i64, i64, i64)>> {
    let mut ranges = Vec::new();
    for line in commit.lines() {
        let action: Value = serde_json::from_str(line)?;
        let told = action["commitInfo"]["drumline.ranges"].as_array();
        for range in told.into_iter().flatten() {
            let number = |key: &str| {
                let number = range[key].as_i64();
                number.with_context(|| format!("no {key} in {range}"))
            };
            ranges.push((number("partition")?, number("from")?, number("to")?));
        }
    }
    Ok(ranges)
}

/// Microseconds from sending to seeing, of every row.
async fn waits(client: &Client, commits: &[Seen]) -> Result<Vec<i64>> {
    // By partition: where ranges begin, and when they were seen.
    let mut seen: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
    for commit in commits {
        for (partition, from, to) in &commit.ranges {
            if from < to {
                seen.entry(*partition).or_default().insert(*from, commit.at);
            }
        }
    }
    let sql = format!(
        "SELECT CAST(_partition AS BIGINT) AS p, CAST(_offset AS BIGINT) AS o, CAST(sent AS BIGINT) AS s FROM {TOPIC}"
    );
    let mut waits = Vec::new();
    for batch in client.collect_sql(&sql).await? {
        let column = |at: usize| -> Result<_> { Ok(cast(batch.column(at), &DataType::Int64)?) };
        let columns = [column(0)?, column(1)?, column(2)?];
        let [partitions, offsets, sent] = columns.each_ref().map(|c| c.as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let starts = seen.get(&partitions.value(row));
            let commit = starts.and_then(|starts| starts.range(..=offsets.value(row)).next_back());
            let (_, at) = commit.context("a row that no commit tells of")?;
            waits.push(at - sent.value(row));
        }
    }
    Ok(waits)
}
