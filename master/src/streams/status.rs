//! What people see of streams: the coordinator's state and what commits have added.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use drumline_proto::v1::{PartitionStatus, StreamStatus, StreamTableStatus};

use super::Partition;
use super::coordinator::Coordinator;
use super::stream::{Phase, Stream};
use super::tables::{TableProgress, dead_letters_of, targets_of};

/// Rows and commits per stream and table.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    tables: BTreeMap<String, BTreeMap<String, TableStatistics>>,
}

#[derive(Debug, Clone, Default)]
struct TableStatistics {
    rows: u64,
    commits: u64,
    version: u64,
    last_commit_unix_millis: i64,
}

impl Statistics {
    /// What a table holds in all.
    pub(crate) fn read(&mut self, stream: &str, progress: BTreeMap<String, TableProgress>) {
        let tables = self.tables.entry(stream.to_owned()).or_default();
        for (name, table) in progress {
            let row = tables.entry(name).or_default();
            row.rows = table.rows;
            row.version = table.version;
        }
    }

    /// What one commit has added.
    pub(crate) fn committed(&mut self, stream: &str, progress: BTreeMap<String, TableProgress>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis() as i64;
        let tables = self.tables.entry(stream.to_owned()).or_default();
        for (name, table) in progress {
            let row = tables.entry(name).or_default();
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
        let state = State::of(stream, has_workers);
        let layout: Vec<Partition> = stream
            .layout
            .iter()
            .flat_map(|layout| layout.partitions().collect::<Vec<_>>())
            .collect();
        let partitions: Vec<PartitionStatus> = layout
            .iter()
            .map(|partition| partition_status(stream, partition))
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
            });
        StreamStatus {
            name: name.to_owned(),
            state: state.word.to_owned(),
            lag: lag(&partitions),
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

fn partition_status(stream: &Stream, partition: &Partition) -> PartitionStatus {
    let holder = stream
        .shares
        .iter()
        .find(|(_, share)| share.partitions.contains(partition));
    let targets = targets_of(&stream.definition, &partition.topic);
    PartitionStatus {
        topic: partition.topic.clone(),
        partition: partition.partition,
        worker: holder.map(|(worker, _)| worker.clone()).unwrap_or_default(),
        epoch: holder.map_or(0, |(_, share)| share.epoch),
        committed: stream
            .offsets
            .resume_from(partition, &targets)
            .unwrap_or(-1),
        end: stream.ends.get(partition).copied().unwrap_or(-1),
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
