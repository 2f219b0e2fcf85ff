//! What a statement that changes rows reads more than once, and could be other rows the second time: a search finds
//! the files, and a write the rows, and both must mean the same ones. So it is run once, and its rows are kept in
//! files beside all tables until the statement is done.
//!
//! That is what holds `random()` and the like, `LIMIT`, windows, aggregates of whichever comes first, and what is
//! read from anything but a table whose version is pinned: folders that others fill, topics, what the master knows.

use super::Query;
use crate::float_bounds::without_float_statistics;
use crate::lake_write::LakeWrite;
use crate::{Error, Result};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::datasource::{ViewTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use drumline_lake::{StagedFile, TableSnapshot, WriteTarget};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use url::Url;

use super::changes::column_named;

/// Aggregates whose answer depends on the order of rows.
const BY_ORDER: &[&str] = &[
    "first_value",
    "last_value",
    "nth_value",
    "any_value",
    "array_agg",
    "string_agg",
];

/// Whether a plan could yield other rows the second time.
pub(super) fn is_unstable(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::Limit(_) | LogicalPlan::Window(_) => true,
            LogicalPlan::Distinct(Distinct::On(_)) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_some(),
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                scan.fetch.is_some() || !is_pinned(&provider)
            }
            _ => false,
        };
        node.apply_expressions(|expression| {
            found |= expression.is_volatile() || is_by_order(expression)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

fn is_pinned(provider: &Arc<dyn TableProvider>) -> bool {
    TableSnapshot::of(provider).is_some() || provider.get_logical_plan().is_some()
}

fn is_by_order(expression: &Expr) -> PlanResult<bool> {
    use datafusion::common::tree_node::TreeNode;
    let mut found = false;
    expression.apply(|part| {
        if let Expr::AggregateFunction(aggregate) = part {
            found |= BY_ORDER.contains(&aggregate.func.name());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Rows that are made once, before a statement's other jobs run.
#[derive(Debug, Clone)]
pub struct Source {
    rows: LogicalPlan,
    held: Arc<Held>,
}

impl Source {
    /// What is to be run, and what reads its rows in its place.
    pub(super) fn hold(plan: LogicalPlan) -> Result<(Self, LogicalPlan)> {
        let (mut renamed, mut fields) = (Vec::new(), Vec::new());
        for (at, (qualifier, field)) in plan.schema().iter().enumerate() {
            let name = format!("c{at}");
            renamed.push(Expr::from((qualifier, field)).alias(&name));
            let kind = match field.data_type() {
                DataType::Null => DataType::Utf8,
                kind => kind.clone(),
            };
            fields.push(Field::new(name, kind, true));
        }
        let held = Arc::new(Held {
            schema: Arc::new(Schema::new(fields)),
            files: OnceLock::new(),
        });
        let source = provider_as_source(Arc::clone(&held) as Arc<dyn TableProvider>);
        let names = plan.schema().iter().enumerate();
        let columns = names.map(|(at, (_, field))| {
            let value = match field.data_type() {
                DataType::Null => lit(ScalarValue::Null),
                _ => column_named(&format!("c{at}")),
            };
            value.alias(field.name())
        });
        let columns: Vec<Expr> = columns.collect();
        let read = LogicalPlanBuilder::scan("held", source, None)?
            .project(columns)?
            .build()?;
        let rows = LogicalPlanBuilder::from(plan).project(renamed)?.build()?;
        Ok((Self { rows, held }, read))
    }

    /// The same as a relation that a statement can name.
    pub(super) fn hold_as_view(plan: LogicalPlan) -> Result<(Self, Arc<dyn TableProvider>)> {
        let (source, read) = Self::hold(plan)?;
        Ok((source, Arc::new(ViewTable::new(read, None))))
    }

    /// The columns of its files.
    pub fn schema(&self) -> &SchemaRef {
        &self.held.schema
    }

    /// The query that writes its rows to a target.
    pub fn query(&self, settings: &BTreeMap<String, String>, target: WriteTarget) -> Result<Query> {
        Ok(Query {
            plan: LakeWrite::plan(self.rows.clone(), target)?,
            settings: settings.clone(),
        })
    }

    /// From here on its rows are those of files that were staged under a folder.
    pub fn keep(&self, folder: &Url, files: &[StagedFile]) -> Result<()> {
        let url = |file: &StagedFile| {
            let mut url = folder.clone();
            url.set_path(&format!("/{}", file.path));
            ListingTableUrl::parse(url.as_str())
        };
        let urls = files.iter().map(url).collect::<PlanResult<Vec<_>>>()?;
        match self.held.files.set(urls) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::bug("rows were kept twice")),
        }
    }

    /// For plans that are shown and never run.
    pub(super) fn shown(&self) -> &LogicalPlan {
        let _ = self.held.files.set(Vec::new());
        &self.rows
    }
}

#[derive(Debug)]
struct Held {
    schema: SchemaRef,
    files: OnceLock<Vec<ListingTableUrl>>,
}

#[async_trait]
impl TableProvider for Held {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let Some(files) = self.files.get() else {
            return Err(Error::bug("rows that are kept are read before they are there").into());
        };
        if files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let options =
            ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
        let config = ListingTableConfig::new_with_multi_paths(files.clone())
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.schema));
        let table = ListingTable::try_new(config)?;
        let scan = table.scan(state, projection, filters, limit).await?;
        without_float_statistics(scan)
    }
}
