//! One file being written: Parquet for tables, CSV and JSON too for copies.
//!
//! A Parquet encoder takes a megabyte or more before its first row (a table of values for each column), which is much
//! where a thousand files are open: rows wait until they take as much themselves.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::text::TextFile;
use super::{Codec, Encoding, StagedFile, WriteTarget};
use crate::{Error, Result, statistics};

/// Size of one part of an upload; a file smaller than this is one put.
const UPLOAD_PART: usize = 8 * 1024 * 1024;

/// Encoded bytes after which a row group is closed: bounds memory, and what a reader must take at once.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

const ROW_GROUP_ROWS: usize = 1024 * 1024;

/// Bytes of rows that wait for an encoder, at least.
const WAITING_BYTES: usize = 512 * 1024;

/// What an encoder takes for each column before its first row: its hash table for 4096 values, and buffers.
const ENCODER_BYTES: usize = 80 * 1024;

/// So many batches that wait are put together: each has an overhead of its own.
const WAITING_BATCHES: usize = 16;

pub(super) struct OpenFile {
    table: String,
    store: Arc<dyn ObjectStore>,
    path: Path,
    schema: SchemaRef,
    writer: Encoder,
    partition_values: Vec<(String, Option<String>)>,
    definition: u64,
}

enum Encoder {
    /// Rows that wait for a Parquet encoder.
    Waiting(Box<Waiting>),
    Parquet(Box<AsyncArrowWriter<BufWriter>>),
    Text(Box<TextFile>),
}

struct Waiting {
    upload: BufWriter,
    properties: WriterProperties,
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// Bytes at which they go to an encoder.
    most: usize,
    /// Batches at the end of `rows` that are not put together yet.
    loose: usize,
}

impl Waiting {
    fn push(&mut self, schema: &SchemaRef, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows.push(rows.clone());
        self.bytes += rows.get_array_memory_size();
        self.loose += 1;
        if self.loose >= WAITING_BATCHES && self.bytes < self.most {
            let loose = self.rows.split_off(self.rows.len() - self.loose);
            self.rows.push(concat_batches(schema, &loose)?);
            self.loose = 0;
            self.bytes = self
                .rows
                .iter()
                .map(RecordBatch::get_array_memory_size)
                .sum();
        }
        Ok(())
    }

    async fn encode(self, schema: &SchemaRef) -> Result<AsyncArrowWriter<BufWriter>, ParquetError> {
        let (upload, schema) = (self.upload, schema.clone());
        let mut writer = AsyncArrowWriter::try_new(upload, schema, Some(self.properties))?;
        for rows in &self.rows {
            writer.write(rows).await?;
        }
        Ok(writer)
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("path", &self.path)
            .finish()
    }
}

/// What is known of a file once it is whole.
pub(super) struct Finished {
    pub(super) size: u64,
    pub(super) rows: u64,
    pub(super) statistics: Option<serde_json::Value>,
}

fn compression(target: &WriteTarget) -> Result<Compression, ParquetError> {
    Ok(match target.codec {
        Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(target.compression_level)?),
        Codec::Snappy => Compression::SNAPPY,
        Codec::Lz4 => Compression::LZ4_RAW,
        Codec::None => Compression::UNCOMPRESSED,
    })
}

/// Bytes of rows at which an encoder takes no more memory than they do.
fn most_waiting(schema: &SchemaRef, target_file_size: u64) -> usize {
    let columns = schema.flattened_fields().len();
    let most = WAITING_BYTES.max(columns * ENCODER_BYTES);
    usize::try_from(target_file_size).map_or(most, |size| size.min(most))
}

