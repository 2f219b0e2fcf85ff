//! What people see of streams: the coordinator's state and what commits have added.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

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
        let streams = coordinator.streams().iter();
        streams
            .map(|(name, stream)| (name.clone(), self.status(name, stream)))
            .collect()
    }

    fn status(&self, name: &str, stream: &Stream) -> StreamStatus {
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
            state: state(stream).to_owned(),
            lag: lag(&partitions),
            partitions,
            tables: tables.collect(),
            last_error: stream.last_error.clone().unwrap_or_default(),
            definition: Some((*stream.definition).clone()),
        }
    }
}

/// State and last error of every stream, by name.
pub(crate) fn states(coordinator: &Coordinator) -> BTreeMap<String, (String, String)> {
    let streams = coordinator.streams().iter();
    let states = streams.map(|(name, stream)| {
        let reason = stream.last_error.clone().unwrap_or_default();
        (name.clone(), (state(stream).to_owned(), reason))
    });
    states.collect()
}

fn state(stream: &Stream) -> &'static str {
    match stream.phase {
        Phase::Paused => "paused",
        Phase::Waiting { .. } => "failing",
        Phase::Running if stream.last_error.is_some() => "failing",
        Phase::Running => "running",
        Phase::Probing { .. } | Phase::Settling | Phase::Reading { .. } => "starting",
    }
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
