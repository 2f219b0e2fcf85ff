//! What our commits write into the log, and do to the table.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::Utc;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::state::{Definition, Done, Proposal, Step};
use super::super::{Commit, MadeBy, Operation};
use super::{
    ATTEMPT, LETTERS, MOVES, OFFSETS, RANGES, RESET, ROWS, STATEMENT, STREAM, TABLE_ID, TOPIC_IDS,
    statement_app,
};
use crate::{DataFile, Error, Result, StagedFile, columns, hive};

/// Encodes a record. Record 0 carries protocol and metadata.
pub(in super::super) fn encode_record(
    table_id: Uuid,
    location: &str,
    definition: &Definition,
    proposal: &Proposal<'_>,
    raised: Option<Value>,
) -> Result<Bytes> {
    let now = Utc::now().timestamp_millis();
    let mut lines = vec![commit_info(table_id, proposal, now)];
    if proposal.version == 0 {
        lines.push(protocol(definition));
        lines.push(metadata(table_id, definition, now)?);
    } else if let Some(definition) = &proposal.definition {
        lines.extend(raised);
        lines.push(metadata(table_id, definition, now)?);
    }
    let rearranges = proposal
        .commit
        .is_some_and(|commit| commit.operation() == Operation::Optimize);
    for file in &proposal.remove {
        lines.push(remove(definition, file, !rearranges, now));
    }
    if let Some(commit) = proposal.commit {
        for file in &commit.files {
            lines.push(add(location, file, !rearranges, now)?);
        }
        lines.extend(transactions(&commit.made_by, now));
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Ok(Bytes::from(lines.join("\n")))
}

fn commit_info(table_id: Uuid, proposal: &Proposal<'_>, now: i64) -> Value {
    let made_by = proposal.commit.map(|commit| &commit.made_by);
    let kind = proposal.commit.map_or(Operation::Append, Commit::operation);
    let operation = match (proposal.version, made_by) {
        (0, Some(_)) => "CREATE TABLE AS SELECT",
        (0, None) => "CREATE TABLE",
        (_, Some(MadeBy::Stream { .. })) => "STREAMING UPDATE",
        (_, Some(MadeBy::Reset { .. })) => RESET,
        _ => kind.delta_name(),
    };
    let parameters = match kind {
        Operation::Append => json!({"mode": "Append"}),
        Operation::Overwrite => json!({"mode": "Overwrite"}),
        Operation::Delete
        | Operation::Update
        | Operation::Merge
        | Operation::AddColumns
        | Operation::Optimize
        | Operation::DropColumns
        | Operation::RenameColumn
        | Operation::ChangeColumn
        | Operation::AddConstraint
        | Operation::DropConstraint
        | Operation::SetProperties
        | Operation::UnsetProperties => json!({}),
    };
    let mut info = json!({
        "timestamp": now,
        "operation": operation,
        "operationParameters": parameters,
        "isBlindAppend": kind == Operation::Append && proposal.definition.is_none(),
        "engineInfo": concat!("drumline/", env!("CARGO_PKG_VERSION")),
        TABLE_ID: table_id,
        ATTEMPT: proposal.attempt,
        OFFSETS: proposal.offsets,
    });
    match made_by {
        Some(MadeBy::Statement(id)) => info[STATEMENT] = json!(id),
        Some(MadeBy::Stream {
            stream,
            epoch,
            definition,
            lookups,
            ranges,
        }) => {
            info[STREAM] = json!(stream);
            info["drumline.epoch"] = json!(epoch);
            info["drumline.definition"] = json!(definition);
            if !lookups.is_empty() {
                info["drumline.lookups"] = json!(lookups);
            }
            info[RANGES] = json!(ranges);
        }
        Some(MadeBy::Reset { stream, moves }) => {
            info[STREAM] = json!(stream);
            info[MOVES] = json!(moves);
        }
        Some(MadeBy::Replay {
            id,
            stream,
            letters,
        }) => {
            info[STATEMENT] = json!(id);
            info[STREAM] = json!(stream);
            info[LETTERS] = json!(letters);
        }
        None => {}
    }
    if let Some(epoch) = proposal.commit.and_then(|commit| commit.upkeep_epoch) {
        info["drumline.upkeepEpoch"] = json!(epoch);
    }
    if !proposal.topic_ids.is_empty() {
        info[TOPIC_IDS] = json!(proposal.topic_ids);
    }
    if let Some(change) = proposal.commit.and_then(|commit| commit.change.as_ref()) {
        let mut metrics = json!({
            "numRemovedFiles": proposal.remove.len().to_string(),
            "numAddedFiles": proposal.commit.map_or(0, |commit| commit.files.len()).to_string(),
        });
        if let Some(rows) = change.rows {
            info[ROWS] = json!(rows);
            let name = match kind {
                Operation::Delete => "numDeletedRows",
                Operation::Update => "numUpdatedRows",
                _ => "numChangedRows",
            };
            metrics[name] = json!(rows.to_string());
        }
        info["readVersion"] = json!(change.base);
        info["operationMetrics"] = metrics;
    }
    json!({ "commitInfo": info })
}

fn remove(definition: &Definition, file: &DataFile, changes_data: bool, now: i64) -> Value {
    let values: BTreeMap<_, _> = definition
        .partition_columns
        .iter()
        .zip(&file.partition_values)
        .collect();
    json!({"remove": {
        "path": hive::percent_encode(&file.path),
        "deletionTimestamp": now,
        "dataChange": changes_data,
        "extendedFileMetadata": true,
        "partitionValues": values,
        "size": file.size,
    }})
}

/// The protocol that a table of ours needs from a commit on, if it is another one than before.
pub(in super::super) fn raised(definition: &Definition, proposal: &Proposal<'_>) -> Option<Value> {
    let next = proposal.definition.as_ref()?;
    let is_checked = next.has_checks() && !definition.has_checks();
    let has_naive = columns::has_naive(&next.schema) && !columns::has_naive(&definition.schema);
    (is_checked || has_naive).then(|| protocol(next))
}

/// Writers of version 2 keep NOT NULL, those of version 3 CHECK constraints too. Timestamps without a zone are a
/// feature that readers and writers must know, and that other features must then be named beside.
fn protocol(definition: &Definition) -> Value {
    if columns::has_naive(&definition.schema) {
        let mut writers = vec!["appendOnly", "invariants", "timestampNtz"];
        if definition.has_checks() {
            writers.push("checkConstraints");
        }
        return json!({"protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"],
            "writerFeatures": writers,
        }});
    }
    let version = match definition.has_checks() {
        true => 3,
        false => 2,
    };
    json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": version}})
}

