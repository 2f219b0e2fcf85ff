//! The file that defines a stream.
//!
//! ```toml
//! name = "listening"
//! brokers = "${BROKERS:-127.0.0.1:9092}"   # every text may name environment variables
//! flush_interval = "120s"                  # ms, s, m, h; default 60s
//! flush_aligned = true                     # at multiples of it: :00, :02, …; default false
//! target_file_size = "128MB"               # KB, MB, GB, KiB, MiB, GiB; default 128MB
//! target_file_rows = 1_000_000             # default: no matter how many
//! lookup_refresh = "60s"                   # how often tables that transforms join are read anew
//! lookup_max_size = "64MiB"                # how large such a table may be
//! start_from = "earliest"                  # the default; or "latest", { timestamp = "2026-11-01T00:00:00Z" },
//!                                          # { offsets = { listen_events = { 0 = 1200 } } }
//! until = "now"                            # the stream ends there by itself; or a timestamp or offsets as above
//! format = "parquet"                       # or delta, the default
//! dead_letters = "listening_dead_letters"  # the default: the name and _dead_letters
//! kafka = { "security.protocol" = "ssl" }  # passed on to librdkafka; secrets by ${env:…} or ${file:…}
//!
//! [[topic]]
//! topic = "listen_events"
//! table = "listen_events"                  # default: the topic's name
//! location = "listen_events"               # below the lake's root; default: the table's place
//! schema = { ts = "bigint", song = "varchar" }
//! required = ["ts"]                        # a record without it is a dead letter
//! transform = "SELECT * FROM input"        # default: every field as it is
//! partition_by = ["day"]
//! metadata_columns = true                  # _topic, _partition, _offset; the default
//! format = "parquet"                       # default: the stream's
//! decode = { format = "csv" }              # or json, raw, avro, protobuf, json_schema; the default: json
//! key_column = "text"                      # _key, as text or binary; headers_column: _headers
//! timestamp_column = true                  # _timestamp
//! keep = "latest"                          # the newest row of each key; the changes go to TABLE_changes
//! keys = ["id"]                            # which columns make up the key
//! start_from = { offsets = { 0 = 1200 } }  # default: the stream's
//!
//! [[topic]]                                # one topic, several tables
//! topic = "page_view_events"
//! schema = { ts = "bigint", page = "varchar" }
//! [[topic.route]]                          # each with table, location, transform, partition_by,
//! table = "views"                          # metadata_columns, format of its own
//! [[topic.route]]
//! table = "errors"
//! transform = "SELECT * FROM input WHERE page = 'Error'"
//!
//! [[topic]]                                # several topics, one table
//! topics = ["clicks.web", "clicks.app"]    # or pattern = "clicks\\..*", also for topics to come
//! table = "clicks"
//! schema = { ts = "bigint" }
//!
//! [registry]                               # for avro and protobuf
//! url = "http://registry:8081"
//! username = "drumline"
//! password_env = "REGISTRY_PASSWORD"       # or password_file, token_env, token_file
//! ```
//!
//! Nothing is guessed: an unknown key is an error, and an error names file, line, key, reason and
//! what would be accepted. Whether brokers, topics, types and SQL hold is the cluster's to check,
//! where the stream will run.

mod decode;
mod place;
mod section;
mod value;

use std::path::Path;

use drumline_proto::v1;
use toml::de::DeTable;

use crate::{Error, Result};
pub use place::position;
use section::{File, Section};

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const STREAM_KEYS: &[&str] = &[
    "name",
    "brokers",
    "kafka",
    "flush_interval",
    "flush_aligned",
    "target_file_size",
    "target_file_rows",
    "lookup_refresh",
    "lookup_max_size",
    "start_from",
    "until",
    "format",
    "dead_letters",
    "paused",
    "registry",
    "topic",
];
const TOPIC_KEYS: &[&str] = &[
    "topic",
    "topics",
    "pattern",
    "table",
    "location",
    "schema",
    "required",
    "transform",
    "partition_by",
    "metadata_columns",
    "format",
    "decode",
    "key_column",
    "headers_column",
    "timestamp_column",
    "keep",
    "keys",
    "start_from",
    "route",
];
/// Of a topic with one table, and of each route.
const ROUTE_KEYS: &[&str] = &[
    "table",
    "location",
    "transform",
    "partition_by",
    "metadata_columns",
    "format",
];
const BYTES: &[&str] = &["text", "binary"];
const DEFAULT_FLUSH_INTERVAL: &str = "60s";
const DEFAULT_LOOKUP_REFRESH: &str = "60s";
const DEFAULT_LOOKUP_SIZE: &str = "64MiB";
const DEFAULT_FILE_SIZE: &str = "128MB";
const FORMATS: &[&str] = &["delta", "parquet"];

