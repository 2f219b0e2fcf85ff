//! DataFusion in this process: what a cluster's answer and time are compared with.

use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

/// A session over generated files.
pub struct InProcess(SessionContext);

impl InProcess {
    /// A session of `cores` partitions over `tables`, each a folder of Parquet files in `folder`.
    pub async fn open(folder: &Path, tables: &[&str], cores: usize) -> Result<Self> {
        let session =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(cores));
        for table in tables {
            let path = folder.join(table);
            let path = path.to_str().context("the folder's name is not UTF-8")?;
            session
                .register_parquet(*table, path, ParquetReadOptions::default())
                .await
                .with_context(|| format!("cannot read table {table}"))?;
        }
        Ok(Self(session))
    }

    /// The rows of a query.
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.0.sql(sql).await?.collect().await?)
    }

    /// The leading keys of a query's ORDER BY that are columns of its answer, by index.
    pub async fn order_by(&self, sql: &str) -> Result<Vec<usize>> {
        use datafusion::logical_expr::{Expr, LogicalPlan};

        let plan = self.0.state().create_logical_plan(sql).await?;
        let columns = plan.schema().clone();
        let mut node = &plan;
        let sort = loop {
            match node {
                LogicalPlan::Sort(sort) => break sort,
                // The answer's columns may be chosen from what was sorted.
                LogicalPlan::Limit(_) | LogicalPlan::Projection(_) => match node.inputs().first() {
                    Some(input) => node = input,
                    None => return Ok(Vec::new()),
                },
                _ => return Ok(Vec::new()),
            }
        };
        let keys = sort.expr.iter().map_while(|key| match &key.expr {
            Expr::Column(column) => columns.maybe_index_of_column(column),
            _ => None,
        });
        Ok(keys.collect())
    }
}