fn metadata(table_id: Uuid, definition: &Definition, now: i64) -> Result<Value> {
    Ok(json!({"metaData": {
        "id": table_id,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": columns::to_json(&definition.schema)?,
        "partitionColumns": definition.partition_columns,
        "configuration": definition.properties,
        "createdTime": now,
    }}))
}

fn add(location: &str, file: &StagedFile, changes_data: bool, now: i64) -> Result<Value> {
    let relative = file
        .path
        .strip_prefix(location)
        .and_then(|path| path.strip_prefix('/'))
        .ok_or_else(|| Error::bug(format!("'{}' was not staged in '{location}'", file.path)))?;
    let values: BTreeMap<_, _> = file.partition_values.iter().cloned().collect();
    Ok(json!({"add": {
        "path": hive::percent_encode(relative),
        "partitionValues": values,
        "size": file.size,
        "modificationTime": now,
        "dataChange": changes_data,
        "stats": file.statistics.as_ref().map(Value::to_string),
    }}))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
    last_updated: i64,
}

/// Also as Delta's own application transactions, for other tools and as a second witness.
fn transactions(made_by: &MadeBy, now: i64) -> Vec<Value> {
    let txn =
        |app_id: String, version: i64| json!({"txn": Txn { app_id, version, last_updated: now }});
    let position = |stream: &str, topic: &str, partition: i32, to: i64| {
        txn(format!("drumline/stream/{stream}/{topic}/{partition}"), to)
    };
    match made_by {
        MadeBy::Statement(id) | MadeBy::Replay { id, .. } => {
            vec![txn(statement_app(&id.application), i64::from(id.ordinal))]
        }
        MadeBy::Stream { stream, ranges, .. } => ranges
            .iter()
            .map(|range| position(stream, &range.topic, range.partition, range.to))
            .collect(),
        MadeBy::Reset { stream, moves } => moves
            .iter()
            .map(|moved| position(stream, &moved.topic, moved.partition, moved.to))
            .collect(),
    }
}

/// The effect of a record that we are about to make.
pub(in super::super) fn step(location: &str, proposal: &Proposal<'_>) -> Step {
    let commit = proposal.commit;
    let files = commit.map_or(&[][..], |commit| &commit.files);
    let add = files.iter().map(|file| {
        let relative = file.path.strip_prefix(location).unwrap_or(&file.path);
        DataFile::new(
            relative.trim_start_matches('/').to_owned(),
            file.size,
            file.rows,
            file.partition_values.iter().map(|v| v.1.clone()).collect(),
            file.statistics.clone(),
        )
    });
    let remove = proposal.remove.iter().map(|file| file.path.clone());
    Step {
        version: proposal.version,
        add: add.collect(),
        remove: remove.collect(),
        definition: proposal.definition.clone(),
        offsets: Some(proposal.offsets.clone()),
        topic_ids: Some(proposal.topic_ids.clone()),
        statement: commit.and_then(|commit| Done::of(commit, proposal.version)),
        ..Step::default()
    }
}
