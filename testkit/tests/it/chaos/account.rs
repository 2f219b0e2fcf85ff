//! The count at the end, by programs that share nothing with Drumline: a plain consumer of the topic, deltalake and
//! pyarrow.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drumline_testkit::{engines, poll};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::{BUCKET, Bed};

const LIMIT: Duration = Duration::from_secs(60);
/// Positions that an error names.
const NAMED: usize = 5;

/// What a record is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Row(i64),
    Filtered,
    Dead,
}

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) records: u64,
    rows: usize,
    letters: usize,
    filtered: usize,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            records,
            rows,
            letters,
            filtered,
        } = self;
        write!(
            f,
            "{records} records are {rows} rows, {letters} dead letters and {filtered} filtered, each once"
        )
    }
}

/// Ends of the topic's partitions, for a reader of committed records.
pub(crate) fn ends(brokers: &str, topic: &str, partitions: u32) -> Result<BTreeMap<i32, i64>> {
    let consumer = consumer(brokers)?;
    let mut ends = BTreeMap::new();
    for partition in 0..i32::try_from(partitions)? {
        // A broker that has just come back does not know yet that it leads.
        let end = poll("the partition's end", LIMIT, || {
            let found = consumer.fetch_watermarks(topic, partition, LIMIT);
            Ok(found.ok().map(|(_, end)| end))
        });
        ends.insert(partition, end?);
    }
    Ok(ends)
}

/// Compares the topic with the stream's tables.
pub(crate) fn check(bed: &Bed<'_>, is_delta: bool) -> Result<Counted> {
    let truth = consume(bed)?;
    let exported = tempfile::tempdir()?;
    let root: PathBuf = match &bed.store {
        Some(store) => {
            store.export(BUCKET, "lake/", exported.path())?;
            exported.path().join("lake")
        }
        None => bed.cluster.lake().into(),
    };
    let mut counted = Counted {
        records: truth.len() as u64,
        ..Counted::default()
    };
    let wanted = |fate: fn(&Fate) -> bool| -> BTreeMap<(i32, i64), Fate> {
        let wanted = truth.iter().filter(|(_, found)| fate(found));
        wanted.map(|(at, fate)| (*at, *fate)).collect()
    };
    let rows = wanted(|fate| matches!(fate, Fate::Row(_)));
    let letters = wanted(|fate| *fate == Fate::Dead);
    counted.filtered = truth.len() - rows.len() - letters.len();
    counted.rows = compare(
        "events",
        &rows,
        &engines::origins(&root.join("default/events"), is_delta)?,
    )?;
    counted.letters = compare(
        "letters",
        &letters,
        &engines::origins(&root.join("default/letters"), is_delta)?,
    )?;
    ensure!(
        counted.rows > 0 && counted.letters > 0 && counted.filtered > 0,
        "the load was to have all three: {counted}"
    );
    Ok(counted)
}

fn compare(
    table: &str,
    wanted: &BTreeMap<(i32, i64), Fate>,
    found: &[(i32, i64, Option<i64>)],
) -> Result<usize> {
    let mut times: BTreeMap<(i32, i64), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (partition, offset, n) in found {
        let at = (*partition, *offset);
        *times.entry(at).or_default() += 1;
        match (wanted.get(&at), n) {
            (None, _) => wrong.push(format!("{at:?} is no such record")),
            (Some(Fate::Row(wanted)), Some(n)) if wanted != n => {
                wrong.push(format!("{at:?} holds {n}, not {wanted}"));
            }
            _ => {}
        }
    }
    let doubled = times.iter().filter(|(_, times)| **times > 1);
    wrong.extend(doubled.map(|(at, times)| format!("{at:?} is there {times} times")));
    let lost = wanted.keys().filter(|at| !times.contains_key(at));
    wrong.extend(lost.map(|at| format!("{at:?} is lost")));
    if !wrong.is_empty() {
        bail!(
            "table {table}: {} of {} records are wrong: {}",
            wrong.len(),
            wanted.len(),
            wrong[..wrong.len().min(NAMED)].join(", ")
        );
    }
    Ok(times.len())
}

fn consumer(brokers: &str) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "account")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create();
    consumer.context("no consumer")
}

/// Everything that a reader of committed records finds.
fn consume(bed: &Bed<'_>) -> Result<BTreeMap<(i32, i64), Fate>> {
    let consumer = consumer(&bed.kafka.brokers())?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::try_from(bed.partitions)? {
        assignment.add_partition_offset(&bed.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut found = BTreeMap::new();
    let mut left = bed.partitions;
    let until = Instant::now() + LIMIT;
    while left > 0 {
        ensure!(Instant::now() < until, "the topic was not read to its end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let value: Value = serde_json::from_slice(message.payload().unwrap_or_default())?;
                let fate = match value["n"].as_i64() {
                    None => Fate::Dead,
                    Some(n) if n % 10 == 7 => Fate::Filtered,
                    Some(n) => Fate::Row(n),
                };
                found.insert((message.partition(), message.offset()), fate);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    Ok(found)
}
