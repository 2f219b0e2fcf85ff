//! What people see of streams: the coordinator's state and what commits have added.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use drumline_lake::Requests;
use drumline_proto::v1::{PartitionStatus, StreamStatus, StreamTableStatus};

use super::coordinator::Coordinator;
use super::stream::{Phase, Stream};
use super::tables::{TableProgress, dead_letters_of, targets_of};
use super::{Partition, bounds};
use crate::facts::{StreamPartition, StreamProgress};

/// Reasons of dead letters that are counted apart.
const REASONS: usize = 50;

/// What a stream that has come to its end is.
pub(super) const FINISHED: &str = "finished";

/// Rows and commits per stream and table.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    tables: BTreeMap<String, BTreeMap<String, TableStatistics>>,
    streams: BTreeMap<String, StreamStatistics>,
}

/// Of a stream since this master started.
#[derive(Debug, Default)]
struct StreamStatistics {
    records: u64,
    reasons: BTreeMap<String, u64>,
    /// Calls of object stores: of the master for its commits, and of workers that are told by epoch.
    own_requests: Requests,
    workers_requests: u64,
    told_requests: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Clone, Default)]
struct TableStatistics {
    rows: u64,
    commits: u64,
    version: u64,
    last_commit_unix_millis: i64,
    files: u64,
    bytes: u64,
}

impl Statistics {
    /// What a table holds in all.
    pub(crate) fn read(&mut self, stream: &str, progress: BTreeMap<String, TableProgress>) {
        let tables = self.tables.entry(stream.to_owned()).or_default();
        for (name, table) in progress {
            let row = tables.entry(name).or_default();
            row.rows = table.rows;
            row.version = table.version;
            row.files = table.files;
            row.bytes = table.bytes;
        }
    }

    /// Counts the calls of object stores that a stream's commits take.
    pub(crate) fn requests(&mut self, stream: &str) -> Requests {
        let own = self.streams.entry(stream.to_owned()).or_default();
        own.own_requests.clone()
    }

    /// Calls that a worker has made for its share of a stream since it got it.
    pub(crate) fn called(&mut self, stream: &str, worker: &str, epoch: u64, requests: u64) {
        let own = self.streams.entry(stream.to_owned()).or_default();
        let told = own.told_requests.entry(worker.to_owned()).or_default();
        let before = match told.0 == epoch {
            true => told.1,
            false => 0,
        };
        own.workers_requests += requests.saturating_sub(before);
        *told = (epoch, requests);
    }

    pub(crate) fn forget(&mut self, stream: &str) {
        self.tables.remove(stream);
        self.streams.remove(stream);
    }

    /// What one commit has added.
    pub(crate) fn committed(&mut self, stream: &str, progress: BTreeMap<String, TableProgress>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis() as i64;
        let own = self.streams.entry(stream.to_owned()).or_default();
        // Each table of a topic goes past the same records.
        own.records += progress
            .values()
            .map(|table| table.records)
            .max()
            .unwrap_or(0);
        let tables = self.tables.entry(stream.to_owned()).or_default();
        for (name, table) in progress {
            for (reason, count) in table.reasons {
                let reason = match own.reasons.len() < REASONS || own.reasons.contains_key(&reason)
                {
                    true => reason,
                    false => "others".to_owned(),
                };
                *own.reasons.entry(reason).or_default() += count;
            }
            let row = tables.entry(name).or_default();
            row.files += table.files;
            row.bytes += table.bytes;
            row.rows += table.rows;
            row.version = row.version.max(table.version);
            row.commits += 1;
            row.last_commit_unix_millis = now;
        }
    }

    /// Every stream's status, by name.
    pub(crate) fn of(&self, coordinator: &Coordinator) -> BTreeMap<String, StreamStatus> {
        let has_workers = coordinator.has_workers();
        let streams = coordinator.streams().iter();
        streams
            .map(|(name, stream)| (name.clone(), self.status(name, stream, has_workers)))
            .collect()
    }

