//! Rows that a statement keeps to itself for as long as it runs: files beside all tables, in the staging folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use futures::{StreamExt, stream};
use object_store::{ObjectStoreExt, path::Path};

use super::{Encoding, StagedFile, WriteOptions, WriteTarget};
use crate::{Format, Lake, Result, columns};

/// How many files are deleted at the same time.
const DELETING: usize = 16;

impl WriteTarget {
    /// A target for rows that no table gets. `name` keeps them apart from all others; what a crash leaves of them
    /// goes with `VACUUM`.
    pub fn aside(lake: &Lake, name: &str, schema: &Schema) -> Result<Self> {
        let schema = columns::stored(name, schema, columns::Naive::Kept)?;
        let options = WriteOptions::of(name, &BTreeMap::new())?;
        Ok(Self {
            table: name.to_owned(),
            format: Format::Parquet,
            folder: lake.url_of(&lake.staging(name))?,
            schema_json: columns::to_json(&schema)?,
            partition_columns: Vec::new(),
            definition: 0,
            target_file_size: options.target_file_size,
            codec: options.codec,
            compression_level: options.compression_level,
            sort_by: Vec::new(),
            one_writer: false,
            encoding: Encoding::Parquet,
        })
    }
}

impl Lake {
    /// Deletes files that were kept aside. What cannot be deleted now goes with `VACUUM`.
    pub async fn discard(&self, files: Vec<StagedFile>) {
        let deletes: Vec<_> = files
            .into_iter()
            .map(|file| {
                let (store, path) = (Arc::clone(self.store()), Path::from(file.path.as_str()));
                async move { store.delete(&path).await.is_ok() }
            })
            .collect();
        let deletes = stream::iter(deletes).buffer_unordered(DELETING);
        let _ = deletes.collect::<Vec<bool>>().await;
    }
}
