//! Orders to workers, and what they say, in the words of the wire.

use std::collections::{BTreeMap, BTreeSet};

use drumline_proto::v1::{
    Assign, AssignedPartition, Failure, MasterMessage, PositionReport, StreamDefinition,
    master_message,
};

use super::stream::{Figure, Report};
use super::tables::{StreamTables, targets_of};
use super::{Partition, TableOffsets, bounds};

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
            until: bounds::bound(definition, &partition.topic, partition.partition),
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
        let told = |millis: i64| (millis > 0).then_some(millis);
        let (mut ends, mut figures) = (BTreeMap::new(), BTreeMap::new());
        for end in report.ends {
            let partition = Partition {
                topic: end.topic,
                partition: end.partition,
            };
            let figure = Figure {
                waiting_since: told(end.waiting_since),
                dates: told(end.newest).zip(told(end.oldest)),
                records_per_second: end.records_per_second,
                bytes_per_second: end.bytes_per_second,
            };
            figures.insert(partition.clone(), figure);
            ends.insert(partition, end.end);
        }
        Self {
            ends,
            figures,
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
