//! Staging: rows in, Parquet files out, not yet visible.
//!
//! One open file per combination of partition values, each streamed to the store as a multipart upload and
//! closed when it reaches the target size. File names are unique, so that a repeated attempt leaves orphans
//! and never replaces anything. Partition columns are not in the files.

mod aside;
mod file;
mod options;
mod rows;
mod text;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::stream::{self, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use self::file::OpenFile;
pub use self::options::{Codec, SortColumn, WriteOptions};
use self::rows::Splitter;
use crate::root::path_of;
use crate::{Error, Format, Result, Stores, columns, hive};

/// Where and how writers stage files for a table. Travels to workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteTarget {
    /// Name of the table, for messages.
    pub table: String,
    /// How the table keeps its files.
    pub format: Format,
    /// Folder under which files are written.
    pub folder: Url,
    /// Columns of the table, as Delta writes schemas (see [`WriteTarget::schema`]).
    pub schema_json: String,
    /// Columns whose values become folders.
    pub partition_columns: Vec<String>,
    /// How often the table had been redefined: files of another count do not fit it.
    #[serde(default)]
    pub definition: u64,
    /// A file is closed when it reaches this size in bytes.
    pub target_file_size: u64,
    /// How Parquet is compressed.
    #[serde(default)]
    pub codec: Codec,
    /// Level, for a codec that has levels.
    pub compression_level: i32,
    /// Columns by which the rows of a file are sorted.
    #[serde(default)]
    pub sort_by: Vec<SortColumn>,
    /// Where there are no partition columns: one writer writes all files, so that sorted ones do not overlap.
    #[serde(default)]
    pub one_writer: bool,
    /// What files are.
    #[serde(default)]
    pub encoding: Encoding,
}

/// What files are: tables' are Parquet, copies may be others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// `.parquet`
    #[default]
    Parquet,
    /// `.csv`
    Csv {
        /// Whether each file begins with the columns' names.
        header: bool,
    },
    /// `.json`: one object per line.
    Json,
}

impl Encoding {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv { .. } => "csv",
            Self::Json => "json",
        }
    }
}

/// Size of files unless a table or stream says otherwise: large enough to scan well, small enough to retry.
pub(crate) const DEFAULT_TARGET_FILE_SIZE: u64 = 128 * 1024 * 1024;

pub(crate) const DEFAULT_COMPRESSION_LEVEL: i32 = 3;

impl WriteTarget {
    /// Columns of the table, partition columns included: rows are cast to these.
    pub fn schema(&self) -> Result<SchemaRef> {
        columns::from_json(&self.schema_json)
    }

    /// A target for plans that are shown and never run: its folder is nowhere.
    pub fn unwritten(
        table: &str,
        format: Format,
        schema: &Schema,
        partition_columns: Vec<String>,
    ) -> Result<Self> {
        let schema = columns::stored(table, schema, columns::Naive::of(format))?;
        let folder = Url::parse("file:///nowhere/")
            .map_err(|error| Error::bug(format!("nowhere is no URL: {error}")))?;
        Ok(Self {
            table: table.to_owned(),
            format,
            folder,
            schema_json: columns::to_json(&schema)?,
            partition_columns,
            definition: 0,
            target_file_size: DEFAULT_TARGET_FILE_SIZE,
            codec: Codec::default(),
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            sort_by: Vec::new(),
            one_writer: false,
            encoding: Encoding::Parquet,
        })
    }
}

/// A file that is written and not yet visible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Where it is: the path within the lake's store (its bucket, or `/` for local ones).
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Value of each partition column; none is null.
    pub partition_values: Vec<(String, Option<String>)>,
    /// Statistics in Delta's shape.
    pub statistics: Option<serde_json::Value>,
    /// What the table was when it was staged: see [`WriteTarget::definition`].
    #[serde(default)]
    pub definition: u64,
}

/// Writes rows into staged files: one open file per partition value, rolled at the target size.
#[derive(Debug)]
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    target: WriteTarget,
    folder: Path,
    file_schema: SchemaRef,
    splitter: Splitter,
    open: HashMap<Vec<Option<String>>, OpenFile>,
    closed: Vec<StagedFile>,
    rows: u64,
}

/// How many files are closed at the same time.
const CLOSING: usize = 8;

impl Writer {
    /// A writer for a target. Nothing is written before the first row.
    pub fn new(stores: &Stores, target: &WriteTarget) -> Result<Self> {
        let schema = target.schema()?;
        let (file_schema, _) = columns::split(&schema, &target.partition_columns);
        Ok(Self {
            store: stores.get(&target.folder)?,
            folder: path_of(&target.folder)?,
            splitter: Splitter::new(target, schema)?,
            file_schema,
            target: target.clone(),
            open: HashMap::new(),
            closed: Vec::new(),
            rows: 0,
        })
    }

