//! Orders that an operator asks for, and that a rule lost again.
//!
//! DataFusion takes a sort away where rows are in order anyway. Rows of constants are, such as those of
//! `SELECT 6 AS id UNION ALL SELECT 25`: but later rules lose what is known of them, and its last look
//! at the plan refuses a statement that is right. What asks for an order that is not known is given a sort again.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// See the module's words. Stands before the rule that looks at the plan.
#[derive(Debug)]
pub(crate) struct KeptOrders;

impl PhysicalOptimizerRule for KeptOrders {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let mut inputs = Vec::new();
            let mut changed = false;
            for (input, order) in node
                .children()
                .into_iter()
                .zip(node.required_input_ordering())
            {
                let order = order.map(|order| order.into_single());
                let known = input.equivalence_properties();
                let missing = match order {
                    Some(order) if !known.ordering_satisfy_requirement(order.clone())? => {
                        LexOrdering::new(order.into_iter().map(PhysicalSortExpr::from))
                    }
                    _ => None,
                };
                inputs.push(match missing {
                    Some(order) => {
                        changed = true;
                        let is_apart = input.output_partitioning().partition_count() > 1;
                        let sort = SortExec::new(order, Arc::clone(input));
                        Arc::new(sort.with_preserve_partitioning(is_apart))
                    }
                    None => Arc::clone(input),
                });
            }
            match changed {
                true => Ok(Transformed::yes(replace_children_if_necessary(
                    node, inputs,
                )?)),
                false => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "KeptOrders"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
