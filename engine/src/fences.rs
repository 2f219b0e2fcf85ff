//! Filters that are pushed down a physical plan stop where names do not tell columns apart.
//!
//! DataFusion 55 finds the columns of such a filter by their names in the node below, and takes the first of that name:
//! above a join of two tables with an `id`, what was asked of one `id` is then asked of the other, and rows are lost or
//! let through (apache/datafusion#25259 repairs it in a later version). So while its rules run, what has two columns of
//! one name stands behind a fence that takes no filter, and so does an input that has another column of the name: of a
//! union whose inputs name their columns otherwise, of a semi join whose keys have two names, of an aggregate by an
//! expression that has a column's name, as a cast has. Little is lost: the logical plan, where columns have their tables'
//! names too, has pushed down nearly all filters before; this leaves those that are known as a query runs.

use std::collections::HashSet;
use std::fmt::Formatter;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
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
        let plan = plan.transform_up(|node| {
            let misnamed = misnamed(node.as_ref());
            let inputs = node.children().into_iter().zip(&misnamed);
            let inputs = inputs.map(|(input, misnamed)| match misnamed {
                true => Arc::new(Fence(Arc::clone(input))) as _,
                false => Arc::clone(input),
            });
            let inputs: Vec<Arc<dyn ExecutionPlan>> = inputs.collect();
            let changed = misnamed.contains(&true);
            let node = match changed {
                true => replace_children_if_necessary(node, inputs)?,
                false => node,
            };
            match is_ambiguous(node.as_ref()) {
                true => Ok(Transformed::yes(Arc::new(Fence(node)) as _)),
                false if changed => Ok(Transformed::yes(node)),
                false => Ok(Transformed::no(node)),
            }
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

/// Of each input, whether a name of the node's may be another column's there.
fn misnamed(node: &dyn ExecutionPlan) -> Vec<bool> {
    let names = |plan: &dyn ExecutionPlan| -> Vec<String> {
        let schema = plan.schema();
        let fields = schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    };
    let inputs = node.children();
    if node.is::<UnionExec>() || node.is::<InterleaveExec>() {
        let own = names(node);
        return inputs
            .iter()
            .map(|input| names(input.as_ref()) != own)
            .collect();
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let named = |key: &Arc<dyn PhysicalExpr>| {
            let column = key.downcast_ref::<Column>();
            column.map(|column| column.name().to_owned())
        };
        let other_names = join.on().iter().any(|(a, b)| named(a) != named(b));
        return match join.join_type() {
            JoinType::LeftSemi => vec![false, other_names],
            JoinType::RightSemi => vec![other_names, false],
            _ => vec![false; 2],
        };
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let schema = aggregate.input().schema();
        let mut keys = aggregate.group_expr().expr().iter();
        return vec![keys.any(|(key, name)| {
            let is_column = key.downcast_ref::<Column>();
            schema.column_with_name(name).is_some()
                && is_column.is_none_or(|column| column.name() != name)
        })];
    }
    vec![false; inputs.len()]
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
