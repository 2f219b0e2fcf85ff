//! The log of a plain Parquet table: `<root>/_drumline/commits/<table>/<n>.json`, n counting up from 0.
//!
//! A record names every file twice: where it was staged, and where it is published. Offsets in a record are
//! cumulative, so the newest one tells all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::delta::RESET;
use super::log::Effect;
use super::state::{Definition, Done, Offsets, Proposal, State, Step, TopicIds, Unpublished};
use super::{Commit, MadeBy, Operation};
use crate::record_log::{RecordLog, decode, encode};
use crate::writer::{child, folders};
use crate::{DataFile, Error, Result, StagedFile, Version, columns, moved};

/// The newest format that is read. Records that take files away or change columns are of format 2, all others
/// of format 1.
const RECORD_FORMAT: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    table_id: Uuid,
    version: u64,
    attempt: Uuid,
    at: DateTime<Utc>,
    made_by: Option<MadeBy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    definition: Option<DefinitionRecord>,
    rows: u64,
    add: Vec<AddRecord>,
    /// Relative to the table's location.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upkeep_epoch: Option<u64>,
    offsets: Offsets,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    topic_ids: TopicIds,
    published_below: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct DefinitionRecord {
    schema: Value,
    partition_columns: Vec<String>,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AddRecord {
    /// Relative to the table's location.
    path: String,
    /// Relative to the store.
    staged: String,
    size: u64,
    rows: u64,
    partition_values: Vec<Option<String>>,
    statistics: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    version: u64,
    definition: DefinitionRecord,
    files: Vec<FileRecord>,
    offsets: Offsets,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    topic_ids: TopicIds,
    statements: BTreeMap<String, Done>,
    unpublished: Vec<Unpublished>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    path: String,
    size: u64,
    rows: u64,
    partition_values: Vec<Option<String>>,
    statistics: Option<Value>,
}

/// Encodes a record. Record 0 carries the table's definition.
pub(super) fn encode_record(
    table_id: Uuid,
    location: &Path,
    definition: &Definition,
    proposal: &Proposal<'_>,
) -> Result<Bytes> {
    let files = proposal.commit.map_or(&[][..], |commit| &commit.files);
    let add = files
        .iter()
        .map(|file| added(location, file))
        .collect::<Result<Vec<_>>>()?;
    let defines = match proposal.version {
        0 => Some(definition),
        _ => proposal.definition.as_deref(),
    };
    let remove: Vec<String> = proposal
        .remove
        .iter()
        .map(|file| file.path.clone())
        .collect();
    let change = proposal.commit.and_then(|commit| commit.change.as_ref());
    encode(&Record {
        format: match proposal.definition.is_none() && remove.is_empty() {
            true => 1,
            false => 2,
        },
        table_id,
        version: proposal.version,
        attempt: proposal.attempt,
        at: Utc::now(),
        made_by: proposal.commit.map(|commit| commit.made_by.clone()),
        definition: defines.map(definition_record).transpose()?,
        rows: proposal.commit.map_or(0, Commit::rows),
        add,
        remove,
        operation: change.map(|change| change.operation),
        upkeep_epoch: proposal.commit.and_then(|commit| commit.upkeep_epoch),
        offsets: proposal.offsets.clone(),
        topic_ids: proposal.topic_ids.clone(),
        published_below: proposal.published_below,
    })
}

fn added(location: &Path, file: &StagedFile) -> Result<AddRecord> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let path = format!("{}{name}", folders(&file.partition_values));
    child(location, &path)?;
    Ok(AddRecord {
        path,
        staged: file.path.clone(),
        size: file.size,
        rows: file.rows,
        partition_values: file.partition_values.iter().map(|v| v.1.clone()).collect(),
        statistics: file.statistics.clone(),
    })
}

/// What a record does; and for record 0, of which table.
pub(super) fn decode_record(
    log: &RecordLog,
    location: &Path,
    version: u64,
    bytes: &[u8],
) -> Result<Step> {
    step(&root_of(log)?, location, read_record(log, version, bytes)?)
}

