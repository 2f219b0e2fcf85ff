//! Which stream says how a topic is read.

use drumline_engine::{Error, Result};
use drumline_lake::{CatalogSnapshot, ErrorKind};
use drumline_proto::v1::{StreamDefinition, TopicDefinition, TopicRows, TopicSource};

use crate::options::TopicBrokers;

/// Between a stream and a topic, where several streams read a topic each in its own way: no name of either holds
/// one.
const BETWEEN: char = ':';

/// Under which name brokers know a reader of topics that no stream reads.
const READER: &str = "sql";

/// The catalog's streams. One that this build cannot read is left out: its own start says so.
pub(super) fn streams(catalog: &CatalogSnapshot) -> Vec<StreamDefinition> {
    let streams = catalog.streams();
    streams
        .filter_map(|(_, stream)| serde_json::from_str(&stream.definition).ok())
        .collect()
}

pub(super) fn names(streams: &[StreamDefinition]) -> Vec<String> {
    let topics = streams.iter().flat_map(|stream| &stream.topics);
    let names = topics.flat_map(TopicDefinition::names);
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// How a topic is read, or nothing if it is nobody's.
pub(super) fn source(
    streams: &[StreamDefinition],
    brokers: Option<&TopicBrokers>,
    name: &str,
) -> Result<Option<TopicSource>> {
    let (of_stream, topic) = match name.split_once(BETWEEN) {
        Some((stream, topic)) => (Some(stream), topic),
        None => (None, name),
    };
    let found: Vec<StreamDefinition> = streams
        .iter()
        .filter(|stream| of_stream.is_none_or(|wanted| wanted == stream.name))
        .filter_map(|stream| only(stream, topic))
        .collect();
    let Some(first) = found.first() else {
        let known = brokers.filter(|_| of_stream.is_none());
        return Ok(known.map(|brokers| raw(brokers, topic)));
    };
    if found.iter().any(|other| how(other) != how(first)) {
        let names: Vec<&str> = found.iter().map(|stream| stream.name.as_str()).collect();
        return Err(Error::Failed {
            kind: ErrorKind::User,
            message: format!(
                "topic {topic} is read by the streams {}, each in its own way",
                names.join(" and ")
            ),
            hint: Some(format!(
                "say whose way is meant: kafka.\"{}{BETWEEN}{topic}\"",
                first.name
            )),
            worker: None,
        });
    }
    Ok(Some(TopicSource {
        definition: Some(first.clone()),
        rows: TopicRows::Records.into(),
        ..TopicSource::default()
    }))
}

/// The stream with one topic of its topics.
fn only(stream: &StreamDefinition, topic: &str) -> Option<StreamDefinition> {
    let entry = stream.topics.iter().find(|entry| entry.reads(topic))?;
    Some(StreamDefinition {
        topics: vec![alone(entry, topic)],
        ..stream.clone()
    })
}

/// What an entry says of one topic that it reads.
pub(super) fn alone(entry: &TopicDefinition, topic: &str) -> TopicDefinition {
    TopicDefinition {
        topic: topic.to_owned(),
        topics: Vec::new(),
        pattern: String::new(),
        ..entry.clone()
    }
}

/// What decides how a topic's records are reached and decoded; where they go does not matter.
fn how(stream: &StreamDefinition) -> StreamDefinition {
    let topics = stream.topics.iter().map(|topic| TopicDefinition {
        table: String::new(),
        location: String::new(),
        transform: String::new(),
        partition_by: Vec::new(),
        metadata_columns: false,
        format: String::new(),
        routes: Vec::new(),
        // Of its name only that there is one: null values are changes then.
        latest_table: topic.latest_table.get(..1).unwrap_or_default().to_owned(),
        ..topic.clone()
    });
    StreamDefinition {
        brokers: stream.brokers.clone(),
        kafka: stream.kafka.clone(),
        registry: stream.registry.clone(),
        topics: topics.collect(),
        ..StreamDefinition::default()
    }
}

fn raw(brokers: &TopicBrokers, topic: &str) -> TopicSource {
    TopicSource {
        definition: Some(StreamDefinition {
            name: READER.to_owned(),
            brokers: brokers.brokers.clone(),
            kafka: brokers.settings.clone().into_iter().collect(),
            topics: vec![TopicDefinition {
                topic: topic.to_owned(),
                ..TopicDefinition::default()
            }],
            ..StreamDefinition::default()
        }),
        rows: TopicRows::Raw.into(),
        ..TopicSource::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use drumline_proto::v1::FieldDefinition;

    use super::*;

    fn stream(name: &str, field: &str) -> StreamDefinition {
        StreamDefinition {
            name: name.to_owned(),
            brokers: "b:1".to_owned(),
            topics: vec![TopicDefinition {
                topic: "t".to_owned(),
                table: format!("{name}_rows"),
                schema: vec![FieldDefinition {
                    name: field.to_owned(),
                    r#type: "bigint".to_owned(),
                    required: false,
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn reader(found: Option<TopicSource>) -> Option<(String, TopicRows)> {
        let found = found?;
        let rows = found.rows();
        Some((found.definition?.name, rows))
    }

    #[test]
    fn a_topic_is_read_as_the_stream_that_reads_it_says() {
        let streams = [stream("a", "x"), stream("b", "x")];
        let found = reader(source(&streams, None, "t").unwrap());
        assert_eq!(found, Some(("a".to_owned(), TopicRows::Records)));
        assert_eq!(reader(source(&streams, None, "u").unwrap()), None);
    }

    #[test]
    fn two_ways_to_read_a_topic_are_told_apart_by_their_streams() {
        let streams = [stream("a", "x"), stream("b", "y")];
        let error = source(&streams, None, "t").unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic t is read by the streams a and b, each in its own way"
        );
        assert_eq!(
            error.hint().unwrap(),
            "say whose way is meant: kafka.\"a:t\""
        );
        let found = reader(source(&streams, None, "b:t").unwrap());
        assert_eq!(found, Some(("b".to_owned(), TopicRows::Records)));
        assert_eq!(reader(source(&streams, None, "c:t").unwrap()), None);
    }

    #[test]
    fn a_topic_of_nobody_is_text_where_its_brokers_are_known() {
        let brokers = TopicBrokers {
            brokers: "c:2".to_owned(),
            settings: BTreeMap::new(),
        };
        let found = source(&[stream("a", "x")], Some(&brokers), "u").unwrap();
        assert_eq!(reader(found), Some(("sql".to_owned(), TopicRows::Raw)));
    }
}
