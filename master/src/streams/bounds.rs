//! Streams that end by themselves: where, and whether they have. And which streams may not stand side by side. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drumline_proto::v1::{PartitionEdges, PartitionOffset, StartFrom, StreamDefinition};

use super::tables::{dead_letters_of, targets_of};
use super::{Layout, Partition, TableOffsets};

/// What a definition's `until` is for each partition: as it was found before where it says the same as before and
/// has not come to its end, else as Kafka is now. Only `now` moves on for a stream that has ended.
pub(super) fn bounds(
    definition: &StreamDefinition,
    edges: &[PartitionEdges],
    before: Option<&StreamDefinition>,
    has_finished: bool,
) -> Vec<PartitionOffset> {
    let Some(until) = &definition.until else {
        return Vec::new();
    };
    let same = before.filter(|before| before.until.as_ref() == Some(until));
    let kept = same.filter(|_| !has_finished || until.from() != StartFrom::Latest);
    let bounds = edges.iter().filter_map(|edge| {
        let known = kept.and_then(|kept| bound(kept, &edge.topic, edge.partition));
        Some(PartitionOffset {
            topic: edge.topic.clone(),
            partition: edge.partition,
            offset: known.or(edge.until)?,
        })
    });
    bounds.collect()
}

/// Where a partition of a stream ends by itself.
pub(super) fn bound(definition: &StreamDefinition, topic: &str, partition: i32) -> Option<i64> {
    let mut bounds = definition.bounds.iter();
    let bound = bounds.find(|bound| bound.topic == topic && bound.partition == partition);
    bound.map(|bound| bound.offset)
}

/// The partitions of a stream that ends by itself: those it was applied for, and no later ones. Others have what was
/// seen. Which topics patterns match has to be seen first.
pub(super) fn within(definition: &StreamDefinition, seen: Option<Layout>) -> Option<Layout> {
    let is_open = definition.until.is_none();
    if is_open || (seen.is_none() && definition.has_patterns()) {
        return seen;
    }
    let mut topics: BTreeMap<String, u32> = BTreeMap::new();
    for bound in &definition.bounds {
        let count = u32::try_from(bound.partition + 1).unwrap_or(0);
        let known = topics.entry(bound.topic.clone()).or_default();
        *known = count.max(*known);
    }
    Some(Layout {
        topics,
        matched: seen.unwrap_or_default().matched,
    })
}

/// Whether every table has everything below the stream's bounds.
pub(super) fn is_finished(definition: &StreamDefinition, offsets: &TableOffsets) -> bool {
    are_at_bounds(definition, offsets, |_| true)
}

/// Whether the tables of rows have: no row would be written, though the dead letters may be new.
pub(super) fn has_nothing_to_write(definition: &StreamDefinition, offsets: &TableOffsets) -> bool {
    let letters = dead_letters_of(definition);
    are_at_bounds(definition, offsets, |table| table != letters)
}

fn are_at_bounds(
    definition: &StreamDefinition,
    offsets: &TableOffsets,
    counts: impl Fn(&str) -> bool,
) -> bool {
    let is_reached = |bound: &PartitionOffset| {
        let partition = Partition {
            topic: bound.topic.clone(),
            partition: bound.partition,
        };
        let mut targets = targets_of(definition, &bound.topic);
        targets.retain(|table| counts(table));
        let next = offsets.resume_from(&partition, &targets);
        next.is_some_and(|next| next >= bound.offset)
    };
    definition.until.is_some() && definition.bounds.iter().all(is_reached)
}

