//! Copies: folders of files that a statement writes for others, beside all tables.
//!
//! Files are staged within the folder, under a name that readers of Hive layouts pass over. A record under the
//! lake's root, created once for each statement, names them all; only then are they moved to their places. So
//! a copy that fails leaves nothing where it was to go, and one that was interrupted after its record is
//! completed when its statement is repeated, without being computed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::record_log::{Created, RecordLog, decode, encode};
use crate::root::{parse_root, path_of};
use crate::table::{Unpublished, publish};
use crate::writer::{self, child, folders};
use crate::{
    Catalog, Committed, Encoding, Error, Format, Lake, Locations, ObjectKind, Result, StagedFile,
    StatementId, WriteOptions, WriteTarget, Writer, columns,
};

/// Begins the name of a folder in which files wait for their record.
const STAGING: &str = "_drumline-";

/// What a copy does about files that are in its folder already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It refuses.
    #[default]
    Refuse,
    /// It adds its own.
    Keep,
    /// It deletes them once its own are in place.
    Replace,
}

/// A copy to be made.
#[derive(Debug, Clone)]
pub struct NewCopy {
    /// The folder, as it was written: a URL, a path, or a path under the lake's root.
    pub location: String,
    /// All columns, partition columns included.
    pub schema: SchemaRef,
    /// Columns whose values become folders.
    pub partition_columns: Vec<String>,
    /// What its files are.
    pub encoding: Encoding,
    /// What it does about files that are there.
    pub existing: Existing,
    /// Size and compression of files, as a table's properties.
    pub properties: BTreeMap<String, String>,
    /// The statement that makes it.
    pub statement: StatementId,
}

/// What to do about a copy.
#[derive(Debug)]
pub enum Copying {
    /// Run it.
    Run(Box<PreparedCopy>),
    /// This very statement has made it.
    Already(Committed),
}

/// A copy whose files can be staged.
#[derive(Debug, Clone)]
pub struct PreparedCopy {
    lake: Lake,
    location: Url,
    store: Arc<dyn ObjectStore>,
    target: WriteTarget,
    statement: StatementId,
    /// Paths that go.
    replaced: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    attempt: Uuid,
    statement: StatementId,
    location: Url,
    rows: u64,
    files: usize,
    /// Whole paths of the location's store.
    moves: Vec<Unpublished>,
}

impl PreparedCopy {
    /// Checks where a copy is to go, and whether it is there already.
    pub async fn prepare(
        catalog: &Catalog,
        locations: &Locations,
        new: NewCopy,
    ) -> Result<Copying> {
        let lake = catalog.lake();
        let location = match new.location.contains("://") || new.location.starts_with('/') {
            true => parse_root(&new.location)?,
            false => lake.resolve_location(&new.location)?,
        };
        locations.check(&location)?;
        let (root, folder) = (lake.root().as_str(), location.as_str());
        if folder.starts_with(root) || root.starts_with(folder) {
            // Neither the lake itself nor what Drumline keeps in it.
            lake.resolve_location(folder)?;
        }
        let store = lake.stores().get(&location)?;
        if let Some(record) = recorded(lake, &new.statement).await? {
            return Ok(Copying::Already(complete(&store, &record, true).await?));
        }
        let label = format!("COPY TO {location}");
        let taken = |reason: String| Error::LocationTaken {
            table: label.clone(),
            location: location.to_string(),
            reason,
        };
        let snapshot = catalog.refresh().await?;
        let mut tables = snapshot
            .objects()
            .filter(|(_, object)| object.kind == ObjectKind::Table);
        let overlaps = |table: &Url| {
            table.as_str().starts_with(location.as_str())
                || location.as_str().starts_with(table.as_str())
        };
        if let Some((name, _)) = tables.find(|(_, object)| overlaps(&object.location)) {
            return Err(taken(format!("it holds table '{name}'")));
        }
        let folder = path_of(&location)?;
        let replaced = match new.existing {
            Existing::Keep => Vec::new(),
            Existing::Refuse | Existing::Replace => {
                let mut found = Vec::new();
                let mut listed = store.list(Some(&folder));
                while let Some(one) = listed.next().await {
                    let one = one.map_err(|source| Error::store("list", &folder, source))?;
                    // What an attempt before this one left behind is nobody's.
                    let mut below = one.location.prefix_match(&folder).into_iter().flatten();
                    let is_staged = below
                        .next()
                        .is_some_and(|part| part.as_ref().starts_with(STAGING));
                    if is_staged {
                        continue;
                    }
                    if new.existing == Existing::Refuse {
                        return Err(taken(format!(
                            "it holds '{}' (OPTIONS (existing 'keep') adds to what is there, OPTIONS (existing 'replace') replaces it)",
                            one.location
                        )));
                    }
                    found.push(one.location.to_string());
                }
                found
            }
        };
        let schema = columns::stored(&label, &new.schema)?;
        columns::check_partitions(&label, &schema, &new.partition_columns)?;
        let options = WriteOptions::checked(&label, &new.properties, &schema)?;
        let target = WriteTarget {
            table: label,
            format: Format::Parquet,
            folder: location.clone(),
            schema_json: columns::to_json(&schema)?,
            partition_columns: new.partition_columns,
            target_file_size: options.target_file_size,
            codec: options.codec,
            compression_level: options.compression_level,
            sort_by: options.sort_by,
            one_writer: false,
            encoding: new.encoding,
        };
        Ok(Copying::Run(Box::new(Self {
            lake: lake.clone(),
            location,
            store,
            target,
            statement: new.statement,
            replaced,
        })))
    }

