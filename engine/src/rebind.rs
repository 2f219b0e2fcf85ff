//! Logical plans of clients: decoded, checked, bound to the tables of now.
//!
//! A client sends its plan by `datafusion-proto`, unoptimised. Each scan is a `CustomScan`:
//!
//! | part | is |
//! |---|---|
//! | `custom_table_data` | UTF-8 `catalog.schema.table`: three parts, each not empty and without dots, joined by [`SEPARATOR`]; the catalog is [`CATALOG`] |
//! | `schema` | what the client believes the table's columns are |
//!
//! Everything else that a plan could read or change by itself is refused, in subqueries too: a
//! `ListingTable` would decode without a codec and read any file of the master.

use crate::planner::{Resolved, Scope, Tables, as_meant, session};
use crate::{Error, Result, sql};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as PlanResult, TableReference, plan_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, TableScan, TableType, cast,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion_proto::bytes::logical_plan_from_bytes_with_extension_codec;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use drumline_lake::TableName;
use std::collections::HashMap;
use std::sync::Arc;

/// Between the parts of a scan's name.
pub const SEPARATOR: char = '.';

/// The one catalog that a scan can name.
pub const CATALOG: &str = "lake";

/// The most bytes of a plan.
pub const MAX_PLAN_BYTES: usize = 16 << 20;

