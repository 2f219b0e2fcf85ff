//! DataFrame programs over the cluster's tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use drumline_proto::v1;
use drumline_proto::v1::submit_request::Body;

use crate::plan::{self, DEFAULT_CATALOG, DEFAULT_SCHEMA, Placeholder};
use crate::{Client, Error, Result, rows};

impl Client {
    /// A table as a DataFrame: `name`, `schema.name` or `lake.schema.name`. Nothing is read until
    /// [`Client::collect`].
    pub async fn table(&self, name: &str) -> Result<DataFrame> {
        let reference = TableReference::parse_str(name);
        let wanted = reference.clone().resolve(DEFAULT_CATALOG, DEFAULT_SCHEMA);
        let tables = self.tables().await?;
        let found = tables.iter().find(|table| {
            *wanted.catalog == *DEFAULT_CATALOG
                && table.schema == *wanted.schema
                && table.name == *wanted.table
        });
        let Some(found) = found else {
            return Err(Error::NoSuchTable {
                table: name.to_owned(),
                candidate: closest(&wanted.table, &tables),
            });
        };
        let placeholder = Placeholder::new(&reference, rows::schema(&found.schema_ipc)?);
        let source = provider_as_source(Arc::new(placeholder));
        let plan = LogicalPlanBuilder::scan(reference, source, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| Error::plan(&error))?;
        Ok(DataFrame::new(self.session().state(), plan))
    }

    /// Runs a DataFrame program on the cluster and returns its rows. It reads only, so it is asked
    /// again from the start when a worker is lost on the way.
    pub async fn collect(&self, program: DataFrame) -> Result<Vec<RecordBatch>> {
        let bytes = plan::encode(program.logical_plan()).map_err(|error| Error::plan(&error))?;
        self.collect_request(v1::SubmitRequest {
            body: Some(Body::LogicalPlan(bytes.to_vec())),
            ..v1::SubmitRequest::default()
        })
        .await
    }

    /// Where plans are built; it runs nothing.
    fn session(&self) -> SessionContext {
        let config =
            SessionConfig::new().with_default_catalog_and_schema(DEFAULT_CATALOG, DEFAULT_SCHEMA);
        SessionContext::new_with_config(config)
    }
}

/// The table whose name shares the most beginning and end with the one asked for.
fn closest(wanted: &str, tables: &[v1::TableEntry]) -> Option<String> {
    let shared = |name: &str| {
        let ahead = name
            .chars()
            .zip(wanted.chars())
            .take_while(|(a, b)| a == b)
            .count();
        let behind = name
            .chars()
            .rev()
            .zip(wanted.chars().rev())
            .take_while(|(a, b)| a == b)
            .count();
        ahead.max(behind)
    };
    let best = tables.iter().max_by_key(|table| shared(&table.name))?;
    (shared(&best.name) * 2 >= wanted.chars().count().max(1)).then(|| match best.schema.as_str() {
        DEFAULT_SCHEMA => best.name.clone(),
        schema => format!("{schema}.{}", best.name),
    })
}
