//! Rows of single files, in their order.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use url::Url;

use crate::root::path_of;
use crate::writer::child;
use crate::{Error, Result, Stores};

const BATCH: usize = 1024;

/// The rows of a Parquet file of a table, batch by batch, as it has them. The file is in memory meanwhile.
pub struct FileRows {
    table: String,
    rows: ParquetRecordBatchReader,
}

impl std::fmt::Debug for FileRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRows")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl FileRows {
    /// Opens a file: `location` is the table's folder, `file` a path in it.
    pub async fn open(stores: &Stores, table: &str, location: &str, file: &str) -> Result<Self> {
        let folder = Url::parse(location).map_err(|error| Error::Location {
            url: location.to_owned(),
            reason: error.to_string(),
        })?;
        let store = stores.get(&folder)?;
        let path = child(&path_of(&folder)?, file)?;
        let read = async { store.get(&path).await?.bytes().await };
        let bytes = read
            .await
            .map_err(|source| Error::store("read", &path, source))?;
        let rows = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
            .map_err(|source| Error::Parquet {
                table: table.to_owned(),
                source,
            })?;
        Ok(Self {
            table: table.to_owned(),
            rows,
        })
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = |error: ArrowError| Error::Parquet {
            table: self.table.clone(),
            source: ParquetError::from(error),
        };
        let next = self.rows.next()?;
        Some(next.map_err(failed))
    }
}
