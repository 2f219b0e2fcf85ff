//! `fresh(t)`: what a stream's table holds, and what the stream has not written to it yet.
//!
//! The snapshot tells, for each partition, the position after the last record in it. From exactly there the
//! topic is read to where it ended when the statement was planned, through the stream's own decoder and
//! transform: no record is missed and none comes twice, whatever the stream commits meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use drumline_engine::{Error, Fresh, Result, Span, TopicTable};
use drumline_lake::{CatalogSnapshot, ErrorKind, Table, TableName, TableSnapshot};
use drumline_proto::v1::{StreamDefinition, TopicDefinition, TopicRows, TopicSource};
use uuid::Uuid;

use super::{Pinned, Pins, Topics, choice};

/// Operations that take files away and leave every row.
const SAME_ROWS: [&str; 2] = ["OPTIMIZE", "CHANGE COLUMN"];

/// Up to which version tables are known to have had no row changed, by their ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unchanged {
    up_to: Arc<Mutex<HashMap<Uuid, u64>>>,
}

impl Unchanged {
    /// Fails where a statement changed rows of the table, as far back as its history goes.
    async fn check(&self, table: &Table, snapshot: &TableSnapshot) -> Result<()> {
        let id = table.object().id;
        // Inserts are whole, so a poisoned lock is still good.
        let lock = || self.up_to.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&id).copied();
        let Some(new) = snapshot.version.checked_sub(known.unwrap_or(0)) else {
            return Ok(());
        };
        let mut limit = new + u64::from(known.is_none());
        while limit > 0 {
            let told = table
                .history(usize::try_from(limit).unwrap_or(usize::MAX))
                .await?;
            // It goes on growing while it is read.
            let newest = told
                .first()
                .map_or(snapshot.version, |version| version.version);
            let wanted = newest.saturating_sub(known.unwrap_or(0)) + u64::from(known.is_none());
            let is_whole = wanted <= limit;
            let changed = told.into_iter().find(|version| {
                version.files_removed > 0
                    && !version
                        .operation
                        .as_deref()
                        .is_some_and(|by| SAME_ROWS.contains(&by))
            });
            if let Some(version) = changed {
                let by = version.operation.as_deref().unwrap_or("a writer");
                return Err(refused(
                    &snapshot.name,
                    &format!("version {} changed rows of it ({by})", version.version),
                    "only tables that nothing but a stream and INSERT write can be read fresh",
                ));
            }
            if is_whole {
                lock().insert(id, newest);
                break;
            }
            limit = wanted;
        }
        Ok(())
    }
}

impl Topics {
    /// The tables of the lake that the table's stream looks things up in, by the names that its transforms give them.
    pub(crate) async fn lookups(
        &self,
        catalog: &CatalogSnapshot,
        table: &TableName,
    ) -> Result<BTreeSet<String>> {
        let stream = writer(&self.streams(catalog).await, table)?;
        let transforms = stream.topics.iter().map(|topic| topic.transform.as_str());
        let tables = transforms.flat_map(drumline_engine::sql::tables_of);
        Ok(tables.filter(|name| name != "input").collect())
    }

    /// The two parts of a table. What the rest looks things up in is read in these versions.
    pub(crate) async fn fresh(
        &self,
        catalog: &CatalogSnapshot,
        unchanged: &Unchanged,
        (table, snapshot): (&Table, &TableSnapshot),
        (lake, lookups): (String, HashMap<String, u64>),
        pins: &Pins,
    ) -> Result<Fresh> {
        let streams = self.streams(catalog).await;
        let stream = writer(&streams, &snapshot.name)?;
        unchanged.check(table, snapshot).await?;
        let provider = snapshot.provider()?;
        let mut tails = Vec::new();
        for topic in &stream.topics {
            let definition = StreamDefinition {
                topics: vec![topic.clone()],
                ..stream.clone()
            };
            let source = TopicSource {
                definition: Some(definition),
                rows: TopicRows::Table.into(),
                lake: lake.clone(),
                lookups: lookups.clone(),
                ..TopicSource::default()
            };
            let held = |partition: i32| {
                let place = (topic.topic.clone(), partition);
                snapshot.offsets.get(&place).copied()
            };
            let pin = pins.of(&format!("fresh {}:{}", stream.name, topic.topic));
            let pinned = pin.get_or_try_init(|| async {
                let seen = self.workers.look_at_topic(&source, &[]).await?;
                let pinned = Pinned::new(source.clone(), seen);
                // The snapshot is older than this look: what it holds was there.
                let was = snapshot.topic_ids.get(&topic.topic);
                if let (Some(was), Some(is)) = (was, &pinned.topic_id)
                    && was != is
                {
                    return Err(another(&topic.topic, &snapshot.name));
                }
                for span in &pinned.spans {
                    if let Some(held) = held(span.partition).filter(|held| *held > span.to) {
                        return Err(remade(&topic.topic, span, held, &snapshot.name));
                    }
                }
                Ok(pinned)
            });
            let pinned = pinned.await?;
            let spans = pinned.spans.iter().map(|span| {
                let from = held(span.partition).unwrap_or(span.from);
                match from < span.from {
                    true => Err(lost(&topic.topic, span, from, &snapshot.name)),
                    false => Ok(Span { from, ..*span }),
                }
            });
            let spans = spans.collect::<Result<Vec<_>>>()?;
            tails.push(TopicTable::rows(source, provider.schema(), spans)?);
        }
        Ok(Fresh {
            table: provider,
            tails,
        })
    }
}