    /// Where it goes.
    pub fn location(&self) -> &Url {
        &self.location
    }

    /// Where and how writers stage its files.
    pub fn write_target(&self, attempt: &str) -> Result<WriteTarget> {
        let mut folder = self.location.clone();
        if let Ok(mut segments) = folder.path_segments_mut() {
            segments
                .pop_if_empty()
                .push(&format!("{STAGING}{attempt}"))
                .push("");
        }
        Ok(WriteTarget {
            folder,
            ..self.target.clone()
        })
    }

    /// Puts the staged files in their places: all of them, or none. Safe to repeat.
    pub async fn publish(self, mut files: Vec<StagedFile>) -> Result<Committed> {
        let folder = path_of(&self.location)?;
        // No rows are a result too. Of a partitioned copy nothing is left: rows are what names its folders.
        if files.is_empty() && self.target.partition_columns.is_empty() {
            let target = self.write_target(&Uuid::new_v4().to_string())?;
            let writer = Writer::new(self.lake.stores(), &target)?;
            files.push(writer.empty().await?);
        }
        let mut moves = Vec::with_capacity(files.len() + self.replaced.len());
        for file in &files {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let path = format!("{}part-{name}", folders(&file.partition_values));
            moves.push(Unpublished {
                version: 0,
                source: file.path.clone(),
                target: Some(child(&folder, &path)?.to_string()),
            });
        }
        moves.extend(self.replaced.iter().map(|path| Unpublished {
            version: 0,
            source: path.clone(),
            target: None,
        }));
        let record = Record {
            attempt: Uuid::new_v4(),
            statement: self.statement.clone(),
            location: self.location.clone(),
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len(),
            moves,
        };
        let log = records(&self.lake, &self.statement);
        match log.create(0, encode(&record)?, record.attempt).await? {
            Created::Landed => complete(&self.store, &record, false).await,
            Created::Taken => {
                writer::delete(&self.store, &files).await;
                match recorded(&self.lake, &self.statement).await? {
                    Some(theirs) => complete(&self.store, &theirs, true).await,
                    None => Err(log.contended()),
                }
            }
        }
    }
}

fn records(lake: &Lake, statement: &StatementId) -> RecordLog {
    let name = format!("{}-{}", statement.application, statement.ordinal);
    let folder = lake.own_folder().join("copies").join(name);
    RecordLog::new(lake.store().clone(), folder, "a copy".to_owned())
}

async fn recorded(lake: &Lake, statement: &StatementId) -> Result<Option<Record>> {
    let log = records(lake, statement);
    let Some(bytes) = log.read(0).await? else {
        return Ok(None);
    };
    let record: Record = decode(&log.path(0), &bytes)?;
    match record.statement == *statement {
        true => Ok(Some(record)),
        false => Err(Error::StatementChanged {
            table: record.location.to_string(),
            application: statement.application.clone(),
            ordinal: statement.ordinal,
        }),
    }
}

/// New files first, then those go that they replace: who lists the folder misses nothing.
async fn complete(
    store: &Arc<dyn ObjectStore>,
    record: &Record,
    already: bool,
) -> Result<Committed> {
    let (new, old): (Vec<_>, Vec<_>) = record
        .moves
        .iter()
        .cloned()
        .partition(|file| file.target.is_some());
    publish(store, &new).await?;
    publish(store, &old).await?;
    if record.location.scheme() == "file" {
        remove_staging(record).await;
    }
    Ok(Committed {
        version: 0,
        already,
        rows: record.rows,
        files: record.files,
    })
}

/// The emptied folders of a local copy; object stores have none.
async fn remove_staging(record: &Record) {
    let mut folders: Vec<&str> = record
        .moves
        .iter()
        .filter(|file| file.target.is_some())
        .filter_map(|file| Some(file.source.rsplit_once('/')?.0))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        // Only an empty folder goes.
        if let Err(error) = tokio::fs::remove_dir(format!("/{folder}")).await {
            tracing::debug!(folder, %error, "a staging folder stays");
        }
    }
}
