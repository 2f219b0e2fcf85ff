//! Staging: rows in, Parquet files out, not yet visible.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Error, Format, Result, Stores};

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
    /// A file is closed when it reaches this size.
    pub target_file_size: u64,
    /// Zstandard level.
    pub compression_level: i32,
}

impl WriteTarget {
    /// Columns of the table, partition columns included: rows are cast to these, by position of name.
    pub fn schema(&self) -> Result<SchemaRef> {
        Err(Error::bug("not built yet"))
    }
}

/// A file that is written and not yet visible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Where it is: a full URL.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Value of each partition column; none is null.
    pub partition_values: Vec<(String, Option<String>)>,
    /// Statistics in Delta's shape.
    pub statistics: Option<serde_json::Value>,
}

/// Writes rows into staged files: one open file per partition value, rolled at the target size.
#[derive(Debug)]
pub struct Writer {}

impl Writer {
    /// A writer for a target. Nothing is written before the first row.
    pub fn new(_stores: &Stores, _target: &WriteTarget) -> Result<Self> {
        Ok(Self {})
    }

    /// Writes rows. Columns are matched by name and cast to the table's types; a missing one is null,
    /// an unknown one is an error.
    pub async fn write(&mut self, _batch: &RecordBatch) -> Result<()> {
        Err(Error::bug("not built yet"))
    }

    /// Bytes held in memory now.
    pub fn buffered_bytes(&self) -> u64 {
        0
    }

    /// Bytes written to files so far, those still open included.
    pub fn written_bytes(&self) -> u64 {
        0
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        0
    }

    /// Closes all files; they are durable when this returns.
    pub async fn finish(self) -> Result<Vec<StagedFile>> {
        Err(Error::bug("not built yet"))
    }

    /// Gives up: open uploads are aborted, closed files deleted (both as far as possible).
    pub async fn abort(self) {}
}
