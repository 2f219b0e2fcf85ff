//! Windows over partitions of which a filter leaves one: `OVER (PARTITION BY kind …) … WHERE kind = 1`.
//!
//! DataFusion knows that the column has one value, and does not sort by it. An exchange between stages forgets what is
//! known of columns, and the window, which looks for the order when it runs, refuses rows that are in it. So such rows
//! are sorted by all that the window names.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{
    BoundedWindowAggExec, WindowAggExec, get_ordered_partition_by_indices,
};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, InputOrderMode};

/// See the module's words. Stands behind all rules that take sorts away.
#[derive(Debug)]
pub(crate) struct SortedWindows;

impl PhysicalOptimizerRule for SortedWindows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(by) = wanted(node.as_ref())? else {
                return Ok(Transformed::no(node));
            };
            let Some(input) = node.children().first().map(|input| Arc::clone(input)) else {
                return Ok(Transformed::no(node));
            };
            let rows = match input.downcast_ref::<SortExec>() {
                Some(sort) if sort.fetch().is_none() => Arc::clone(sort.input()),
                _ => input,
            };
            let is_apart = rows.output_partitioning().partition_count() > 1;
            let sorted = SortExec::new(by, rows).with_preserve_partitioning(is_apart);
            Ok(Transformed::yes(replace_children_if_necessary(
                node,
                vec![Arc::new(sorted)],
            )?))
        })
        .data()
    }

    fn name(&self) -> &str {
        "SortedWindows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The order that a window finds in rows of which it knows nothing else; none where it finds it anyway.
fn wanted(node: &dyn ExecutionPlan) -> Result<Option<LexOrdering>> {
    let (windows, input, mode): (&[Arc<dyn WindowExpr>], _, _) =
        if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
            let mode = window.input_order_mode.clone();
            (window.window_expr(), window.input(), mode)
        } else if let Some(window) = node.downcast_ref::<WindowAggExec>() {
            (window.window_expr(), window.input(), InputOrderMode::Sorted)
        } else {
            return Ok(None);
        };
    let Some(window) = windows.first() else {
        return Ok(None);
    };
    let keys = window.partition_by();
    let known = input.equivalence_properties();
    let is_constant = |key: &Arc<dyn PhysicalExpr>| known.is_expr_constant(key).is_some();
    if !keys.iter().any(is_constant) {
        return Ok(None);
    }
    let places = match mode {
        InputOrderMode::Linear => return Ok(None),
        InputOrderMode::PartiallySorted(places) => places,
        InputOrderMode::Sorted => {
            let places = get_ordered_partition_by_indices(keys, input)?;
            match places.len() == keys.len() {
                true => places,
                false => (0..keys.len()).collect(),
            }
        }
    };
    let sorted = places.into_iter().filter_map(|place| keys.get(place));
    let sorted = sorted.map(|key| PhysicalSortExpr::new_default(Arc::clone(key)));
    Ok(LexOrdering::new(
        sorted.chain(window.order_by().iter().cloned()),
    ))
}