/// Reads a stream file. `path` is for error messages only.
///
/// # Errors
/// [`Error::StreamFile`] names file, line, key, reason, and what would be accepted.
pub fn parse(text: &str, path: &Path) -> Result<v1::StreamDefinition> {
    parse_with(text, path, &|name| std::env::var(name).ok())
}

/// The same with another environment.
pub fn parse_with(
    text: &str,
    path: &Path,
    environment: Environment<'_>,
) -> Result<v1::StreamDefinition> {
    let file = File {
        path: path.display().to_string(),
        text,
        environment,
    };
    let root = DeTable::parse(text).map_err(|error| Error::StreamFile {
        file: file.path.clone(),
        line: error.span().map(|span| file.line(span.start)),
        key: String::new(),
        reason: error.message().trim().replace('\n', ", "),
        accepted: None,
    })?;
    let stream = Section::new(&file, String::new(), root.get_ref());
    stream.only(STREAM_KEYS)?;

    let name = stream.name("name")?.ok_or_else(|| stream.missing("name"))?;
    let format = stream.choice("format", FORMATS)?.unwrap_or("delta");
    let sections = stream.tables("topic")?;
    if sections.is_empty() {
        return Err(stream.missing("topic"));
    }
    let topics = sections
        .iter()
        .map(|section| topic(section, format))
        .collect::<Result<Vec<_>>>()?;
    unique(&sections, &topics)?;
    let start = stream.place("start_from")?;
    let start_from = match start.as_ref().map(v1::Position::from) {
        Some(v1::StartFrom::Latest) => v1::StartFrom::Latest,
        _ => v1::StartFrom::Earliest,
    };
    let until = stream.place("until")?;
    if until.as_ref().map(v1::Position::from) == Some(v1::StartFrom::Earliest) {
        let reason = "a stream that ends where it begins reads nothing".to_owned();
        return Err(stream.wrong("until", reason, Some("\"now\", a moment, { offsets = … }")));
    }
    Ok(v1::StreamDefinition {
        brokers: stream.brokers("brokers")?,
        kafka: stream.settings("kafka")?,
        flush_interval_millis: stream.duration("flush_interval", DEFAULT_FLUSH_INTERVAL)?,
        target_file_size: stream.bytes("target_file_size", DEFAULT_FILE_SIZE)?,
        target_file_rows: stream.count("target_file_rows")?.unwrap_or(0),
        lookup_refresh_millis: stream.duration("lookup_refresh", DEFAULT_LOOKUP_REFRESH)?,
        lookup_max_bytes: stream.bytes("lookup_max_size", DEFAULT_LOOKUP_SIZE)?,
        flush_aligned: stream.boolean("flush_aligned")?.unwrap_or(false),
        dead_letters: stream
            .table_name("dead_letters")?
            .unwrap_or_else(|| format!("{name}_dead_letters")),
        topics,
        start_from: start_from.into(),
        paused: stream.boolean("paused")?.unwrap_or(false),
        format: format.to_owned(),
        registry: decode::registry(&stream)?,
        // Words that older masters know too are said as they know them.
        start: start.filter(|start| {
            !matches!(
                start.from(),
                v1::StartFrom::Earliest | v1::StartFrom::Latest
            )
        }),
        until,
        bounds: Vec::new(),
        name,
        revision: 0,
    })
}

