//! Joins by floats. DataFusion hashes and compares the bits of keys: minus zero would not meet zero, nor a NaN one of
//! another sign, though they are equal wherever else SQL compares them. So such keys are joined by
//! [`plain`](crate::functions) values.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};

use crate::functions::plain_value;

type On = Vec<(PhysicalExprRef, PhysicalExprRef)>;

/// See the module's words. Stands before the rules that choose how joins run.
#[derive(Debug)]
pub(crate) struct PlainKeys;

impl PhysicalOptimizerRule for PlainKeys {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if let Some(join) = node.downcast_ref::<HashJoinExec>()
                && let Some(on) = plain_keys(join.on(), join.left(), join.right(), config)?
            {
                return Ok(Transformed::yes(join.builder().with_on(on).build_exec()?));
            }
            if let Some(join) = node.downcast_ref::<SortMergeJoinExec>()
                && let Some(on) = plain_keys(join.on(), join.left(), join.right(), config)?
            {
                let join = SortMergeJoinExec::try_new(
                    Arc::clone(join.left()),
                    Arc::clone(join.right()),
                    on,
                    join.filter().clone(),
                    join.join_type(),
                    join.sort_options().to_vec(),
                    join.null_equality(),
                )?;
                return Ok(Transformed::yes(Arc::new(join)));
            }
            Ok(Transformed::no(node))
        })
        .data()
    }

    fn name(&self) -> &str {
        "PlainKeys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The keys of a join; none where no float is among them.
fn plain_keys(
    on: &[(PhysicalExprRef, PhysicalExprRef)],
    left: &Arc<dyn ExecutionPlan>,
    right: &Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Option<On>> {
    let (left, right) = (left.schema(), right.schema());
    let mut changed = false;
    let mut keys = Vec::with_capacity(on.len());
    for (a, b) in on {
        let is_float = |kind| matches!(kind, DataType::Float32 | DataType::Float64);
        if !is_float(a.data_type(&left)?) || !is_float(b.data_type(&right)?) {
            keys.push((Arc::clone(a), Arc::clone(b)));
            continue;
        }
        let plain =
            |key: &PhysicalExprRef, schema: &Schema| plain_value(Arc::clone(key), schema, config);
        keys.push((plain(a, &left)?, plain(b, &right)?));
        changed = true;
    }
    Ok(changed.then_some(keys))
}
