//! DataFusion in this process: what a cluster's answer and time are compared with.

use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use super::data::TABLES;

/// A session over the generated files.
pub struct InProcess(SessionContext);

impl InProcess {
    /// A session of `cores` partitions over the tables in `folder`.
    pub async fn open(folder: &Path, cores: usize) -> Result<Self> {
        let session =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(cores));
        for table in TABLES {
            let path = folder.join(table);
            let path = path.to_str().context("the folder's name is not UTF-8")?;
            session
                .register_parquet(table, path, ParquetReadOptions::default())
                .await
                .with_context(|| format!("cannot read table {table}"))?;
        }
        Ok(Self(session))
    }

    /// The rows of a query.
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.0.sql(sql).await?.collect().await?)
    }
}
