//! The log of a Delta table: what our commits write (`encode.rs`), what anybody's commits do, and a whole load by
//! delta-rs (`library.rs`).
//!
//! Appends are few and simple, so records are encoded by us and created like any other record of ours; the
//! Delta library replays logs and checkpoints when a table is opened, and writes checkpoints. What a newest
//! record cannot tell by itself (a changed protocol, a deletion vector) leads to a whole load.
//! See <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

mod encode;
pub(super) mod library;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::MadeBy;
use super::log::Effect;
use super::state::{Definition, Done, Offsets, Step, TopicIds};
use crate::record_log::{RecordLog, decode};
use crate::{DataFile, Error, Result, StatementId, Version, hive};

pub(super) use encode::{encode_record, raised, step};

const OFFSETS: &str = "drumline.offsets";
const TOPIC_IDS: &str = "drumline.topicIds";
const RANGES: &str = "drumline.ranges";
const ATTEMPT: &str = "drumline.attempt";
const STATEMENT: &str = "drumline.statement";
const TABLE_ID: &str = "drumline.table";
const ROWS: &str = "drumline.rows";
const STREAM: &str = "drumline.stream";
const MOVES: &str = "drumline.moves";
const LETTERS: &str = "drumline.letters";

/// The operation of a commit that moves a stream's positions.
pub(super) const RESET: &str = "RESET STREAM";