    /// Writes rows. Columns are matched by name and cast to the table's types; a missing one is null,
    /// an unknown one is an error.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (values, rows) in self.splitter.split(batch)? {
            if !self.open.contains_key(&values) {
                let file = self.open_file(&values)?;
                self.open.insert(values.clone(), file);
            }
            let Some(file) = self.open.get_mut(&values) else {
                continue;
            };
            file.write(&rows).await?;
            if file.size() >= self.target.target_file_size
                && let Some(full) = self.open.remove(&values)
            {
                self.closed.push(full.close().await?);
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Bytes held in memory now.
    pub fn buffered_bytes(&self) -> u64 {
        self.open.values().map(OpenFile::buffered).sum()
    }

    /// Closes the files that hold the most until no more than so many bytes are in memory. Further rows of
    /// their partitions begin new files.
    pub async fn shrink(&mut self, bytes: u64) -> Result<()> {
        let mut held = self.buffered_bytes();
        while held > bytes {
            let largest = self.open.iter().max_by_key(|(_, file)| file.buffered());
            let Some(values) = largest.map(|(values, _)| values.clone()) else {
                break;
            };
            if let Some(file) = self.open.remove(&values) {
                held = held.saturating_sub(file.buffered());
                self.closed.push(file.close().await?);
            }
        }
        Ok(())
    }

    /// Bytes of all files so far; those still open as far as they are encoded.
    pub fn written_bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|file| file.size).sum();
        closed + self.open.values().map(OpenFile::size).sum::<u64>()
    }

    /// Bytes of the largest file so far, closed or open.
    pub fn largest_file(&self) -> u64 {
        let closed = self.closed.iter().map(|file| file.size);
        closed
            .chain(self.open.values().map(OpenFile::size))
            .max()
            .unwrap_or(0)
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Files that are open now.
    pub fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Closes all files; they are complete in the store when this returns.
    pub async fn finish(mut self) -> Result<Vec<StagedFile>> {
        let open: Vec<_> = self.open.drain().map(|(_, file)| file).collect();
        let mut closing = stream::iter(open)
            .map(OpenFile::close)
            .buffer_unordered(CLOSING);
        let mut failed = None;
        while let Some(closed) = closing.next().await {
            match closed {
                Ok(file) => self.closed.push(file),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        drop(closing);
        match failed {
            Some(error) => {
                self.abort().await;
                Err(error)
            }
            None => Ok(std::mem::take(&mut self.closed)),
        }
    }

    /// A file without rows: what there is to read where nothing was written.
    pub(crate) async fn empty(self) -> Result<StagedFile> {
        self.open_file(&[])?.close().await
    }

    /// Gives up: open uploads are aborted, closed files deleted, both as far as possible.
    pub async fn abort(mut self) {
        for (_, file) in self.open.drain() {
            file.abort().await;
        }
        delete(&self.store, &self.closed).await;
    }

    fn open_file(&self, values: &[Option<String>]) -> Result<OpenFile> {
        let partition_values: Vec<(String, Option<String>)> = self
            .target
            .partition_columns
            .iter()
            .cloned()
            .zip(values.iter().cloned())
            .collect();
        let id = Uuid::new_v4();
        let extension = self.target.encoding.extension();
        let relative = match self.target.format {
            // The commit gives a plain file its folders; until then attempts are kept apart by theirs.
            Format::Parquet => format!("{id}.{extension}"),
            Format::Delta => format!("{}part-{id}.{extension}", folders(&partition_values)),
        };
        OpenFile::new(
            self.store.clone(),
            child(&self.folder, &relative)?,
            &self.target,
            self.file_schema.clone(),
            partition_values,
        )
    }
}

/// Deletes staged files that will never be committed, as far as possible.
pub(crate) async fn delete(store: &Arc<dyn ObjectStore>, files: &[StagedFile]) {
    let paths: Vec<_> = files
        .iter()
        .filter_map(|file| Path::parse(&file.path).ok())
        .map(Ok)
        .collect();
    let mut deleted = store.delete_stream(stream::iter(paths).boxed());
    while let Some(result) = deleted.next().await {
        if let Err(error) = result {
            tracing::debug!(%error, "a staged file stays behind");
        }
    }
}

pub(crate) fn folders(values: &[(String, Option<String>)]) -> String {
    hive::folders(
        values
            .iter()
            .map(|(column, value)| (column.as_str(), value.as_deref())),
    )
}

/// A path under a folder, taken as it is (no escaping on top of ours).
pub(crate) fn child(folder: &Path, relative: &str) -> Result<Path> {
    Path::parse(format!("{folder}/{relative}"))
        .map_err(|error| crate::Error::bug(format!("'{folder}/{relative}' is no path: {error}")))
}
