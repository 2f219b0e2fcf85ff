//! What the Delta library does for us: whole loads, lookups of transactions, checkpoints.
//!
//! It gets stores built by us through its default log store, which commits by create-only put and never by
//! rename. Nothing is ever committed through the library.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore};
use serde_json::{Value, json};
use url::Url;

use super::super::state::{Definition, Offsets, Proposal, State, TopicIds};
use super::{check_path, offsets, rows_of, statement_app};
use crate::record_log::RecordLog;
use crate::writer::child;
use crate::{DataFile, Error, Result, columns};

/// A table as the library loaded it: answers what our own state, from that version on, does not know.
#[derive(Clone)]
pub(in crate::table) struct Loaded {
    table: String,
    log_store: LogStoreRef,
    snapshot: EagerSnapshot,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("table", &self.table)
            .field("version", &self.snapshot.version())
            .finish()
    }
}

impl Loaded {
    /// Ordinal of the last statement that an application committed up to the loaded version.
    pub(in crate::table) async fn last_ordinal(&self, application: &str) -> Result<Option<i64>> {
        self.snapshot
            .transaction_version(self.log_store.as_ref(), statement_app(application))
            .await
            .map_err(|source| failed(&self.table, source))
    }

    /// The protocol that the table needs from a commit on, if it is another one than what was loaded.
    pub(in crate::table) fn raised(&self, proposal: &Proposal<'_>) -> Result<Option<Value>> {
        let Some(next) = &proposal.definition else {
            return Ok(None);
        };
        let (has_checks, has_naive) = (next.has_checks(), columns::has_naive(&next.schema));
        let protocol = self.snapshot.protocol();
        let (reader, version) = (protocol.min_reader_version(), protocol.min_writer_version());
        if version < 7 && !has_naive {
            return Ok((has_checks && version < 3).then(
                || json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": 3}}),
            ));
        }
        let names = |features: Option<Vec<String>>| features.unwrap_or_default();
        let mut writers = names(protocol.writer_features().map(|all| {
            let names = all.iter().map(ToString::to_string);
            names.collect()
        }));
        let mut readers = names(protocol.reader_features().map(|all| {
            let names = all.iter().map(ToString::to_string);
            names.collect()
        }));
        let known = (readers.len(), writers.len());
        let mut name = |is_needed: bool, feature: &str| {
            if is_needed && !writers.iter().any(|name| name == feature) {
                writers.push(feature.to_owned());
            }
        };
        // From version 7 on everything is named, what lower versions mean by themselves too.
        name(version < 7, "appendOnly");
        name(version < 7, "invariants");
        name(has_checks || version == 3, "checkConstraints");
        name(has_naive, "timestampNtz");
        if has_naive && !readers.iter().any(|name| name == "timestampNtz") {
            readers.push("timestampNtz".to_owned());
        }
        if known == (readers.len(), writers.len()) {
            return Ok(None);
        }
        let mut raised = json!({
            "minReaderVersion": if has_naive { 3 } else { reader },
            "minWriterVersion": 7,
            "writerFeatures": writers,
        });
        if has_naive || reader >= 3 {
            raised["readerFeatures"] = json!(readers);
        }
        Ok(Some(json!({"protocol": raised})))
    }

    /// Refuses tables whose rules our writers would not keep.
    pub(in crate::table) fn check_writable(&self) -> Result<()> {
        let refuse = |reason: String| Error::ReadOnly {
            table: self.table.clone(),
            reason,
        };
        let protocol = self.snapshot.protocol();
        let features: Vec<String> = protocol
            .writer_features()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let version = protocol.min_writer_version();
        let known = |feature: &String| {
            matches!(
                feature.as_str(),
                "appendOnly" | "invariants" | "checkConstraints" | "timestampNtz"
            )
        };
        if version > 3 && !(version == 7 && features.iter().all(known)) {
            return Err(refuse(format!(
                "another writer has raised its protocol to writer version {version} {features:?}"
            )));
        }
        let constrained = |schema: &Schema| {
            let mut fields = schema.fields().iter();
            fields.any(|field| field.metadata().contains_key("delta.invariants"))
        };
        if constrained(&self.snapshot.arrow_schema()) {
            return Err(refuse("its columns carry invariants".to_owned()));
        }
        Ok(())
    }
}

fn log_store(store: &Arc<dyn ObjectStore>, location: &Url, path: &Path) -> LogStoreRef {
    default_logstore(
        Arc::new(PrefixStore::new(store.clone(), path.clone())),
        store.clone(),
        location,
        &StorageConfig::default(),
    )
}

