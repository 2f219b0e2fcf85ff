//! One Parquet file being written.

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

use super::{StagedFile, WriteTarget};
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
    writer: AsyncArrowWriter<BufWriter>,
    partition_values: Vec<(String, Option<String>)>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("path", &self.path)
            .finish()
    }
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
        let level = ZstdLevel::try_new(target.compression_level).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("drumline ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let upload = BufWriter::with_capacity(store, path.clone(), UPLOAD_PART);
        let writer =
            AsyncArrowWriter::try_new(upload, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Self {
            table: target.table.clone(),
            path,
            schema,
            writer,
            partition_values,
        })
    }

    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let written = self.writer.write(rows).await;
        written.map_err(|error| self.failed(error))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            let flushed = self.writer.flush().await;
            flushed.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Bytes of the file so far, as far as they are encoded.
    pub(super) fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Bytes in memory: the open row group, and what waits to be uploaded.
    pub(super) fn buffered(&self) -> u64 {
        (self.writer.memory_size() + self.writer.bytes_written().min(UPLOAD_PART)) as u64
    }

    pub(super) async fn close(mut self) -> Result<StagedFile> {
        let metadata = match self.writer.finish().await {
            Ok(metadata) => metadata,
            Err(error) => {
                let error = self.failed(error);
                self.abort().await;
                return Err(error);
            }
        };
        let rows = metadata.file_metadata().num_rows();
        Ok(StagedFile {
            size: self.writer.bytes_written() as u64,
            rows: u64::try_from(rows).unwrap_or_default(),
            statistics: Some(statistics::of_file(&metadata, &self.schema)),
            path: self.path.to_string(),
            partition_values: self.partition_values,
        })
    }

    pub(super) async fn abort(self) {
        let mut upload = self.writer.into_inner();
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
