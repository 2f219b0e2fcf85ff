//! Which topics a definition reads, of those that the brokers have.
//!
//! A name stands for itself; a pattern for every topic whose whole name it matches. A topic belongs to the
//! `[[topic]]` that names it, else to the first one whose pattern matches it.

use std::collections::BTreeMap;

use arrow::array::StringArray;
use arrow::compute::regexp_is_match_scalar;
use drumline_proto::v1;

use super::{Failed, refused};
use crate::Error;
use crate::kafka::similar;
use crate::places::MOST_TOPICS;

/// Partitions by topic, and of the topics that patterns match the number of their `[[topic]]`.
type Found = (BTreeMap<String, u32>, BTreeMap<String, u32>);

pub(super) fn look_up(
    definition: &v1::StreamDefinition,
    present: &BTreeMap<String, u32>,
) -> Result<Found, Failed> {
    let mut partitions = BTreeMap::new();
    for (index, topic) in definition.topics.iter().enumerate() {
        if !topic.pattern.is_empty() {
            continue;
        }
        for (at, name) in topic.names().enumerate() {
            let count = present.get(name).ok_or_else(|| Failed {
                key: match topic.topic.is_empty() {
                    true => format!("topic[{index}].topics[{at}]"),
                    false => format!("topic[{index}].topic"),
                },
                error: Error::UnknownTopic {
                    topic: name.to_owned(),
                    candidates: similar(name, present.keys().map(String::as_str)),
                },
            })?;
            partitions.insert(name.to_owned(), *count);
        }
    }
    let mut matched = BTreeMap::new();
    for (index, topic) in (0..).zip(&definition.topics) {
        if topic.pattern.is_empty() {
            continue;
        }
        let key = || format!("topic[{index}].pattern");
        // Kafka's own topics are no one's events.
        let free = present
            .iter()
            .filter(|(name, _)| !partitions.contains_key(*name) && !name.starts_with("__"));
        let free: Vec<(&String, &u32)> = free.collect();
        let names: StringArray = free.iter().map(|(name, _)| Some(name.as_str())).collect();
        let whole = format!("^(?:{})$", topic.pattern);
        let found = regexp_is_match_scalar(&names, &whole, None).map_err(|error| {
            let words = error.to_string();
            let why = words.lines().find_map(|line| line.strip_prefix("error: "));
            let reason = format!(
                "`{}` is no regular expression: {}",
                topic.pattern,
                why.unwrap_or("it is too large")
            );
            refused(key(), reason)
        })?;
        let mine = free.iter().enumerate().filter(|(at, _)| found.value(*at));
        let mine: Vec<(String, u32)> = mine
            .map(|(_, (name, count))| ((*name).clone(), **count))
            .collect();
        if mine.len() > MOST_TOPICS {
            let reason = format!(
                "`{}` matches {} topics; one `[[topic]]` reads {MOST_TOPICS} at most",
                topic.pattern,
                mine.len()
            );
            return Err(refused(key(), reason));
        }
        matched.extend(mine.iter().map(|(name, _)| (name.clone(), index)));
        partitions.extend(mine);
    }
    Ok((partitions, matched))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(topics: &[(&str, &str)]) -> v1::StreamDefinition {
        let topic = |(topic, pattern): &(&str, &str)| v1::TopicDefinition {
            topic: (*topic).to_owned(),
            pattern: (*pattern).to_owned(),
            ..Default::default()
        };
        v1::StreamDefinition {
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn found(topics: &[(&str, &str)]) -> Vec<(String, u32)> {
        let names = ["events.a", "events.b", "events", "my.events.a", "__offsets"];
        let present = names.map(|name| (name.to_owned(), 2)).into();
        let Ok((partitions, matched)) = look_up(&definition(topics), &present) else {
            panic!("refused")
        };
        assert!(matched.keys().all(|name| partitions[name] == 2));
        matched.into_iter().collect()
    }

    fn pair(name: &str, section: u32) -> (String, u32) {
        (name.to_owned(), section)
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert_eq!(
            found(&[("", "events\\..*")]),
            [pair("events.a", 0), pair("events.b", 0)]
        );
        assert_eq!(found(&[("", "a|events")]), [pair("events", 0)]);
    }

    #[test]
    fn a_name_comes_before_patterns_and_the_first_pattern_before_others() {
        assert_eq!(
            found(&[("", ".*\\.b"), ("", ".*"), ("events.a", "")]),
            [
                pair("events", 1),
                pair("events.b", 0),
                pair("my.events.a", 1)
            ]
        );
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let Err(Failed { key, error }) = look_up(&definition(&[("", "a(")]), &BTreeMap::new())
        else {
            panic!("accepted")
        };
        assert_eq!(key, "topic[0].pattern");
        assert_eq!(
            error.to_string(),
            "`a(` is no regular expression: unclosed group"
        );
    }
}