    fn status(&self, name: &str, stream: &Stream, has_workers: bool) -> StreamStatus {
        let now = unix_millis(Instant::now());
        let state = State::of(stream, has_workers);
        let layout: Vec<Partition> = stream
            .layout
            .iter()
            .flat_map(|layout| layout.partitions().collect::<Vec<_>>())
            .collect();
        let partitions: Vec<PartitionStatus> = layout
            .iter()
            .map(|partition| partition_status(stream, partition, now))
            .collect();
        let dead_letters = dead_letters_of(&stream.definition);
        let tables = self
            .tables
            .get(name)
            .into_iter()
            .flatten()
            .map(|(table, row)| StreamTableStatus {
                table: table.clone(),
                kind: if table == dead_letters {
                    "dead letters"
                } else {
                    "rows"
                }
                .to_owned(),
                rows: row.rows,
                commits: row.commits,
                last_commit_unix_millis: row.last_commit_unix_millis,
                version: row.version,
                files: row.files,
                bytes: row.bytes,
            });
        let own = self.streams.get(name);
        let sum = |of: fn(&PartitionStatus) -> f64| partitions.iter().map(of).sum::<f64>();
        StreamStatus {
            name: name.to_owned(),
            state: state.word.to_owned(),
            lag: lag(&partitions),
            lag_millis: lag_millis(&partitions),
            records_per_second: sum(|partition| partition.records_per_second),
            bytes_per_second: sum(|partition| partition.bytes_per_second),
            reasons: own.map_or_else(Default::default, |own| {
                own.reasons.clone().into_iter().collect()
            }),
            records: own.map_or(0, |own| own.records),
            requests: own.map_or(0, |own| own.workers_requests + own.own_requests.count()),
            partitions,
            tables: tables.collect(),
            last_error: state.reason,
            since_unix_millis: state.since.map_or(0, unix_millis),
            definition: Some(drumline_proto::kafka::without_secrets(
                (*stream.definition).clone(),
            )),
        }
    }
}

/// A status as it is told to whoever looks at what happens.
pub(super) fn progress(status: &StreamStatus) -> StreamProgress {
    let known = |number: i64| (number >= 0).then_some(number);
    let seconds = |millis: i64| known(millis).map(|millis| millis as f64 / 1000.0);
    let date = |millis: i64| (millis > 0).then_some(millis);
    let partitions = status.partitions.iter().map(|row| StreamPartition {
        stream: status.name.clone(),
        topic: row.topic.clone(),
        partition: row.partition,
        worker: row.worker.clone(),
        epoch: row.epoch,
        committed: known(row.committed),
        end: known(row.end),
        until: row.until,
        lag: known(row.end).map(|end| (end - row.committed.max(0)).max(0)),
        lag_seconds: seconds(row.lag_millis),
        newest_at: date(row.watermark_unix_millis),
        oldest_at: date(row.oldest_unix_millis),
        records_per_second: row.records_per_second,
        bytes_per_second: row.bytes_per_second,
    });
    let letters = status.tables.iter().filter(|table| table.kind != "rows");
    StreamProgress {
        lag: known(status.lag),
        lag_seconds: seconds(status.lag_millis),
        records_per_second: status.records_per_second,
        bytes_per_second: status.bytes_per_second,
        records: status.records,
        requests_per_million: requests_per_million(status),
        dead_letters: letters.map(|table| table.rows).sum(),
        files: status.tables.iter().map(|table| table.files).sum(),
        bytes: status.tables.iter().map(|table| table.bytes).sum(),
        partitions: partitions.collect(),
    }
}

/// Calls of object stores for a million records; none before the first commit.
pub(crate) fn requests_per_million(status: &StreamStatus) -> Option<f64> {
    (status.records > 0).then(|| status.requests as f64 * 1e6 / status.records as f64)
}

