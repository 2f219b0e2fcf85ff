//! Where tables begin that hold nothing of a partition yet.

use std::collections::{BTreeMap, HashMap};

use drumline_lake::{Commit, MadeBy, OffsetRange, RangeCounts};
use drumline_proto::v1::{PartitionEdges, Position, StartFrom, StreamDefinition};

use super::apply::{Refusal, user};
use super::tables::{StreamTables, targets_of};
use super::{Partition, TableOffsets};
use crate::Error;

impl StreamTables {
    /// Has topics that nothing was read of yet begin where the definition says: the tables hold that as their
    /// offsets from now on, so that whoever reads, and whenever, begins there.
    pub(crate) async fn begin_at(
        &self,
        definition: &StreamDefinition,
        edges: &[PartitionEdges],
    ) -> Result<(), Error> {
        if edges.is_empty() {
            return Ok(());
        }
        let (held, _) = self.read(definition).await?;
        for (name, ranges) in beginnings(definition, &held, edges)? {
            let made_by = MadeBy::Stream {
                stream: definition.name.clone(),
                epoch: 0,
                ranges,
                definition: definition.revision,
                lookups: BTreeMap::new(),
            };
            let files = Vec::new();
            let table = self.table(&name).await?;
            table.commit(Commit::append(made_by, files)).await?;
        }
        Ok(())
    }

    /// Has tables that hold nothing of a partition begin where the others stand.
    pub(crate) async fn begin_beside(&self, definition: &StreamDefinition) -> Result<(), Error> {
        let (held, _) = self.read(definition).await?;
        let mut positions = BTreeMap::new();
        for (partition, offset) in held.0.values().flatten() {
            let least = positions.entry(partition.clone()).or_insert(*offset);
            *least = (*least).min(*offset);
        }
        positions.retain(|partition, _| {
            let mut topics = definition.topics.iter();
            topics.any(|topic| topic.reads(&partition.topic))
        });
        let edge = |(partition, offset): (Partition, i64)| PartitionEdges {
            topic: partition.topic,
            partition: partition.partition,
            first: offset,
            end: offset,
            start: offset,
            until: None,
        };
        let edges: Vec<_> = positions.into_iter().map(edge).collect();
        self.begin_at(definition, &edges).await
    }
}

/// Refuses offsets of partitions that there are not, where the definition before has not said the same.
pub(super) fn check_offsets(
    definition: &StreamDefinition,
    before: Option<&StreamDefinition>,
    partitions: &HashMap<String, u32>,
) -> Result<(), Refusal> {
    let said = |part: fn(&StreamDefinition) -> Option<&Position>| {
        (part(definition), before.and_then(part))
    };
    let whole = [
        ("start_from".to_owned(), said(|of| of.start.as_ref()), None),
        ("until".to_owned(), said(|of| of.until.as_ref()), None),
    ];
    let own = definition.topics.iter().enumerate().map(|(at, topic)| {
        let mut others = before.into_iter().flat_map(|before| &before.topics);
        let same = others.find(|other| other.label() == topic.label());
        let starts = (
            topic.start.as_ref(),
            same.and_then(|same| same.start.as_ref()),
        );
        (format!("topic[{at}].start_from"), starts, Some(topic))
    });
    for (key, (position, before), topic) in whole.into_iter().chain(own) {
        if let Some(position) = position.filter(|position| before != Some(*position)) {
            let reads = |name: &str| topic.is_none_or(|topic| topic.reads(name));
            check_position(&key, position, partitions, &reads)?;
        }
    }
    Ok(())
}