pub(crate) async fn rebind(
    bytes: &[u8],
    base: &SessionContext,
    tables: Arc<dyn Tables>,
) -> Result<LogicalPlan> {
    if bytes.len() > MAX_PLAN_BYTES {
        return Err(refused(format!(
            "it has {} bytes, the most is {MAX_PLAN_BYTES}",
            bytes.len()
        )));
    }
    let context = base.task_ctx();
    let plan = logical_plan_from_bytes_with_extension_codec(bytes, &context, &Placeholders)
        .map_err(|error| refused(error.find_root().message().into_owned()))?;
    let names = check(&plan)?;
    let mut bound = HashMap::new();
    for name in names {
        let scope = Scope::new(Arc::clone(&tables));
        let provider = match tables.table(&name).await? {
            Some(Resolved::Table(provider)) => provider,
            Some(_) => planned(base, scope, &name).await?,
            None => return Err(unknown(&name, tables.as_ref())),
        };
        bound.insert(name, provider);
    }
    let bound_scan = |node: LogicalPlan| match &node {
        LogicalPlan::TableScan(scan) => match placeholder(scan).and_then(|name| bound.get(&name)) {
            Some(provider) => Ok(Transformed::yes(bind(scan, provider)?)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    };
    let plan = plan.transform_up_with_subqueries(bound_scan)?.data;
    as_meant(plan)
}

/// What a name stands for where that has to be planned first.
async fn planned(
    base: &SessionContext,
    scope: Scope,
    name: &TableName,
) -> Result<Arc<dyn TableProvider>> {
    let reference = TableReference::full(CATALOG, name.schema.as_str(), name.name.as_str());
    Ok(session(base, scope).table_provider(reference).await?)
}

fn unknown(name: &TableName, tables: &dyn Tables) -> Error {
    let known: Vec<String> = tables
        .names()
        .into_iter()
        .map(|(schema, name)| TableName::new(schema, name).to_string())
        .collect();
    let name = name.to_string();
    sql::Error::Unknown {
        kind: "table",
        position: None,
        candidates: sql::candidates(&name, known.iter().map(String::as_str)),
        name,
    }
    .into()
}

fn refused(reason: impl Into<String>) -> Error {
    sql::Error::Invalid {
        reason: format!("the plan is refused: {}", reason.into()),
        position: None,
        hint: Some("build it from tables that the client opened by name".to_owned()),
    }
    .into()
}

/// The names a plan reads; an error if it does anything but read them.
fn check(plan: &LogicalPlan) -> Result<Vec<TableName>> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => match placeholder(scan) {
                Some(name) if !names.contains(&name) => names.push(name),
                Some(_) => {}
                None => {
                    return Err(
                        refused(format!("`{}` is not scanned by name", scan.table_name)).into(),
                    );
                }
            },
            LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => return Err(refused("it writes").into()),
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => {
                return Err(refused("it changes names or settings").into());
            }
            LogicalPlan::Extension(_) => {
                return Err(refused("it has a node of the client's own").into());
            }
            LogicalPlan::DescribeTable(_) => return Err(refused("it describes a table").into()),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

fn placeholder(scan: &TableScan) -> Option<TableName> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider
        .downcast_ref::<Placeholder>()
        .map(|placeholder| placeholder.name.clone())
}

/// A scan of the table as it is, which yields the very columns that the client believes in.
fn bind(scan: &TableScan, provider: &Arc<dyn TableProvider>) -> PlanResult<LogicalPlan> {
    let current = provider.schema();
    let mut projection = Vec::new();
    let mut columns = Vec::new();
    let mut is_same = true;
    for field in scan.projected_schema.fields() {
        let name = field.name();
        let Ok(at) = current.index_of(name) else {
            return Err(changed(scan, format!("has no column `{name}` any more")).into());
        };
        let found = current.field(at).data_type();
        if found != field.data_type() && !(is_text(found) && is_text(field.data_type())) {
            let reason = format!(
                "now has {found} in column `{name}`, not {}",
                field.data_type()
            );
            return Err(changed(scan, reason).into());
        }
        is_same &= found == field.data_type();
        projection.push(at);
        let column = Expr::Column(datafusion::common::Column::new(
            Some(scan.table_name.clone()),
            name,
        ));
        columns.push(
            cast(column, field.data_type().clone())
                .alias_qualified(Some(scan.table_name.clone()), name),
        );
    }
    let source = provider_as_source(Arc::clone(provider));
    let mut plan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?;
    for filter in &scan.filters {
        plan = plan.filter(filter.clone())?;
    }
    let picked = projection.iter().map(|at| {
        let name = current.field(*at).name();
        Expr::Column(datafusion::common::Column::new(
            Some(scan.table_name.clone()),
            name,
        ))
    });
    plan = plan.project(picked.collect::<Vec<_>>())?;
    if !is_same {
        plan = plan.project(columns)?;
    }
    if scan.fetch.is_some() {
        plan = plan.limit(0, scan.fetch)?;
    }
    plan.build()
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn changed(scan: &TableScan, reason: String) -> Error {
    sql::Error::Invalid {
        reason: format!("table `{}` {reason}", scan.table_name.table()),
        position: None,
        hint: Some("open the table again: it has changed since".to_owned()),
    }
    .into()
}

/// A table that is only named.
#[derive(Debug)]
struct Placeholder {
    name: TableName,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Placeholder {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Err(Error::bug(format!("table {} was never bound", self.name)).into())
    }
}

/// Decodes placeholders and nothing else.
#[derive(Debug)]
struct Placeholders;

impl LogicalExtensionCodec for Placeholders {
    fn try_decode(
        &self,
        _buf: &[u8],
        _inputs: &[LogicalPlan],
        _ctx: &TaskContext,
    ) -> PlanResult<Extension> {
        plan_err!("it has a node of the client's own")
    }

    fn try_encode(&self, _node: &Extension, _buf: &mut Vec<u8>) -> PlanResult<()> {
        plan_err!("plans are only decoded here")
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        _table_ref: &TableReference,
        schema: SchemaRef,
        _ctx: &TaskContext,
    ) -> PlanResult<Arc<dyn TableProvider>> {
        let text = std::str::from_utf8(buf)
            .map_err(|_| DataFusionError::Plan("a table's name is no text".to_owned()))?;
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        match parts.as_slice() {
            [CATALOG, schema_name, name] if !schema_name.is_empty() && !name.is_empty() => {
                Ok(Arc::new(Placeholder {
                    name: TableName::new(*schema_name, *name),
                    schema,
                }))
            }
            _ => plan_err!("'{text}' is no table of catalog {CATALOG}"),
        }
    }

    fn try_encode_table_provider(
        &self,
        _table_ref: &TableReference,
        _node: Arc<dyn TableProvider>,
        _buf: &mut Vec<u8>,
    ) -> PlanResult<()> {
        plan_err!("plans are only decoded here")
    }
}
