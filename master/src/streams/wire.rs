//! Orders to workers, and what they say, in the words of the wire.

use std::collections::BTreeSet;

use drumline_proto::v1::{
    Assign, AssignedPartition, Failure, MasterMessage, PositionReport, StreamDefinition,
    master_message,
};

use super::stream::Report;
use super::tables::{StreamTables, targets_of};
use super::{Partition, TableOffsets};

/// A worker's share: its partitions with what the tables hold of them, and where its rows go.
pub(super) async fn assign(
    tables: &StreamTables,
    definition: &StreamDefinition,
    epoch: u64,
    partitions: &BTreeSet<Partition>,
    offsets: &TableOffsets,
) -> Result<MasterMessage, String> {
    let topics = partitions
        .iter()
        .map(|partition| partition.topic.clone())
        .collect();
    let targets = tables
        .write_targets(definition, &topics)
        .await
        .map_err(|error| error.to_string())?;
    let held_topics = tables
        .held_topics(definition, &topics)
        .await
        .map_err(|error| error.to_string())?;
    let partitions = partitions.iter().map(|partition| {
        let targets = targets_of(definition, &partition.topic);
        let held = offsets
            .of(partition)
            .into_iter()
            .filter(|(table, _)| targets.contains(table));
        AssignedPartition {
            topic: partition.topic.clone(),
            partition: partition.partition,
            table_offsets: held.collect(),
        }
    });
    Ok(message(master_message::Message::Assign(Assign {
        definition: Some(definition.clone()),
        epoch,
        partitions: partitions.collect(),
        tables: targets,
        lake: tables.lake(),
        held_topics,
    })))
}

impl From<PositionReport> for Report {
    fn from(report: PositionReport) -> Self {
        let ends = report.ends.into_iter().map(|end| {
            let partition = Partition {
                topic: end.topic,
                partition: end.partition,
            };
            (partition, end.end)
        });
        Self {
            ends: ends.collect(),
            partitions: report.partitions.into_iter().collect(),
            waiting: Some(report.waiting).filter(|reason| !reason.is_empty()),
        }
    }
}

/// A failure with its next step, on one line.
pub(super) fn in_words(failure: Failure) -> String {
    match failure.hint.is_empty() {
        true => failure.message,
        false => format!("{}; {}", failure.message, failure.hint),
    }
}

pub(super) fn message(message: master_message::Message) -> MasterMessage {
    MasterMessage {
        message: Some(message),
    }
}