/// Loads a version through the library; none: the newest.
pub(in crate::table) async fn load(
    table: &str,
    store: &Arc<dyn ObjectStore>,
    location: &Url,
    path: &Path,
    log: &RecordLog,
    version: Option<u64>,
) -> Result<(State, Loaded)> {
    let log_store = log_store(store, location, path);
    let mut delta = DeltaTable::new(log_store.clone());
    let opened = match version {
        Some(version) => delta.load_version(version).await,
        None => delta.load().await,
    };
    opened.map_err(|e| failed(table, e))?;
    let snapshot = delta
        .snapshot()
        .map_err(|e| failed(table, e))?
        .snapshot()
        .clone();
    let metadata = snapshot.metadata();
    check_readable(table, &snapshot)?;
    let definition = Definition {
        schema: columns::plain(&snapshot.arrow_schema()),
        partition_columns: metadata.partition_columns().to_vec(),
        properties: metadata.configuration().clone().into_iter().collect(),
    };
    let mut found = Vec::new();
    for view in snapshot
        .try_log_data()
        .map_err(|e| failed(table, e))?
        .iter()
    {
        if view.deletion_vector_descriptor().is_some() {
            return Err(feature(table, "deletionVectors"));
        }
        let file = view.path().into_owned();
        check_path(&file)?;
        let mut values = view.partition_values_map();
        let values = definition
            .partition_columns
            .iter()
            .map(|column| values.remove(column).flatten())
            .map(|value| value.filter(|value| !value.is_empty()));
        let size = u64::try_from(view.size()).unwrap_or_default();
        let (statistics, rows) = rows_of(view.stats().as_deref());
        found.push((file, size, values.collect::<Vec<_>>(), statistics, rows));
    }
    // Other writers need not count: the files themselves tell.
    let counting: Vec<_> = found
        .into_iter()
        .map(|(file, size, values, statistics, rows)| {
            async move {
                let rows = match rows {
                    Some(rows) => rows,
                    None => rows_in(store, &child(path, &file)?, size).await?,
                };
                Ok(Arc::new(DataFile::new(
                    file, size, rows, values, statistics,
                )))
            }
            .boxed()
        })
        .collect();
    let files: Vec<Arc<DataFile>> = stream::iter(counting).buffered(16).try_collect().await?;
    let version = snapshot.version();
    let (offsets, topic_ids) = newest_offsets(log, version).await?;
    let state = State {
        version,
        files: files.into(),
        offsets,
        topic_ids,
        statements: BTreeMap::new(),
        ..State::new(Arc::new(definition))
    };
    let loaded = Loaded {
        table: table.to_owned(),
        log_store,
        snapshot,
    };
    Ok((state, loaded))
}

/// What a reader must know, and this one does. Deletion vectors and column mapping may be allowed in a table
/// that uses neither: files and settings tell.
const READER_FEATURES: [&str; 4] = [
    "timestampNtz",
    "deletionVectors",
    "columnMapping",
    "vacuumProtocolCheck",
];

/// Refuses what would be read wrongly, by name.
fn check_readable(table: &str, snapshot: &EagerSnapshot) -> Result<()> {
    let protocol = snapshot.protocol();
    for name in protocol.reader_features().unwrap_or_default() {
        let name = name.to_string();
        if !READER_FEATURES.contains(&name.as_str()) {
            return Err(feature(table, &name));
        }
    }
    if protocol.min_reader_version() > 3 {
        let version = protocol.min_reader_version();
        return Err(feature(table, &format!("reader version {version}")));
    }
    let mapped = snapshot
        .metadata()
        .configuration()
        .get("delta.columnMapping.mode");
    if mapped.is_some_and(|mode| mode != "none") {
        return Err(feature(table, "columnMapping"));
    }
    Ok(())
}

fn feature(table: &str, feature: &str) -> Error {
    Error::Feature {
        table: table.to_owned(),
        feature: feature.to_owned(),
    }
}

/// Rows of a Parquet file, from its footer.
async fn rows_in(store: &Arc<dyn ObjectStore>, file: &Path, size: u64) -> Result<u64> {
    let meta = ObjectMeta {
        location: file.clone(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size,
        e_tag: None,
        version: None,
    };
    let wrong = |reason: String| Error::Corrupt {
        path: file.to_string(),
        reason,
    };
    let footer = DFParquetMetadata::new(store.as_ref(), &meta);
    let footer = footer
        .fetch_metadata()
        .await
        .map_err(|error| wrong(error.to_string()))?;
    u64::try_from(footer.file_metadata().num_rows()).map_err(|error| wrong(error.to_string()))
}

/// Each of our records tells all offsets, so the newest of ours does; others' records are passed over.
async fn newest_offsets(log: &RecordLog, newest: u64) -> Result<(Offsets, TopicIds)> {
    for version in (0..=newest).rev() {
        let Some(record) = log.read(version).await? else {
            return Err(Error::Corrupt {
                path: log.path(version).to_string(),
                reason: "it was removed, and no later record tells the table's offsets".to_owned(),
            });
        };
        if let Some(told) = offsets(log, version, &record)? {
            return Ok(told);
        }
    }
    Ok((Offsets::new(), TopicIds::new()))
}

/// Writes a checkpoint of the newest version.
pub(in crate::table) async fn checkpoint(
    table: &str,
    store: &Arc<dyn ObjectStore>,
    location: &Url,
    path: &Path,
) -> Result<()> {
    let mut delta = DeltaTable::new(log_store(store, location, path));
    delta.load().await.map_err(|e| failed(table, e))?;
    deltalake_core::checkpoints::create_checkpoint(&delta, None)
        .await
        .map_err(|e| failed(table, e))
}

fn failed(table: &str, source: deltalake_core::DeltaTableError) -> Error {
    Error::Delta {
        table: table.to_owned(),
        source: Box::new(source),
    }
}
