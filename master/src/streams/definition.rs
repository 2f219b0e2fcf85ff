//! A definition by itself: what was left out, and what can be wrong with it before anybody looks at topics and tables.

use std::collections::BTreeSet;

use drumline_proto::v1::{StreamDefinition, TopicDefinition};

use super::apply::{Refusal, user};

/// Puts the defaults into fields that were left out.
pub(super) fn fill_in(definition: &mut StreamDefinition) {
    if definition.dead_letters.is_empty() {
        definition.dead_letters = format!("{}_dead_letters", definition.name);
    }
    if definition.format.is_empty() {
        definition.format = "parquet".to_owned();
    }
    let format = definition.format.clone();
    for topic in &mut definition.topics {
        if topic.routes.is_empty() {
            if topic.table.is_empty() {
                topic.table = topic.topic.replace(['.', '-'], "_");
            }
            if topic.format.is_empty() {
                topic.format = format.clone();
            }
        }
        for route in topic.routes.iter_mut().filter(|r| r.format.is_empty()) {
            route.format = format.clone();
        }
    }
}

pub(super) fn check_names(definition: &StreamDefinition) -> Result<(), Refusal> {
    let name = &definition.name;
    let plain = !name.is_empty()
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain {
        return Err(user(
            "name",
            format!("`{name}` is no stream name"),
            "use 1 to 64 of letters, digits, `_`, `-`",
        ));
    }
    if definition.brokers.is_empty() {
        return Err(user(
            "brokers",
            "no brokers are named",
            "give `host:port`, several separated by commas",
        ));
    }
    if let Some(setting) = drumline_proto::kafka::secret_in_clear(definition) {
        return Err(user(
            format!("kafka.{setting}"),
            format!("{setting} would be kept in the lake, where every reader of it finds it"),
            "say where it is: \"${env:KAFKA_…}\" or \"${file:/run/secrets/…}\", which workers open",
        ));
    }
    if definition.topics.is_empty() {
        return Err(user(
            "topic",
            format!("stream {name} has no topic"),
            "add a `[[topic]]`",
        ));
    }
    let mut topics = BTreeSet::new();
    for (at, topic) in definition.topics.iter().enumerate() {
        check_topic(definition, at, topic, &mut topics)?;
    }
    Ok(())
}

fn check_topic<'a>(
    definition: &StreamDefinition,
    at: usize,
    topic: &'a TopicDefinition,
    topics: &mut BTreeSet<&'a str>,
) -> Result<(), Refusal> {
    let named = [
        !topic.topic.is_empty(),
        !topic.topics.is_empty() && topic.pattern.is_empty(),
        !topic.pattern.is_empty(),
    ];
    if named.into_iter().filter(|is| *is).count() != 1 {
        let message = format!("[[topic]] number {} names no topic, or in two ways", at + 1);
        let hint = "give one of `topic`, `topics` and `pattern`";
        return Err(user(format!("topic[{at}].topic"), message, hint));
    }
    for name in topic.names().filter(|_| topic.pattern.is_empty()) {
        if !topics.insert(name) {
            let message = format!("topic {name} is named twice");
            let hint = "name it once, with a `[[topic.route]]` for each table";
            return Err(user(format!("topic[{at}].topic"), message, hint));
        }
    }
    let mut tables = BTreeSet::from([definition.dead_letters.clone()]);
    for (route_at, route) in topic.all_routes().into_iter().enumerate() {
        let key = format!("topic[{at}].{}", topic.route_key(route_at, "table"));
        if route.table.is_empty() {
            let message = format!("topic {} has no table", topic.label());
            return Err(user(key, message, "name one with `table`"));
        }
        if tables.contains(&route.table) {
            let message = format!(
                "table {} is already the target of something else",
                route.table
            );
            let hint = "give each route of a topic, and the dead letters, a table of its own";
            return Err(user(key, message, hint));
        }
        tables.insert(route.table);
    }
    if !topic.latest_table.is_empty() {
        let key = format!("topic[{at}].table");
        if topic.topic.is_empty() || !topic.routes.is_empty() {
            let message = format!(
                "topic {} keeps the newest row of each key, which one topic in one table can",
                topic.label()
            );
            return Err(user(
                key,
                message,
                "name one topic, and leave out its routes",
            ));
        }
        let named = |other: &TopicDefinition| {
            let mut routes = other.all_routes().into_iter();
            other.latest_table == topic.latest_table
                || routes.any(|route| route.table == topic.latest_table)
        };
        let mut others = definition.topics.iter().enumerate();
        let is_shared = others.any(|(other_at, other)| other_at != at && named(other));
        if is_shared || !tables.insert(topic.latest_table.clone()) {
            let message = format!(
                "table {} is already the target of something else",
                topic.latest_table
            );
            return Err(user(key, message, "name another table"));
        }
    }
    Ok(())
}