/// The one stream that writes a table, with the topics that it writes there.
fn writer(streams: &[StreamDefinition], table: &TableName) -> Result<StreamDefinition> {
    let is_it = |name: &str| TableName::parse(name).is_ok_and(|name| name == *table);
    if let Some(stream) = streams.iter().find(|stream| is_it(&stream.dead_letters)) {
        return Err(refused(
            table,
            &format!("it holds the dead letters of stream {}", stream.name),
            "read it as it is",
        ));
    }
    let keeps_newest = |stream: &&StreamDefinition| {
        let mut topics = stream.topics.iter();
        topics.any(|topic| !topic.latest_table.is_empty() && is_it(&topic.latest_table))
    };
    if let Some(stream) = streams.iter().find(keeps_newest) {
        return Err(refused(
            table,
            &format!(
                "stream {} keeps the newest row of each key in it",
                stream.name
            ),
            "read it as it is, or its changes fresh: they are only appended",
        ));
    }
    let mut writers = streams.iter().filter_map(|stream| {
        let topics: Vec<_> = stream
            .topics
            .iter()
            .flat_map(|entry| routed(entry, &is_it))
            .collect();
        (!topics.is_empty()).then(|| StreamDefinition {
            topics,
            ..stream.clone()
        })
    });
    match (writers.next(), writers.next()) {
        (Some(stream), None) => Ok(stream),
        (None, _) => Err(refused(
            table,
            "no stream writes it",
            "read it as it is, or apply a stream that writes it",
        )),
        (Some(one), Some(other)) => Err(refused(
            table,
            &format!("the streams {} and {} both write it", one.name, other.name),
            "read it as it is, or give each stream a table of its own",
        )),
    }
}

/// The topics that an entry routes to a table, each by itself.
fn routed(entry: &TopicDefinition, is_it: &impl Fn(&str) -> bool) -> Vec<TopicDefinition> {
    let routes = entry.all_routes().into_iter();
    let routes = routes.filter(|route| is_it(&route.table));
    routes
        .flat_map(|route| {
            let topic = |name: &str| TopicDefinition {
                routes: Vec::new(),
                table: route.table.clone(),
                transform: route.transform.clone(),
                partition_by: route.partition_by.clone(),
                metadata_columns: route.metadata_columns,
                ..choice::alone(entry, name)
            };
            entry.names().map(topic).collect::<Vec<_>>()
        })
        .collect()
}

fn user(message: String, hint: &str) -> Error {
    Error::Failed {
        kind: ErrorKind::User,
        message,
        hint: Some(hint.to_owned()),
        worker: None,
    }
}

fn refused(table: &TableName, reason: &str, hint: &str) -> Error {
    user(format!("{table} cannot be read fresh: {reason}"), hint)
}

fn lost(topic: &str, span: &Span, held: i64, table: &TableName) -> Error {
    user(
        format!(
            "{table} cannot be read fresh: topic {topic} partition {} begins at offset {} now, and [{held}, {}) \
             are gone before the table had them",
            span.partition, span.from, span.from
        ),
        "retention was shorter than the stream was away; read the table as it is",
    )
}

fn another(topic: &str, table: &TableName) -> Error {
    user(
        format!(
            "{table} cannot be read fresh: topic {topic} is another one than the table's records came from"
        ),
        "the topic was made anew; read the table as it is, or see what its stream says",
    )
}

fn remade(topic: &str, span: &Span, held: i64, table: &TableName) -> Error {
    user(
        format!(
            "{table} cannot be read fresh: topic {topic} partition {} ends at offset {}, but the table goes on at \
             {held}",
            span.partition, span.to
        ),
        "the topic was made anew; read the table as it is",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, tables: &[(&str, &str)]) -> StreamDefinition {
        let topic = |(topic, table): &(&str, &str)| TopicDefinition {
            topic: (*topic).to_owned(),
            table: (*table).to_owned(),
            ..Default::default()
        };
        StreamDefinition {
            name: name.to_owned(),
            dead_letters: format!("{name}_dead"),
            topics: tables.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_table_is_read_fresh_with_the_topics_that_its_stream_writes_there() {
        let streams = [
            stream("a", &[("t", "raw.x"), ("u", "y"), ("v", "raw.x")]),
            stream("b", &[("w", "z")]),
        ];
        let found = writer(&streams, &TableName::new("raw", "x")).unwrap();
        let topics: Vec<_> = found
            .topics
            .iter()
            .map(|topic| topic.topic.as_str())
            .collect();
        assert_eq!((found.name.as_str(), topics), ("a", vec!["t", "v"]));
    }

    #[test]
    fn what_is_no_one_streams_table_is_refused_by_name() {
        let streams = [stream("a", &[("t", "x")]), stream("b", &[("t", "x")])];
        let streams = streams.map(|mut stream| {
            stream.topics[0].latest_table = format!("{}_newest", stream.name);
            stream
        });
        let check = |table: &str, expected: &str| {
            let error = writer(&streams, &TableName::bare(table)).unwrap_err();
            let expected = format!("{table} cannot be read fresh: {expected}");
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind(), ErrorKind::User);
        };
        check("x", "the streams a and b both write it");
        check("y", "no stream writes it");
        check(
            "a_newest",
            "stream a keeps the newest row of each key in it",
        );
        check("b_dead", "it holds the dead letters of stream b");
    }
}