fn topic(section: &Section<'_>, stream_format: &str) -> Result<v1::TopicDefinition> {
    section.only(TOPIC_KEYS)?;
    let (topic, topics, pattern) = names(section)?;
    let decode = decode::decode(section)?;
    let mut schema = match section.fields("schema")? {
        Some(schema) => schema,
        None if decode::needs_schema(decode.as_ref()) => return Err(section.missing("schema")),
        None => Vec::new(),
    };
    for name in section.strings("required")? {
        let Some(field) = schema.iter_mut().find(|field| field.name == name) else {
            let known = schema
                .iter()
                .map(|field| field.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(section.wrong(
                "required",
                format!("{name} is not in the schema"),
                Some(&known),
            ));
        };
        field.required = true;
    }
    let mut sections = section.tables("route")?;
    let (single, routes) = match sections.as_slice() {
        [] => (route(section, &topic, stream_format)?, Vec::new()),
        several => {
            if let Some(key) = ROUTE_KEYS.iter().find(|key| section.has(key)) {
                let reason = format!("{key} belongs into each [[topic.route]] here");
                return Err(section.wrong(key, reason, None));
            }
            let routes = several.iter().map(|section| {
                section.only(ROUTE_KEYS)?;
                route(section, "", stream_format)
            });
            let routes = routes.collect::<Result<Vec<_>>>()?;
            (v1::RouteDefinition::default(), routes)
        }
    };
    for (at, (section, route)) in sections.drain(..).zip(&routes).enumerate() {
        if routes[..at].iter().any(|other| other.table == route.table) {
            return Err(section.wrong("table", format!("{} is there twice", route.table), None));
        }
    }
    let (table, latest_table, keys) = latest(section, &topic, &routes, single.table)?;
    Ok(v1::TopicDefinition {
        table,
        location: single.location,
        schema,
        transform: single.transform,
        partition_by: single.partition_by,
        metadata_columns: single.metadata_columns,
        format: single.format,
        topic,
        routes,
        topics,
        pattern,
        decode,
        key_column: section
            .choice("key_column", BYTES)?
            .unwrap_or_default()
            .to_owned(),
        headers_column: section
            .choice("headers_column", BYTES)?
            .unwrap_or_default()
            .to_owned(),
        timestamp_column: section.boolean("timestamp_column")?.unwrap_or(false),
        latest_table,
        keys,
        start: section.place("start_from")?,
    })
}

/// What a `[[topic]]` reads: one topic, several, or those that match a pattern.
fn names(section: &Section<'_>) -> Result<(String, Vec<String>, String)> {
    let topic = section.string("topic")?.unwrap_or_default();
    let topics = section.strings("topics")?;
    let pattern = section.string("pattern")?.unwrap_or_default();
    match (topic.is_empty(), topics.is_empty(), pattern.is_empty()) {
        (false, true, true) | (true, false, true) | (true, true, false) => {
            Ok((topic, topics, pattern))
        }
        (true, true, true) => Err(section.missing("topic")),
        _ => {
            let second = if pattern.is_empty() {
                "topics"
            } else {
                "pattern"
            };
            let reason = "names topics a second time".to_owned();
            let accepted = "one of topic, topics, pattern";
            Err(section.wrong(second, reason, Some(accepted)))
        }
    }
}

/// A table and what goes into it. It may be named like its topic.
fn route(section: &Section<'_>, topic: &str, stream_format: &str) -> Result<v1::RouteDefinition> {
    let table = match section.table_name("table")? {
        Some(table) => table,
        None if topic.is_empty() => return Err(section.missing("table")),
        None if value::is_table_name(topic) => topic.to_owned(),
        None => {
            let reason = format!("the topic's name {topic} is no table name, so it has to be set");
            return Err(section.wrong("table", reason, Some(value::TABLE_NAME)));
        }
    };
    let partition_by = section.strings("partition_by")?;
    if let Some(twice) = partition_by
        .iter()
        .enumerate()
        .find(|(at, name)| partition_by[..*at].contains(name))
    {
        return Err(section.wrong("partition_by", format!("{} is there twice", twice.1), None));
    }
    Ok(v1::RouteDefinition {
        table,
        location: section.location("location")?,
        transform: section.string("transform")?.unwrap_or_default(),
        partition_by,
        metadata_columns: section.boolean("metadata_columns")?.unwrap_or(true),
        format: section
            .choice("format", FORMATS)?
            .unwrap_or(stream_format)
            .to_owned(),
    })
}

/// The table of all records, and that of the newest of each key with the columns of the key. The newest
/// rows stand under the table's name, the changes they come from beside it.
fn latest(
    section: &Section<'_>,
    topic: &str,
    routes: &[v1::RouteDefinition],
    table: String,
) -> Result<(String, String, Vec<String>)> {
    let keys = section.strings("keys")?;
    match section.choice("keep", &["all", "latest"])? {
        Some("latest") if keys.is_empty() => Err(section.missing("keys")),
        Some("latest") if topic.is_empty() || !routes.is_empty() => {
            let reason = "the newest rows are kept of one topic in one table".to_owned();
            Err(section.wrong(
                "keep",
                reason,
                Some("topic = \"…\" without [[topic.route]]"),
            ))
        }
        Some("latest") => Ok((format!("{table}_changes"), table, keys)),
        _ if !keys.is_empty() => {
            let reason = "are there, but every record is kept".to_owned();
            Err(section.wrong("keys", reason, Some("keep = \"latest\" beside it")))
        }
        _ => Ok((table, String::new(), keys)),
    }
}

/// A topic is read once, whatever it goes to. Tables may be shared: each keeps its offsets by topic.
fn unique(sections: &[Section<'_>], topics: &[v1::TopicDefinition]) -> Result<()> {
    for (at, (section, topic)) in sections.iter().zip(topics).enumerate() {
        for (position, name) in topic.names().enumerate() {
            let again = topic.names().take(position).any(|other| other == name);
            if again || topics[..at].iter().any(|before| before.reads(name)) {
                let key = if topic.topic.is_empty() {
                    "topics"
                } else {
                    "topic"
                };
                let reason = format!("{name} is there twice");
                let accepted = "one [[topic]] for each, with a [[topic.route]] for each table";
                return Err(section.wrong(key, reason, Some(accepted)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