impl OpenFile {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        target: &WriteTarget,
        schema: SchemaRef,
        partition_values: Vec<(String, Option<String>)>,
    ) -> Result<Self> {
        let failed = |source: ParquetError| Error::Parquet {
            table: target.table.clone(),
            source,
        };
        let upload = BufWriter::with_capacity(Arc::clone(&store), path.clone(), UPLOAD_PART);
        let writer = match target.encoding {
            Encoding::Csv { header } => {
                Encoder::Text(Box::new(TextFile::csv(upload, schema.clone(), header)))
            }
            Encoding::Json => Encoder::Text(Box::new(TextFile::json(upload, schema.clone()))),
            Encoding::Parquet => {
                let properties = WriterProperties::builder()
                    .set_created_by(concat!("drumline ", env!("CARGO_PKG_VERSION")).to_owned())
                    .set_compression(compression(target).map_err(failed)?)
                    .set_statistics_enabled(EnabledStatistics::Page)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                Encoder::Waiting(Box::new(Waiting {
                    upload,
                    properties,
                    rows: Vec::new(),
                    bytes: 0,
                    most: most_waiting(&schema, target.target_file_size),
                    loose: 0,
                }))
            }
        };
        Ok(Self {
            table: target.table.clone(),
            store,
            path,
            schema,
            writer,
            partition_values,
            definition: target.definition,
        })
    }

    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let written = match &mut self.writer {
            Encoder::Text(file) => return file.write(&self.table, &self.path, rows).await,
            Encoder::Waiting(waiting) => match waiting.push(&self.schema, rows) {
                Ok(()) if waiting.bytes < waiting.most => Ok(()),
                Ok(()) => return self.encode().await,
                failed => failed,
            },
            Encoder::Parquet(writer) => match writer.write(rows).await {
                Ok(()) if writer.in_progress_size() >= ROW_GROUP_BYTES => writer.flush().await,
                written => written,
            },
        };
        written.map_err(|error| self.failed(error))
    }

    /// Has an encoder take the rows that wait for one.
    async fn encode(&mut self) -> Result<()> {
        let Encoder::Waiting(waiting) = &mut self.writer else {
            return Ok(());
        };
        // What stands in its place meanwhile is never written to: without it the file is given up.
        let upload = BufWriter::new(Arc::clone(&self.store), self.path.clone());
        let empty = Waiting {
            upload,
            properties: WriterProperties::default(),
            rows: Vec::new(),
            bytes: 0,
            most: 0,
            loose: 0,
        };
        let waiting = std::mem::replace(waiting.as_mut(), empty);
        let writer = waiting.encode(&self.schema).await;
        self.writer = Encoder::Parquet(Box::new(writer.map_err(|error| self.failed(error))?));
        Ok(())
    }

    /// Bytes of the file so far, as far as they are encoded.
    pub(super) fn size(&self) -> u64 {
        match &self.writer {
            // Nothing is known of how small they become.
            Encoder::Waiting(_) => 0,
            Encoder::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Encoder::Text(file) => file.bytes(),
        }
    }

    /// Bytes in memory: the open row group, and what waits to be uploaded.
    pub(super) fn buffered(&self) -> u64 {
        match &self.writer {
            Encoder::Waiting(waiting) => waiting.bytes as u64,
            Encoder::Parquet(writer) => {
                (writer.memory_size() + writer.bytes_written().min(UPLOAD_PART)) as u64
            }
            Encoder::Text(file) => file.bytes().min(UPLOAD_PART as u64),
        }
    }

    pub(super) async fn close(mut self) -> Result<StagedFile> {
        self.encode().await?;
        let finished = match &mut self.writer {
            Encoder::Text(file) => file.finish(&self.path).await,
            Encoder::Waiting(_) => Err(Error::bug("a file without an encoder".to_owned())),
            Encoder::Parquet(writer) => match writer.finish().await {
                Ok(metadata) => {
                    let rows = metadata.file_metadata().num_rows();
                    Ok(Finished {
                        size: writer.bytes_written() as u64,
                        rows: u64::try_from(rows).unwrap_or_default(),
                        statistics: Some(statistics::of_file(&metadata, &self.schema)),
                    })
                }
                Err(error) => Err(self.failed(error)),
            },
        };
        match finished {
            Ok(finished) => Ok(StagedFile {
                size: finished.size,
                rows: finished.rows,
                statistics: finished.statistics,
                path: self.path.to_string(),
                partition_values: self.partition_values,
                definition: self.definition,
            }),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    pub(super) async fn abort(self) {
        let mut upload = match self.writer {
            Encoder::Waiting(waiting) => waiting.upload,
            Encoder::Parquet(writer) => writer.into_inner(),
            Encoder::Text(file) => file.into_inner(),
        };
        if let Err(error) = upload.abort().await {
            tracing::debug!(path = %self.path, %error, "an upload could not be aborted");
        }
    }

    fn failed(&self, error: ParquetError) -> Error {
        // An upload's own error travels inside: tell a store that is away from rows that cannot be encoded.
        match error {
            ParquetError::External(source) => match source.downcast::<object_store::Error>() {
                Ok(source) => Error::store("write", &self.path, *source),
                Err(source) => Error::Store {
                    action: "write",
                    path: self.path.to_string(),
                    source: object_store::Error::Generic {
                        store: "upload",
                        source,
                    },
                },
            },
            source => Error::Parquet {
                table: self.table.clone(),
                source,
            },
        }
    }
}