/// State and reason of every stream, by name.
pub(crate) fn states(coordinator: &Coordinator) -> BTreeMap<String, (String, String)> {
    let has_workers = coordinator.has_workers();
    let streams = coordinator.streams().iter();
    let states = streams.map(|(name, stream)| {
        let State { word, reason, .. } = State::of(stream, has_workers);
        (name.clone(), (word.to_owned(), reason))
    });
    states.collect()
}

/// What a stream does, in a word, and why where it does not do its work.
struct State {
    word: &'static str,
    reason: String,
    since: Option<Instant>,
}

impl State {
    fn of(stream: &Stream, has_workers: bool) -> Self {
        let plain = |word| Self {
            word,
            reason: String::new(),
            since: None,
        };
        match (&stream.phase, &stream.trouble) {
            (Phase::Paused, _) => plain("paused"),
            (Phase::Finished, _) => plain(FINISHED),
            (_, Some(trouble)) => Self {
                word: match trouble.failed {
                    Some(_) => "failing",
                    None => "waiting",
                },
                reason: trouble.reason.clone(),
                since: Some(trouble.since),
            },
            (_, None) if !has_workers => Self {
                reason: "no worker is there to read the topics; start one with `drumline worker`"
                    .to_owned(),
                ..plain("waiting")
            },
            (Phase::Running, None) if stream.partitions().is_empty() => Self {
                reason: "no topic matches its patterns yet; it goes on looking".to_owned(),
                ..plain("waiting")
            },
            (Phase::Running, None) => plain("running"),
            (
                Phase::Probing { .. }
                | Phase::Settling
                | Phase::Held
                | Phase::Reading { .. }
                | Phase::Waiting { .. },
                None,
            ) => plain("starting"),
        }
    }
}

fn unix_millis(moment: Instant) -> i64 {
    let then = SystemTime::now() - moment.elapsed();
    let since_1970 = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn partition_status(stream: &Stream, partition: &Partition, now: i64) -> PartitionStatus {
    let holder = stream
        .shares
        .iter()
        .find(|(_, share)| share.partitions.contains(partition));
    let targets = targets_of(&stream.definition, &partition.topic);
    let committed = stream
        .offsets
        .resume_from(partition, &targets)
        .unwrap_or(-1);
    let until = bounds::bound(&stream.definition, &partition.topic, partition.partition);
    let end = match (
        stream.ends.get(partition).copied().filter(|end| *end >= 0),
        until,
    ) {
        (Some(end), Some(until)) => end.min(until),
        (end, until) => end.or(until).unwrap_or(-1),
    };
    let figure = stream.figures.get(partition).copied().unwrap_or_default();
    let rate = |rate: f64| if holder.is_some() { rate } else { 0.0 };
    let (newest, oldest) = figure.dates.unwrap_or_default();
    PartitionStatus {
        topic: partition.topic.clone(),
        partition: partition.partition,
        worker: holder.map(|(worker, _)| worker.clone()).unwrap_or_default(),
        epoch: holder.map_or(0, |(_, share)| share.epoch),
        committed,
        end,
        lag_millis: match figure.waiting_since {
            _ if end >= 0 && committed.max(0) >= end => 0,
            Some(since) => (now - since).max(0),
            None => -1,
        },
        watermark_unix_millis: newest,
        oldest_unix_millis: oldest,
        records_per_second: rate(figure.records_per_second),
        bytes_per_second: rate(figure.bytes_per_second),
        until,
    }
}

/// The lag of the partition that is furthest behind; -1 while one is behind and nobody knows for how long.
fn lag_millis(partitions: &[PartitionStatus]) -> i64 {
    let lags = || partitions.iter().map(|row| row.lag_millis);
    match lags().any(|lag| lag < 0) {
        true => -1,
        false => lags().max().unwrap_or(0),
    }
}

/// Records behind, or -1 while some partition's end is not known. A partition without a commit counts
/// from its beginning.
fn lag(partitions: &[PartitionStatus]) -> i64 {
    let behind = partitions
        .iter()
        .map(|row| (row.end >= 0).then(|| (row.end - row.committed.max(0)).max(0)));
    behind.sum::<Option<i64>>().unwrap_or(-1)
}