/// The same of one position, for the topics that it counts for.
pub(super) fn check_position(
    key: &str,
    position: &Position,
    partitions: &HashMap<String, u32>,
    reads: &dyn Fn(&str) -> bool,
) -> Result<(), Refusal> {
    for said in &position.offsets {
        let is_meant = |topic: &str| reads(topic) && (said.topic.is_empty() || said.topic == topic);
        let meant = partitions.iter().filter(|(topic, _)| is_meant(topic));
        match meant.max_by_key(|(topic, count)| (**count, *topic)) {
            // A pattern that matches nothing yet.
            None if said.topic.is_empty() => {}
            None => {
                return Err(user(
                    key,
                    format!(
                        "offsets are given of topic '{}', which is not read",
                        said.topic
                    ),
                    "correct its name, or leave it out",
                ));
            }
            Some((topic, count)) if i64::from(said.partition) >= i64::from(*count) => {
                return Err(user(
                    key,
                    format!(
                        "topic '{topic}' has no partition {}: it has {count}, and the first is 0",
                        said.partition
                    ),
                    "correct the number, or leave it out",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Empty ranges, by table, for the tables that have no offset yet: where the topic is to begin. One that begins with
/// the latest records does so once: where something of it was read, a table begins beside the topic's others, and of
/// a partition that the topic got later all is new.
fn beginnings(
    definition: &StreamDefinition,
    held: &TableOffsets,
    edges: &[PartitionEdges],
) -> Result<BTreeMap<String, Vec<OffsetRange>>, Error> {
    let mut beginnings: BTreeMap<String, Vec<OffsetRange>> = BTreeMap::new();
    for edge in edges {
        let partition = &Partition {
            topic: edge.topic.clone(),
            partition: edge.partition,
        };
        let own = held.of(partition);
        let targets = targets_of(definition, &partition.topic);
        let offsets = |table: &String| held.0.get(table).into_iter().flatten();
        let is_begun = targets
            .iter()
            .flat_map(offsets)
            .any(|(other, _)| other.topic == partition.topic);
        let others = targets.iter().filter_map(|table| own.get(table)).min();
        let is_latest = definition.start_of(&edge.topic).from() == StartFrom::Latest;
        let start = match (is_latest && is_begun, others, edge.until) {
            (false, _, _) => edge.start,
            (true, Some(other), _) => *other,
            (true, None, Some(_)) => edge.first,
            (true, None, None) => continue,
        };
        for table in targets.iter().filter(|table| !own.contains_key(*table)) {
            if !(edge.first..=edge.end).contains(&start) && others != Some(&start) {
                return Err(Error::StreamStart {
                    topic: edge.topic.clone(),
                    partition: edge.partition,
                    start,
                    first: edge.first,
                    end: edge.end,
                });
            }
            beginnings
                .entry(table.clone())
                .or_default()
                .push(OffsetRange {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    from: start,
                    to: start,
                    counts: Some(RangeCounts::default()),
                    topic_id: None,
                });
        }
    }
    Ok(beginnings)
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::{PartitionOffset, TopicDefinition};

    use super::*;

    fn partition(partition: i32) -> Partition {
        Partition {
            topic: "t".to_owned(),
            partition,
        }
    }

    /// What tables `rows` and `letters` of a topic that begins with the latest records begin at, given what they
    /// hold; partitions end at 90.
    fn begun(
        rows: &[(i32, i64)],
        letters: &[(i32, i64)],
        partitions: i32,
    ) -> Vec<(String, i32, i64)> {
        let edges: Vec<_> = (0..partitions).map(|p| edge(p, 90, None)).collect();
        begun_at(StartFrom::Latest, rows, letters, &edges).unwrap()
    }

    fn edge(partition: i32, start: i64, until: Option<i64>) -> PartitionEdges {
        PartitionEdges {
            topic: "t".to_owned(),
            partition,
            first: 5,
            end: 90,
            start,
            until,
        }
    }

    fn begun_at(
        from: StartFrom,
        rows: &[(i32, i64)],
        letters: &[(i32, i64)],
        edges: &[PartitionEdges],
    ) -> Result<Vec<(String, i32, i64)>, Error> {
        let definition = StreamDefinition {
            start_from: from.into(),
            dead_letters: "letters".to_owned(),
            topics: vec![TopicDefinition {
                topic: "t".to_owned(),
                table: "rows".to_owned(),
                ..TopicDefinition::default()
            }],
            ..StreamDefinition::default()
        };
        let offsets = |held: &[(i32, i64)]| {
            held.iter()
                .map(|(p, next)| (partition(*p), *next))
                .collect()
        };
        let held = TableOffsets(BTreeMap::from([
            ("rows".to_owned(), offsets(rows)),
            ("letters".to_owned(), offsets(letters)),
        ]));
        let begun = beginnings(&definition, &held, edges)?.into_iter();
        let each = begun.flat_map(|(table, ranges)| {
            ranges.into_iter().map(move |range| {
                assert_eq!(range.from, range.to);
                (table.clone(), range.partition, range.to)
            })
        });
        Ok(each.collect())
    }

    fn at(table: &str, partition: i32, offset: i64) -> (String, i32, i64) {
        (table.to_owned(), partition, offset)
    }

    #[test]
    fn new_topic_begins_at_its_end_in_every_table() {
        assert_eq!(
            begun(&[], &[], 1),
            [at("letters", 0, 90), at("rows", 0, 90)]
        );
    }

    #[test]
    fn a_table_without_an_offset_begins_where_the_topic_does() {
        let begun = |start| begun_at(StartFrom::Offsets, &[(0, 40)], &[], &[edge(0, start, None)]);
        assert_eq!(begun(20).unwrap(), [at("letters", 0, 20)]);
        let error = begun(4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic t partition 0 has offsets 5 to 90, so it cannot begin at 4"
        );
        assert!(begun(91).is_err());
    }

    #[test]
    fn a_bounded_stream_takes_a_later_partition_from_its_first_record() {
        let edges = [edge(0, 90, Some(90)), edge(1, 90, Some(90))];
        let begun = begun_at(StartFrom::Latest, &[(0, 40)], &[(0, 40)], &edges).unwrap();
        assert_eq!(begun, [at("letters", 1, 5), at("rows", 1, 5)]);
    }

    #[test]
    fn table_that_was_left_out_begins_beside_the_other() {
        assert_eq!(begun(&[(0, 40)], &[], 1), [at("letters", 0, 40)]);
        assert_eq!(begun(&[(0, 40)], &[(0, 30)], 1), []);
    }

    #[test]
    fn partition_that_came_later_is_read_from_its_first_record() {
        assert_eq!(begun(&[(0, 40)], &[(0, 40)], 2), []);
    }

    #[test]
    fn offsets_are_of_partitions_that_there_are() {
        let said = |topic: &str, partition| PartitionOffset {
            topic: topic.to_owned(),
            partition,
            offset: 1,
        };
        let position = |offsets: &[PartitionOffset]| {
            Some(Position {
                offsets: offsets.to_vec(),
                ..Position::default()
            })
        };
        let partitions = HashMap::from([("t".to_owned(), 2), ("u".to_owned(), 4)]);
        let topic = |name: &str| TopicDefinition {
            topic: name.to_owned(),
            ..TopicDefinition::default()
        };
        let definition = |of: &[PartitionOffset], own: &[PartitionOffset]| {
            let mut topics = vec![topic("t"), topic("u")];
            topics[0].start = position(own);
            StreamDefinition {
                topics,
                start: position(of),
                ..StreamDefinition::default()
            }
        };
        let refused = |of: &[PartitionOffset], own: &[PartitionOffset]| {
            let refusal = check_offsets(&definition(of, own), None, &partitions).err();
            refusal.map(|refusal| format!("{}: {}", refusal.key, refusal.failure.message))
        };
        let fine = [said("", -1), said("", 3), said("t", 1), said("u", -1)];
        assert_eq!(refused(&fine, &[said("", 1)]), None);
        let lacks = |key: &str, topic: &str, partition: i32, count: u32| {
            Some(format!(
                "{key}: topic '{topic}' has no partition {partition}: it has {count}, and the first is 0"
            ))
        };
        assert_eq!(refused(&[said("", 4)], &[]), lacks("start_from", "u", 4, 4));
        assert_eq!(
            refused(&[said("t", 2)], &[]),
            lacks("start_from", "t", 2, 2)
        );
        let own = refused(&[], &[said("", 2)]);
        assert_eq!(own, lacks("topic[0].start_from", "t", 2, 2));
        let other = refused(&[said("v", -1)], &[]).unwrap();
        assert!(other.contains("topic 'v', which is not read"), "{other}");

        let wrong = definition(&[said("v", 7)], &[said("", 7)]);
        let again = check_offsets(&wrong, Some(&wrong), &partitions);
        assert!(again.is_ok(), "it was looked up when it was new");
        let pattern = definition(&[said("", 7)], &[said("", 7)]);
        let nothing_yet = check_offsets(&pattern, None, &HashMap::new());
        assert!(nothing_yet.is_ok());
    }
}
