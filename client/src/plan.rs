//! Plans that name tables.
//!
//! A scan in a client's plan is a [`Placeholder`]: a name, and the schema the client believes the
//! table has. On the wire it is datafusion-proto's `CustomScan` with `custom_table_data` the UTF-8
//! text `catalog.schema.table`; the master collects these names, opens the tables, and refuses a
//! plan with any other scan. So a plan never carries a path, and never reads what its sender may
//! not. Plans travel unoptimised: the master knows more about the tables.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::logical_plan_to_bytes_with_extension_codec;
use datafusion_proto::logical_plan::LogicalExtensionCodec;

/// Catalog of tables named without one.
pub const DEFAULT_CATALOG: &str = "lake";
/// Schema of tables named without one.
pub const DEFAULT_SCHEMA: &str = "default";

/// A table by name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    name: String,
    schema: SchemaRef,
}

impl Placeholder {
    /// A table as the client knows it; names left out of `table` are the defaults.
    pub fn new(table: &TableReference, schema: SchemaRef) -> Placeholder {
        let full = table.clone().resolve(DEFAULT_CATALOG, DEFAULT_SCHEMA);
        Placeholder {
            name: format!("{}.{}.{}", full.catalog, full.schema, full.table),
            schema,
        }
    }

    /// `catalog.schema.table`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl TableProvider for Placeholder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!(
            "table {} is read on the cluster: pass the DataFrame to Client::collect",
            self.name
        )
    }
}

/// The bytes of an unoptimised plan, after a check that all its scans are placeholders.
pub fn encode(plan: &LogicalPlan) -> Result<Bytes> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            placeholder(source_as_provider(&scan.source)?.as_ref(), &scan.table_name)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    logical_plan_to_bytes_with_extension_codec(plan, &Codec)
}

fn placeholder<'a>(
    provider: &'a dyn TableProvider,
    name: &TableReference,
) -> Result<&'a Placeholder> {
    (provider as &dyn Any).downcast_ref::<Placeholder>().ok_or_else(|| {
        DataFusionError::Plan(format!(
            "{name} is not a table of the cluster; rows of this program do not travel, write them to a table first"
        ))
    })
}

/// Writes placeholders as names.
#[derive(Debug)]
pub struct Codec;

impl LogicalExtensionCodec for Codec {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        plan_err!("extension nodes are not part of a client's plan")
    }

    fn try_encode(&self, node: &Extension, _: &mut Vec<u8>) -> Result<()> {
        plan_err!("{} cannot be part of a client's plan", node.node.name())
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        _: &TableReference,
        schema: SchemaRef,
        _: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match std::str::from_utf8(buf) {
            Ok(name) => Ok(Arc::new(Placeholder {
                name: name.to_owned(),
                schema,
            })),
            Err(_) => plan_err!("a table's name is not UTF-8"),
        }
    }

    fn try_encode_table_provider(
        &self,
        table: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        buf.extend_from_slice(placeholder(node.as_ref(), table)?.name.as_bytes());
        Ok(())
    }
}