/// A table that another stream writes the same topic to: the stream, the topic, the table.
pub(super) fn overlap<'a>(
    definition: &StreamDefinition,
    topics: &BTreeSet<String>,
    others: impl Iterator<Item = (&'a StreamDefinition, BTreeSet<String>)>,
) -> Option<(String, String, String)> {
    for (other, others_topics) in others.filter(|(other, _)| other.name != definition.name) {
        for topic in topics.intersection(&others_topics) {
            let own = targets_of(definition, topic);
            if let Some(table) = targets_of(other, topic).intersection(&own).next() {
                return Some((other.name.clone(), topic.clone(), table.clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::{Position, TopicDefinition};

    use super::*;

    fn definition(name: &str, table: &str, until: Option<StartFrom>) -> StreamDefinition {
        StreamDefinition {
            name: name.to_owned(),
            dead_letters: format!("{name}_letters"),
            topics: vec![TopicDefinition {
                topic: "t".to_owned(),
                table: table.to_owned(),
                ..TopicDefinition::default()
            }],
            until: until.map(|from| Position {
                from: from.into(),
                ..Position::default()
            }),
            ..StreamDefinition::default()
        }
    }

    fn edges(ends: &[i64]) -> Vec<PartitionEdges> {
        let edge = |(partition, end): (usize, &i64)| PartitionEdges {
            topic: "t".to_owned(),
            partition: partition as i32,
            end: *end,
            until: Some(*end),
            ..PartitionEdges::default()
        };
        ends.iter().enumerate().map(edge).collect()
    }

    fn offsets(bounds: &[PartitionOffset]) -> Vec<i64> {
        bounds.iter().map(|bound| bound.offset).collect()
    }

    #[test]
    fn a_bound_stays_while_the_stream_is_on_its_way() {
        let mut before = definition("s", "rows", Some(StartFrom::Latest));
        before.bounds = bounds(&before, &edges(&[10]), None, false);
        let again = definition("s", "rows", Some(StartFrom::Latest));
        let found = |finished| offsets(&bounds(&again, &edges(&[90, 70]), Some(&before), finished));
        assert_eq!(found(false), [10, 70], "the second partition is new");
        assert_eq!(found(true), [90, 70]);
        let other = definition("s", "rows", Some(StartFrom::Timestamp));
        let found = offsets(&bounds(&other, &edges(&[90]), Some(&before), false));
        assert_eq!(found, [90]);
        let none = definition("s", "rows", None);
        assert!(bounds(&none, &edges(&[90]), Some(&before), false).is_empty());
    }

    #[test]
    fn a_stream_has_finished_when_every_table_is_at_every_bound() {
        let mut definition = definition("s", "rows", Some(StartFrom::Latest));
        definition.bounds = bounds(&definition, &edges(&[10, 0]), None, false);
        let seen = Layout {
            topics: BTreeMap::from([("t".to_owned(), 9)]),
            ..Layout::default()
        };
        for seen in [None, Some(seen)] {
            assert_eq!(within(&definition, seen).unwrap().topics["t"], 2);
        }
        let held = |rows: i64, letters: i64| {
            let at = |next: i64| {
                let partition = |partition| Partition {
                    topic: "t".to_owned(),
                    partition,
                };
                BTreeMap::from([(partition(0), next), (partition(1), 0)])
            };
            TableOffsets(BTreeMap::from([
                ("rows".to_owned(), at(rows)),
                ("s_letters".to_owned(), at(letters)),
            ]))
        };
        assert!(!is_finished(&definition, &held(10, 9)));
        assert!(has_nothing_to_write(&definition, &held(10, 9)));
        assert!(!has_nothing_to_write(&definition, &held(9, 12)));
        assert!(is_finished(&definition, &held(10, 12)));
        assert!(!is_finished(&definition, &TableOffsets::default()));
        definition.until = None;
        definition.bounds.clear();
        assert!(!is_finished(&definition, &held(10, 10)), "it has no end");
    }

    #[test]
    fn two_streams_write_one_topic_to_one_table_never() {
        let topics = BTreeSet::from(["t".to_owned()]);
        let clash = |name: &str, table: &str, others: &[StreamDefinition]| {
            let others = others.iter().map(|other| (other, topics.clone()));
            overlap(&definition(name, table, None), &topics, others)
        };
        let other = definition("a", "rows", None);
        let found = clash("b", "rows", std::slice::from_ref(&other)).unwrap();
        assert_eq!(found, ("a".to_owned(), "t".to_owned(), "rows".to_owned()));
        assert_eq!(clash("b", "others", std::slice::from_ref(&other)), None);
        assert_eq!(
            clash("a", "rows", std::slice::from_ref(&other)),
            None,
            "itself"
        );
    }
}
