//! Filters that are pushed down a physical plan stop where two columns have one name.
//!
//! DataFusion 55 finds the columns of such a filter by their names in the node below, and takes the first of that name:
//! above a join of two tables with an `id`, what was asked of one `id` is then asked of the other, and rows are lost or
//! let through (apache/datafusion#25259 repairs it behind our version). So while its rules run, nodes with two columns
//! of one name stand behind a fence that takes no filter. Little is lost: the logical plan, where columns have their
//! tables' names too, has pushed down nearly all filters before; this leaves those that are known as a query runs.

use std::collections::HashSet;
use std::fmt::Formatter;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// DataFusion's rules, with those that push filters down kept from where names do not tell.
pub(crate) fn fenced(rules: Vec<Rule>) -> Vec<Rule> {
    let pushes = [
        FilterPushdown::new(),
        FilterPushdown::new_post_optimization(),
    ];
    let fenced = |rule: Rule| -> Rule {
        match pushes.iter().any(|push| push.name() == rule.name()) {
            true => Arc::new(Fenced(rule)),
            false => rule,
        }
    };
    rules.into_iter().map(fenced).collect()
}

#[derive(Debug)]
struct Fenced(Rule);

impl PhysicalOptimizerRule for Fenced {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| match is_ambiguous(node.as_ref()) {
            true => Ok(Transformed::yes(Arc::new(Fence(node)) as _)),
            false => Ok(Transformed::no(node)),
        });
        let plan = self.0.optimize(plan.data()?, config)?;
        let plan = plan.transform_up(|node| match node.downcast_ref::<Fence>() {
            Some(fence) => Ok(Transformed::yes(Arc::clone(&fence.0))),
            None => Ok(Transformed::no(node)),
        });
        plan.data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether two of its columns have one name.
fn is_ambiguous(node: &dyn ExecutionPlan) -> bool {
    let schema = node.schema();
    let mut names = HashSet::new();
    let mut fields = schema.fields().iter();
    fields.any(|field| !names.insert(field.name()))
}

/// Gives what its input gives; no filter passes, as no node lets one through that does not say so.
#[derive(Debug)]
struct Fence(Arc<dyn ExecutionPlan>);

impl DisplayAs for Fence {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fence")
    }
}

impl ExecutionPlan for Fence {
    fn name(&self) -> &'static str {
        "Fence"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self(input))),
            Err(_) => internal_err!("a fence has one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        replace_children_if_necessary(self, children)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.0.execute(partition, context)
    }
}
