//! Copies: folders of files that a statement writes for others, beside all tables.
//!
//! Files are staged within the folder, under a name that readers of Hive layouts pass over. A record under the
//! lake's root, created once for each statement, names them all; only then are they moved to their places. So
//! a copy that fails leaves nothing where it was to go, and one that was interrupted after its record is
//! completed when its statement is repeated, without being computed again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::record_log::{Created, RecordLog, decode, encode};
use crate::root::{parse_root, path_of};
use crate::table::{Unpublished, publish};
use crate::upkeep::{finish, oldest_kept, relative};
use crate::writer::{self, child, folders};
use crate::{
    Catalog, Committed, Encoding, Error, Format, Lake, Leftover, Locations, ObjectKind, Result,
    StagedFile, StatementId, Vacuum, Vacuumed, WriteOptions, WriteTarget, Writer, columns,
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
        let schema = columns::stored(&label, &new.schema, columns::Naive::Utc)?;
        columns::check_partitions(&label, &schema, &new.partition_columns)?;
        let options = WriteOptions::checked(&label, &new.properties, &schema)?;
        let target = WriteTarget {
            table: label,
            format: Format::Parquet,
            folder: location.clone(),
            schema_json: columns::to_json(&schema)?,
            partition_columns: new.partition_columns,
            definition: 0,
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

    /// Says that an attempt begins, so that what it leaves can be found; answers with where and how writers stage its
    /// files.
    pub async fn begin(&self, attempt: &str) -> Result<WriteTarget> {
        let begun = Begun {
            location: self.location.clone(),
            statement: self.statement.clone(),
            since: Utc::now(),
        };
        let path = begun_at(&records(&self.lake, &self.statement));
        let put = self.lake.store().put(&path, encode(&begun)?.into()).await;
        put.map_err(|source| Error::store("write", &path, source))?;
        self.write_target(attempt)
    }

    /// Deletes what a failed attempt has staged so far. What is left after it is found by upkeep.
    pub async fn give_up(&self, attempt: &str) {
        let swept = async {
            let folder = path_of(&self.write_target(attempt)?.folder)?;
            let files = list(&self.store, &folder).await?;
            for file in files {
                delete_one(&self.store, &file.location).await?;
            }
            if self.location.scheme() == "file" {
                remove_folder(folder.as_ref()).await;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = swept.await {
            tracing::debug!(location = %self.location, %error, "staged files stay behind");
        }
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
                replaced: false,
            });
        }
        moves.extend(self.replaced.iter().map(|path| Unpublished {
            version: 0,
            source: path.clone(),
            target: None,
            replaced: true,
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

/// A copy that has begun; it may never come to its end.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    location: Url,
    statement: StatementId,
    since: DateTime<Utc>,
}

const BEGUN: &str = "begun.json";

fn begun_at(log: &RecordLog) -> Path {
    log.folder().clone().join(BEGUN)
}

/// Throws away what copies staged that began longer ago than what is kept. Files that a record names are left to who
/// repeats its statement.
pub(crate) async fn vacuum(lake: &Lake, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
    let oldest = oldest_kept(now, vacuum.keep);
    let mut all = Vacuumed::default();
    let copies = list(lake.store(), &lake.own_folder().join("copies")).await?;
    let begun = copies
        .iter()
        .filter(|meta| meta.location.filename() == Some(BEGUN) && meta.last_modified < oldest);
    for meta in begun {
        let bytes = match lake.store().get(&meta.location).await {
            Ok(found) => found.bytes().await,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|source| Error::store("read", &meta.location, source))?;
        let copy: Begun = decode(&meta.location, &bytes)?;
        // Its folder may not be allowed, or not be reachable, any more.
        match leftovers(lake, &copy, vacuum, oldest).await {
            Ok(found) => {
                all.files.extend(found.files);
                if !vacuum.dry_run {
                    delete_one(lake.store(), &meta.location).await?;
                }
            }
            Err(error) => {
                tracing::warn!(location = %copy.location, %error, "what a copy left is not looked for");
            }
        }
    }
    Ok(all)
}

async fn leftovers(
    lake: &Lake,
    copy: &Begun,
    vacuum: Vacuum,
    oldest: DateTime<Utc>,
) -> Result<Vacuumed> {
    let store = lake.stores().get(&copy.location)?;
    let folder = path_of(&copy.location)?;
    let recorded = recorded(lake, &copy.statement).await?;
    let named: HashSet<String> = recorded
        .into_iter()
        .flat_map(|record| record.moves.into_iter().map(|file| file.source))
        .collect();
    let StatementId {
        application,
        ordinal,
        ..
    } = &copy.statement;
    let ours = format!("{STAGING}{application}-{ordinal}-");
    let listed = store.list_with_delimiter(Some(&folder)).await;
    let listed = listed.map_err(|source| Error::store("list", &folder, source))?;
    let mut all = Vacuumed::default();
    for staging in listed.common_prefixes {
        let is_ours = staging
            .filename()
            .is_some_and(|name| name.starts_with(&ours));
        if !is_ours {
            continue;
        }
        let files = list(&store, &staging).await?;
        let old = files
            .into_iter()
            .filter(|file| file.last_modified < oldest && !named.contains(file.location.as_ref()));
        let found = old.filter_map(|file| Some((relative(&folder, &file.location)?, file)));
        let found = finish(store.as_ref(), found.collect(), vacuum).await?;
        all.files
            .extend(found.files.into_iter().map(|file| Leftover {
                // It is under no folder that the statement names.
                path: format!("{}{}", copy.location, file.path),
                ..file
            }));
        if !vacuum.dry_run && copy.location.scheme() == "file" {
            remove_folder(staging.as_ref()).await;
        }
    }
    Ok(all)
}

async fn list(store: &Arc<dyn ObjectStore>, folder: &Path) -> Result<Vec<ObjectMeta>> {
    let listed = store.list(Some(folder)).try_collect().await;
    listed.map_err(|source| Error::store("list", folder, source))
}

async fn delete_one(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<()> {
    match store.delete(path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(Error::store("delete", path, error)),
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
        remove_folder(folder).await;
    }
}

/// Only an empty folder goes.
async fn remove_folder(folder: &str) {
    if let Err(error) = tokio::fs::remove_dir(format!("/{folder}")).await {
        tracing::debug!(folder, %error, "a staging folder stays");
    }
}
