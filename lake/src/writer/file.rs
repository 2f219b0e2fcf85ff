//! One file being written: Parquet for tables, CSV and JSON too for copies.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
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

pub(super) struct OpenFile {
    table: String,
    path: Path,
    schema: SchemaRef,
    writer: Encoder,
    partition_values: Vec<(String, Option<String>)>,
}

enum Encoder {
    Parquet(Box<AsyncArrowWriter<BufWriter>>),
    Text(Box<TextFile>),
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
        let upload = BufWriter::with_capacity(store, path.clone(), UPLOAD_PART);
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
                let writer = AsyncArrowWriter::try_new(upload, schema.clone(), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(failed)?))
            }
        };
        Ok(Self {
            table: target.table.clone(),
            path,
            schema,
            writer,
            partition_values,
        })
    }

    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let written = match &mut self.writer {
            Encoder::Text(file) => return file.write(&self.table, &self.path, rows).await,
            Encoder::Parquet(writer) => match writer.write(rows).await {
                Ok(()) if writer.in_progress_size() >= ROW_GROUP_BYTES => writer.flush().await,
                written => written,
            },
        };
        written.map_err(|error| self.failed(error))
    }

    /// Bytes of the file so far, as far as they are encoded.
    pub(super) fn size(&self) -> u64 {
        match &self.writer {
            Encoder::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Encoder::Text(file) => file.bytes(),
        }
    }

    /// Bytes in memory: the open row group, and what waits to be uploaded.
    pub(super) fn buffered(&self) -> u64 {
        match &self.writer {
            Encoder::Parquet(writer) => {
                (writer.memory_size() + writer.bytes_written().min(UPLOAD_PART)) as u64
            }
            Encoder::Text(file) => file.bytes().min(UPLOAD_PART as u64),
        }
    }

    pub(super) async fn close(mut self) -> Result<StagedFile> {
        let finished = match &mut self.writer {
            Encoder::Text(file) => file.finish(&self.path).await,
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
            }),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    pub(super) async fn abort(self) {
        let mut upload = match self.writer {
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
