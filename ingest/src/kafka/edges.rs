//! What Kafka has of each partition, and where in it a definition begins and ends. Blocks.

use std::collections::BTreeMap;

use drumline_proto::v1::{PartitionEdges, Position, StartFrom, StreamDefinition};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::context::{self, Asker};
use super::topics::REACHABLE_WITHIN;
use crate::{Error, Result};

/// The edges of every partition of `topics`, for a reader of committed records. A start is what was asked for: it may
/// lie outside of what Kafka has. `now`: milliseconds since 1970.
pub(crate) fn edges(
    definition: &StreamDefinition,
    config: &ClientConfig,
    topics: &BTreeMap<String, u32>,
    now: i64,
) -> Result<Vec<PartitionEdges>> {
    let client = context::asker(config)?;
    let unreachable = |error: KafkaError| context::unreachable(&client, REACHABLE_WITHIN, &error);
    let mut edges = Vec::new();
    for (topic, count) in topics {
        let start = definition.start_of(topic);
        if let Some(until) = &definition.until
            && until.from() == StartFrom::Timestamp
            && until.timestamp_millis > now
        {
            return Err(Error::Definition {
                key: "until".to_owned(),
                reason: "the moment is still to come: which records come before it is not known; \
                         give one that has passed, or now"
                    .to_owned(),
            });
        }
        let times = |position: Option<&Position>| match position {
            Some(position) if position.from() == StartFrom::Timestamp => {
                at_time(&client, topic, *count, position.timestamp_millis).map_err(unreachable)
            }
            _ => Ok(BTreeMap::new()),
        };
        let starts = times(Some(&start))?;
        let ends = times(definition.until.as_ref())?;
        for partition in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
            let (first, end) = client
                .fetch_watermarks(topic, partition, REACHABLE_WITHIN)
                .map_err(unreachable)?;
            let place = |position: &Position, times: &BTreeMap<i32, i64>| match position.from() {
                StartFrom::Latest => Some(end),
                StartFrom::Timestamp => Some(times.get(&partition).copied().unwrap_or(end)),
                StartFrom::Offsets => offset_of(position, topic, partition),
                StartFrom::Earliest | StartFrom::Unspecified => Some(first),
            };
            // A partition without a bound of its own is not read at all; one beyond the end is waited for.
            let until = definition.until.as_ref();
            let until = until.map(|until| place(until, &ends).unwrap_or(first).max(first));
            let start = place(&start, &starts).unwrap_or(first);
            edges.push(PartitionEdges {
                topic: topic.clone(),
                partition,
                first,
                end,
                start,
                until,
            });
        }
    }
    Ok(edges)
}

/// The offset that is said of a partition: of itself, before all partitions of its topic, before those of all.
fn offset_of(position: &Position, topic: &str, partition: i32) -> Option<i64> {
    let said = position.offsets.iter().filter(|said| {
        (said.topic.is_empty() || said.topic == topic)
            && (said.partition < 0 || said.partition == partition)
    });
    let closest = said.max_by_key(|said| (said.partition >= 0, !said.topic.is_empty()));
    closest.map(|said| said.offset)
}

/// Offset of the first record that the broker dates at a moment or later, by partition; none where there is none.
fn at_time(
    client: &Asker,
    topic: &str,
    count: u32,
    millis: i64,
) -> rdkafka::error::KafkaResult<BTreeMap<i32, i64>> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
        asked.add_partition_offset(topic, partition, Offset::Offset(millis))?;
    }
    let found = client.offsets_for_times(asked, REACHABLE_WITHIN)?;
    let mut offsets = BTreeMap::new();
    for element in found.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::PartitionOffset;

    use super::*;

    fn said(topic: &str, partition: i32, offset: i64) -> PartitionOffset {
        PartitionOffset {
            topic: topic.to_owned(),
            partition,
            offset,
        }
    }

    #[test]
    fn the_word_that_is_closest_to_a_partition_counts() {
        let position = Position {
            offsets: vec![said("", -1, 1), said("t", -1, 2), said("t", 3, 4)],
            ..Position::default()
        };
        assert_eq!(offset_of(&position, "t", 3), Some(4));
        assert_eq!(offset_of(&position, "t", 0), Some(2));
        assert_eq!(offset_of(&position, "u", 0), Some(1));
        let nothing = Position {
            offsets: vec![said("t", 3, 4)],
            ..Position::default()
        };
        assert_eq!(offset_of(&nothing, "t", 0), None);
    }
}