/// What a record means to a commit that was worked out before it.
pub(super) fn effect(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Effect> {
    let record = read_record(log, version, bytes)?;
    let made_by = match &record.made_by {
        Some(made_by) => made_by.to_string(),
        None => "somebody".to_owned(),
    };
    let added = record.add.iter().map(|file| &file.path);
    Ok(Effect {
        appends_only: record.operation.is_none()
            && record.remove.is_empty()
            && record.definition.is_none(),
        rearranges_only: false,
        redefines: record.definition.is_some(),
        touches: added.chain(&record.remove).cloned().collect(),
        made_by,
    })
}

/// The offsets that a record tells.
pub(super) fn offsets(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Offsets> {
    Ok(read_record(log, version, bytes)?.offsets)
}

/// The first record, if there is one: whose table it is, and its state.
pub(super) fn decode_first(
    log: &RecordLog,
    location: &Path,
    bytes: &[u8],
) -> Result<(Uuid, State)> {
    let mut record = read_record(log, 0, bytes)?;
    let definition = record.definition.take().ok_or_else(|| Error::Corrupt {
        path: log.path(0).to_string(),
        reason: "it defines no table".to_owned(),
    })?;
    let state = State::new(Arc::new(definition_of(definition)?));
    let id = record.table_id;
    Ok((id, state.apply(step(&root_of(log)?, location, record)?)))
}

fn read_record(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Record> {
    let path = log.path(version);
    let record: Record = decode(&path, bytes)?;
    if record.format > RECORD_FORMAT || record.version != version {
        return Err(Error::Corrupt {
            path: path.to_string(),
            reason: format!(
                "it is version {} in format {}, and this build reads format {RECORD_FORMAT}",
                record.version, record.format
            ),
        });
    }
    Ok(record)
}

/// The lake's root: logs lie in `<root>/_drumline/commits/<table>`.
fn root_of(log: &RecordLog) -> Result<Path> {
    let folder = log.folder().as_ref();
    let above = folder.rsplitn(4, '/').nth(3).unwrap_or_default();
    Path::parse(above).map_err(|error| Error::bug(format!("'{folder}' is no path: {error}")))
}

fn step(root: &Path, location: &Path, record: Record) -> Result<Step> {
    let definition = record.definition.map(definition_of).transpose()?;
    let id = record.made_by.as_ref().and_then(MadeBy::statement);
    let statement = id.map(|id| {
        let done = Done {
            ordinal: id.ordinal,
            text_hash: id.text_hash,
            version: record.version,
            rows: record.rows,
            files: record.add.len(),
        };
        (id.application.clone(), done)
    });
    let staged = record.add.iter().map(|file| Unpublished {
        version: record.version,
        source: file.staged.clone(),
        target: Some(format!("{location}/{}", file.path)),
        replaced: false,
    });
    let gone = record.remove.iter().map(|path| {
        let source = format!("{location}/{path}");
        Unpublished {
            version: record.version,
            target: moved::place_of(root, &source),
            source,
            replaced: true,
        }
    });
    let publish = staged.chain(gone).collect();
    let add = record.add.into_iter().map(|file| {
        DataFile::new(
            file.path,
            file.size,
            file.rows,
            file.partition_values,
            file.statistics,
        )
    });
    Ok(Step {
        version: record.version,
        add: add.collect(),
        remove: record.remove.into_iter().collect(),
        offsets: Some(record.offsets),
        topic_ids: Some(record.topic_ids),
        statement,
        definition: definition.map(Arc::new),
        publish,
        published_below: record.published_below,
    })
}

/// When a record was written, and the files it took away.
pub(super) fn removals(
    log: &RecordLog,
    version: u64,
    bytes: &[u8],
) -> Result<(DateTime<Utc>, Vec<String>)> {
    let record = read_record(log, version, bytes)?;
    Ok((record.at, record.remove))
}

/// The newest state that the log tells of.
pub(super) async fn load(log: &RecordLog, location: &Path) -> Result<State> {
    let mut state = match log.read_checkpoint().await? {
        Some(bytes) => decode_checkpoint(log, &bytes)?,
        None => {
            let first = log.read(0).await?.ok_or_else(|| Error::Corrupt {
                path: log.path(0).to_string(),
                reason: "the table's first record is missing".to_owned(),
            })?;
            decode_first(log, location, &first)?.1
        }
    };
    for bytes in log.read_from(state.version + 1).await? {
        state = state.apply(decode_record(log, location, state.version + 1, &bytes)?);
    }
    Ok(state)
}

/// The state at an earlier version.
pub(super) async fn load_at(log: &RecordLog, location: &Path, version: u64) -> Result<State> {
    let mut state = match log.read_checkpoint_before(version).await? {
        Some(bytes) => decode_checkpoint(log, &bytes)?,
        None => match log.read(0).await? {
            Some(first) => decode_first(log, location, &first)?.1,
            None => return Err(missing(log, 0)),
        },
    };
    if version > state.version {
        for bytes in log.read_between(state.version + 1, version).await? {
            state = state.apply(decode_record(log, location, state.version + 1, &bytes)?);
        }
    }
    match state.version == version {
        true => Ok(state),
        false => Err(missing(log, state.version + 1)),
    }
}

fn missing(log: &RecordLog, version: u64) -> Error {
    Error::Corrupt {
        path: log.path(version).to_string(),
        reason: "the record is missing".to_owned(),
    }
}

/// What a record tells of the version it made.
pub(super) fn describe(log: &RecordLog, version: u64, bytes: &[u8]) -> Result<Version> {
    let record = read_record(log, version, bytes)?;
    let operation = match (version, &record.made_by) {
        (0, Some(_)) => "CREATE TABLE AS SELECT",
        (0, None) => "CREATE TABLE",
        (_, Some(MadeBy::Stream { .. })) => "STREAMING UPDATE",
        (_, Some(MadeBy::Reset { .. })) => RESET,
        _ => record.operation.unwrap_or(Operation::Append).delta_name(),
    };
    Ok(Version {
        version,
        // As exact as it is shown, so that what is shown can be asked for.
        at: Some(record.at.trunc_subsecs(3)),
        operation: Some(operation.to_owned()),
        made_by: record.made_by,
        engine: Some("drumline".to_owned()),
        rows_added: Some(record.rows),
        files_added: record.add.len() as u64,
        files_removed: record.remove.len() as u64,
        bytes_added: record.add.iter().map(|file| file.size).sum(),
    })
}

pub(super) fn encode_checkpoint(state: &State) -> Result<Bytes> {
    let files = state.files.iter().map(|file| FileRecord {
        path: file.path.clone(),
        size: file.size,
        rows: file.rows,
        partition_values: file.partition_values.clone(),
        statistics: file.statistics.clone(),
    });
    encode(&Checkpoint {
        format: RECORD_FORMAT,
        version: state.version,
        definition: definition_record(&state.definition)?,
        files: files.collect(),
        offsets: state.offsets.clone(),
        topic_ids: state.topic_ids.clone(),
        statements: state.statements.clone(),
        unpublished: state.unpublished.clone(),
    })
}

fn decode_checkpoint(log: &RecordLog, bytes: &[u8]) -> Result<State> {
    let checkpoint: Checkpoint = decode(&log.path(0), bytes)?;
    let files = checkpoint.files.into_iter().map(|file| {
        Arc::new(DataFile::new(
            file.path,
            file.size,
            file.rows,
            file.partition_values,
            file.statistics,
        ))
    });
    Ok(State {
        version: checkpoint.version,
        files: files.collect(),
        offsets: checkpoint.offsets,
        topic_ids: checkpoint.topic_ids,
        statements: checkpoint.statements,
        unpublished: checkpoint.unpublished,
        ..State::new(Arc::new(definition_of(checkpoint.definition)?))
    })
}

fn definition_record(definition: &Definition) -> Result<DefinitionRecord> {
    let schema = columns::to_json(&definition.schema)?;
    Ok(DefinitionRecord {
        schema: serde_json::from_str(&schema)
            .map_err(|error| Error::bug(format!("a schema is no JSON: {error}")))?,
        partition_columns: definition.partition_columns.clone(),
        properties: definition.properties.clone(),
    })
}

fn definition_of(record: DefinitionRecord) -> Result<Definition> {
    Ok(Definition {
        schema: columns::from_json(&record.schema.to_string())?,
        partition_columns: record.partition_columns,
        properties: record.properties,
    })
}