/// What a record does, as far as it can be told from the record.
#[derive(Debug)]
pub(super) enum Decoded {
    Step(Box<Step>),
    /// Only a whole load will tell.
    Reload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    #[serde(default)]
    partition_values: HashMap<String, Option<String>>,
    size: u64,
    #[serde(default)]
    stats: Option<String>,
    #[serde(default)]
    deletion_vector: Option<Value>,
    #[serde(default = "yes")]
    data_change: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remove {
    path: String,
    #[serde(default = "yes")]
    data_change: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Line {
    commit_info: Option<Map<String, Value>>,
    add: Option<Add>,
    remove: Option<Remove>,
    #[serde(rename = "metaData")]
    metadata: Option<Value>,
    protocol: Option<Value>,
    txn: Option<Transaction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    app_id: String,
    version: i64,
}

/// The application id of an application's statements.
pub(super) fn statement_app(application: &str) -> String {
    format!("drumline/{application}")
}

/// What a record does, whoever wrote it.
pub(super) fn decode_record(
    log: &RecordLog,
    definition: &Definition,
    version: u64,
    bytes: &[u8],
) -> Result<Decoded> {
    let mut step = Step {
        version,
        ..Step::default()
    };
    let mut statement = None;
    let mut rows = None;
    for line in lines(log, version, bytes) {
        let line = line?;
        if line.protocol.is_some() || line.metadata.is_some() {
            return Ok(Decoded::Reload);
        }
        if let Some(mut info) = line.commit_info {
            let get = |value: Option<Value>| value.filter(|value| !value.is_null());
            if let Some(offsets) = get(info.remove(OFFSETS)) {
                step.offsets = Some(parse(log, version, offsets)?);
                let ids = get(info.remove(TOPIC_IDS));
                let ids = ids.map(|ids| parse(log, version, ids)).transpose()?;
                step.topic_ids = Some(ids.unwrap_or_default());
            }
            rows = info.get(ROWS).and_then(Value::as_u64);
            if let Some(id) = get(info.remove(STATEMENT)) {
                statement = Some(parse::<StatementId>(log, version, id)?);
            }
        }
        if let Some(add) = line.add {
            if add
                .deletion_vector
                .as_ref()
                .is_some_and(|vector| !vector.is_null())
                || rows_of(add.stats.as_deref()).1.is_none()
            {
                return Ok(Decoded::Reload);
            }
            step.add.push(data_file(definition, add)?);
        }
        if let Some(remove) = line.remove {
            step.remove.insert(hive::percent_decode(&remove.path));
        }
    }
    step.statement = statement.map(|id| {
        let done = Done {
            ordinal: id.ordinal,
            text_hash: id.text_hash,
            version,
            rows: rows.unwrap_or_else(|| step.add.iter().map(|file| file.rows).sum()),
            files: step.add.len(),
        };
        (id.application, done)
    });
    Ok(Decoded::Step(Box::new(step)))
}

/// What a record means to a commit that was worked out before it, whoever wrote it.
pub(super) fn effect(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Effect> {
    let mut is_blind = None;
    let (mut adds_only, mut changes_data, mut redefines) = (true, false, false);
    let mut touches = HashSet::new();
    let mut made_by = "somebody".to_owned();
    for line in lines(log, version, bytes) {
        let line = line?;
        if line.protocol.is_some() || line.metadata.is_some() {
            (adds_only, changes_data, redefines) = (false, true, true);
        }
        if let Some(add) = line.add {
            changes_data |= add.data_change;
            adds_only &= add.data_change;
            touches.insert(hive::percent_decode(&add.path));
        }
        if let Some(remove) = line.remove {
            changes_data |= remove.data_change;
            adds_only = false;
            touches.insert(hive::percent_decode(&remove.path));
        }
        if let Some(info) = line.commit_info {
            is_blind = info.get("isBlindAppend").and_then(Value::as_bool);
            made_by = author(log, version, &info)?;
        }
    }
    Ok(Effect {
        // Who does not say may have read what it wrote again.
        appends_only: adds_only && is_blind != Some(false),
        rearranges_only: !changes_data,
        redefines,
        touches,
        made_by,
    })
}

/// When a record was written, and the files it took away. One that does not say when counts as new.
pub(super) fn removals(
    log: &RecordLog,
    version: u64,
    bytes: &[u8],
) -> Result<(DateTime<Utc>, Vec<String>)> {
    let (mut written_at, mut removed) = (None, Vec::new());
    for line in lines(log, version, bytes) {
        let line = line?;
        if let Some(info) = line.commit_info {
            written_at = info.get("timestamp").and_then(Value::as_i64);
        }
        if let Some(remove) = line.remove {
            removed.push(hive::percent_decode(&remove.path));
        }
    }
    let written_at = written_at.and_then(DateTime::from_timestamp_millis);
    Ok((written_at.unwrap_or(DateTime::<Utc>::MAX_UTC), removed))
}

/// Who made a commit, and how.
fn author(log: &RecordLog, version: u64, info: &Map<String, Value>) -> Result<String> {
    let text = |key: &str| info.get(key).and_then(Value::as_str);
    let operation = text("operation").unwrap_or("a commit");
    if let Some(id) = info.get(STATEMENT).filter(|id| !id.is_null()) {
        let id: StatementId = parse(log, version, id.clone())?;
        return Ok(format!("{operation} of {}", MadeBy::Statement(id)));
    }
    Ok(match (text(STREAM), text("engineInfo")) {
        (Some(stream), _) => format!("stream '{stream}'"),
        (None, Some(engine)) => format!("{operation} by {engine}"),
        (None, None) => operation.to_owned(),
    })
}

/// What a record tells of the version it made, whoever wrote it.
pub(super) fn describe(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Version> {
    let mut told = Version {
        version,
        at: None,
        operation: None,
        made_by: None,
        engine: None,
        rows_added: Some(0),
        files_added: 0,
        files_removed: 0,
        bytes_added: 0,
    };
    for line in lines(log, version, bytes) {
        let line = line?;
        if let Some(info) = line.commit_info {
            let millis = |key: &str| info.get(key).and_then(Value::as_i64);
            let at = millis("inCommitTimestamp").or_else(|| millis("timestamp"));
            told.at = at.and_then(chrono::DateTime::from_timestamp_millis);
            let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
            told.operation = text("operation");
            told.engine = text("engineInfo").or_else(|| text("clientVersion"));
            told.made_by = made_by(&info);
        }
        if let Some(add) = line.add {
            told.files_added += 1;
            told.bytes_added += add.size;
            let rows = add
                .stats
                .as_deref()
                .and_then(|stats| serde_json::from_str::<Value>(stats).ok())
                .and_then(|stats| stats.get("numRecords").and_then(Value::as_u64));
            told.rows_added = told.rows_added.zip(rows).map(|(sum, rows)| sum + rows);
        }
        if line.remove.is_some() {
            told.files_removed += 1;
        }
    }
    Ok(told)
}

/// What made a record of ours.
fn made_by(info: &Map<String, Value>) -> Option<MadeBy> {
    let stream = info.get(STREAM).and_then(Value::as_str).map(str::to_owned);
    if let Some(id) = info.get(STATEMENT) {
        let id = serde_json::from_value(id.clone()).ok()?;
        return Some(match (stream, info.get(LETTERS)) {
            (Some(stream), Some(letters)) => MadeBy::Replay {
                id,
                stream,
                letters: serde_json::from_value(letters.clone()).ok()?,
            },
            _ => MadeBy::Statement(id),
        });
    }
    let stream = stream?;
    if let Some(moves) = info.get(MOVES) {
        let moves = serde_json::from_value(moves.clone()).ok()?;
        return Some(MadeBy::Reset { stream, moves });
    }
    Some(MadeBy::Stream {
        stream,
        epoch: info.get("drumline.epoch")?.as_u64()?,
        definition: info
            .get("drumline.definition")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
        lookups: info
            .get("drumline.lookups")
            .and_then(|lookups| serde_json::from_value(lookups.clone()).ok())
            .unwrap_or_default(),
        ranges: info
            .get(RANGES)
            .and_then(|ranges| serde_json::from_value(ranges.clone()).ok())
            .unwrap_or_default(),
    })
}

/// What record 0 says of itself: the table it made, and the statement that made it.
pub(super) fn table_id(log: &RecordLog, bytes: &[u8]) -> Result<Option<Uuid>> {
    for line in lines(log, 0, bytes) {
        if let Some(info) = line?.commit_info {
            let id = info.get(TABLE_ID).and_then(Value::as_str);
            return Ok(id.and_then(|id| Uuid::parse_str(id).ok()));
        }
    }
    Ok(None)
}

/// The offsets and topics' ids that a record tells, if it is one of ours.
pub(super) fn offsets(
    log: &RecordLog,
    version: u64,
    bytes: &[u8],
) -> Result<Option<(Offsets, TopicIds)>> {
    for line in lines(log, version, bytes) {
        if let Some(mut info) = line?.commit_info
            && let Some(offsets) = info.remove(OFFSETS)
        {
            let ids = info.remove(TOPIC_IDS);
            let ids = ids.map(|ids| parse(log, version, ids)).transpose()?;
            return Ok(Some((
                parse(log, version, offsets)?,
                ids.unwrap_or_default(),
            )));
        }
    }
    Ok(None)
}

/// What a record's own application transactions say of streams: topic, partition, next position.
pub(super) fn stream_transactions(
    log: &RecordLog,
    version: u64,
    bytes: &[u8],
) -> Result<Vec<(String, i32, i64)>> {
    let mut found = Vec::new();
    for line in lines(log, version, bytes) {
        let Some(transaction) = line?.txn else {
            continue;
        };
        // Names of streams hold no slash, nor do those of topics.
        let rest = transaction.app_id.strip_prefix("drumline/stream/");
        let mut parts = rest.into_iter().flat_map(|rest| rest.split('/').skip(1));
        if let (Some(topic), Some(partition)) = (parts.next(), parts.next())
            && let Ok(partition) = partition.parse()
        {
            found.push((topic.to_owned(), partition, transaction.version));
        }
    }
    Ok(found)
}

fn data_file(definition: &Definition, mut add: Add) -> Result<DataFile> {
    let path = hive::percent_decode(&add.path);
    check_path(&path)?;
    let values = definition
        .partition_columns
        .iter()
        .map(|column| add.partition_values.remove(column).flatten())
        .map(|value| value.filter(|value| !value.is_empty()));
    let (statistics, rows) = rows_of(add.stats.as_deref());
    let rows = rows.ok_or_else(|| Error::bug(format!("'{path}' has no row count")))?;
    Ok(DataFile::new(
        path,
        add.size,
        rows,
        values.collect(),
        statistics,
    ))
}

/// Statistics, and the row count in them.
pub(super) fn rows_of(statistics: Option<&str>) -> (Option<Value>, Option<u64>) {
    let statistics: Option<Value> = statistics.and_then(|json| serde_json::from_str(json).ok());
    let rows = statistics
        .as_ref()
        .and_then(|statistics| statistics.get("numRecords"))
        .and_then(Value::as_u64);
    (statistics, rows)
}

pub(super) fn check_path(path: &str) -> Result<()> {
    if path.contains("://") || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Error::NotYet {
            what: format!("a Delta file outside its table's folder ('{path}')"),
        });
    }
    Ok(())
}

fn lines<'a>(
    log: &'a RecordLog,
    version: u64,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<Line>> + 'a {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(move |line| decode(&log.path(version), line))
}

fn parse<T: for<'a> Deserialize<'a>>(log: &RecordLog, version: u64, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Corrupt {
        path: log.path(version).to_string(),
        reason: error.to_string(),
    })
}

/// The statement that a record tells of, with what it added, also where it changes the table's definition.
pub(super) fn statement(
    log: &RecordLog,
    state: &super::state::State,
    version: u64,
    bytes: &[u8],
) -> Result<Option<(String, Done)>> {
    let rest: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"{\"protocol\"") && !line.starts_with(b"{\"metaData\""))
        .collect();
    match decode_record(log, &state.definition, version, &rest.join(&b'\n'))? {
        Decoded::Step(step) => Ok(step.statement),
        Decoded::Reload => Ok(None),
    }
}
