//! What a stream's definition says, asked in the same words everywhere.

use std::collections::BTreeMap;

use crate::v1::{Position, RouteDefinition, StartFrom, StreamDefinition, TopicDefinition};

impl TopicDefinition {
    /// The tables that its records go to, each with its own transform: at least one.
    pub fn all_routes(&self) -> Vec<RouteDefinition> {
        if !self.routes.is_empty() {
            return self.routes.clone();
        }
        vec![RouteDefinition {
            table: self.table.clone(),
            location: self.location.clone(),
            transform: self.transform.clone(),
            partition_by: self.partition_by.clone(),
            metadata_columns: self.metadata_columns,
            format: self.format.clone(),
        }]
    }

    /// The key of a route's `part`, below the key of this topic.
    pub fn route_key(&self, route: usize, part: &str) -> String {
        match self.routes.is_empty() {
            true => part.to_owned(),
            false => format!("route[{route}].{part}"),
        }
    }

    /// Names of the Kafka topics it reads; those of a pattern as far as they have been looked up.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let one = (!self.topic.is_empty()).then_some(self.topic.as_str());
        one.into_iter()
            .chain(self.topics.iter().map(String::as_str))
    }

    /// Whether it reads this Kafka topic.
    pub fn reads(&self, topic: &str) -> bool {
        self.names().any(|name| name == topic)
    }

    /// What people call it: the topic, the topics, or the pattern.
    pub fn label(&self) -> String {
        match (self.topic.as_str(), self.pattern.as_str()) {
            ("", "") => self.topics.join(", "),
            ("", pattern) => pattern.to_owned(),
            (topic, _) => topic.to_owned(),
        }
    }
}

impl StreamDefinition {
    /// Whether topics that do not exist yet may become part of it.
    pub fn has_patterns(&self) -> bool {
        self.topics.iter().any(|topic| !topic.pattern.is_empty())
    }

    /// Where a topic begins: its own word before the stream's.
    pub fn start_of(&self, topic: &str) -> Position {
        let own = self.topics.iter().find(|own| own.reads(topic));
        self.start_or(own.and_then(|own| own.start.clone()))
    }

    fn start_or(&self, own: Option<Position>) -> Position {
        let start = own.or_else(|| self.start.clone());
        start.unwrap_or_else(|| Position {
            from: self.start_from,
            ..Position::default()
        })
    }

    /// Whether the first record of each partition is where every topic begins.
    pub fn begins_earliest(&self) -> bool {
        let mut starts = self
            .topics
            .iter()
            .map(|own| self.start_or(own.start.clone()));
        starts.all(|start| matches!(start.from(), StartFrom::Earliest | StartFrom::Unspecified))
    }

    /// The same with what its patterns match: numbers of `[[topic]]`s by topic.
    pub fn matching(mut self, matched: &BTreeMap<String, u32>) -> Self {
        for (at, topic) in (0..).zip(&mut self.topics) {
            if !topic.pattern.is_empty() {
                let mine = matched.iter().filter(|(_, section)| **section == at);
                topic.topics = mine.map(|(name, _)| name.clone()).collect();
            }
        }
        self
    }
}

/// A column whose values become folders, as a stream's definition names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionColumn {
    /// Its name in the table.
    pub name: String,
    /// SQL that it is worked out from; none where it is a column of the rows.
    pub expression: Option<String>,
}

/// Parts of a time that have a short form, `year(at)`, and a column named like it.
const PARTS: [&str; 4] = ["year", "month", "day", "hour"];

impl PartitionColumn {
    /// `column`, `SQL AS name`, or `year(SQL)` and the like.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some((expression, name)) = named(text) {
            return Self {
                name: name.to_owned(),
                expression: Some(part(expression).map_or(expression.to_owned(), |(_, sql)| sql)),
            };
        }
        match part(text) {
            Some((name, sql)) => Self {
                name: name.to_owned(),
                expression: Some(sql),
            },
            None => Self {
                name: text.to_owned(),
                expression: None,
            },
        }
    }
}

/// `SQL AS name`, with a plain name.
fn named(text: &str) -> Option<(&str, &str)> {
    let (before, name) = text.rsplit_once(char::is_whitespace)?;
    let before = before.trim_end();
    let (expression, word) = before.rsplit_once(char::is_whitespace)?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (plain && word.eq_ignore_ascii_case("as")).then(|| (expression.trim(), name))
}

/// `year(SQL)` and the like: the part, and SQL for it.
fn part(text: &str) -> Option<(&'static str, String)> {
    let (function, rest) = text.split_once('(')?;
    let function = function.trim().to_ascii_lowercase();
    let name = PARTS.into_iter().find(|part| *part == function)?;
    let argument = rest.trim_end().strip_suffix(')')?;
    // The last parenthesis closes the first one, not one of another call.
    let mut depth = 0i32;
    for letter in argument.chars() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if depth < 0 {
            return None;
        }
    }
    let sql = format!("CAST(date_part('{name}', {argument}) AS INT)");
    (depth == 0).then_some((name, sql))
}

impl RouteDefinition {
    /// What `partition_by` says, in order.
    pub fn partition_columns(&self) -> Vec<PartitionColumn> {
        let texts = self.partition_by.iter();
        texts.map(|text| PartitionColumn::parse(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>) {
        let column = PartitionColumn::parse(text);
        (column.name, column.expression)
    }

    fn sql(name: &str, expression: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(expression.to_owned()))
    }

    #[test]
    fn partition_columns_are_columns_or_named_expressions_or_parts_of_a_time() {
        assert_eq!(parsed("month"), ("month".to_owned(), None));
        assert_eq!(parsed("a column"), ("a column".to_owned(), None));
        assert_eq!(
            parsed("date_trunc('day', at AT TIME ZONE 'Europe/Berlin') as day"),
            sql("day", "date_trunc('day', at AT TIME ZONE 'Europe/Berlin')")
        );
        assert_eq!(parsed("a % 10  AS\tdigit"), sql("digit", "a % 10"));
        assert_eq!(
            parsed("Year(at)"),
            sql("year", "CAST(date_part('year', at) AS INT)")
        );
        assert_eq!(
            parsed("hour(to_timestamp(ts)) AS h"),
            sql("h", "CAST(date_part('hour', to_timestamp(ts)) AS INT)")
        );
        assert_eq!(
            parsed("year(a) + year(b)"),
            ("year(a) + year(b)".to_owned(), None)
        );
    }
}
