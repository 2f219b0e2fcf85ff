//! A rule that only makes plans cheaper may fail: the plan stays as it is.
//!
//! DataFusion's `eliminate_group_by_constant` (55) takes `CAST(d AS VARCHAR)` out of `GROUP BY CAST(d AS VARCHAR), d`, and
//! cannot put it back above the aggregate: a cast has the name of what it casts. The statement would be refused.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rules, with that one allowed to fail.
pub(crate) fn lenient(rules: Vec<Rule>) -> Vec<Rule> {
    let failing = EliminateGroupByConstant::new();
    let lenient = |rule: Rule| -> Rule {
        match rule.name() == failing.name() {
            true => Arc::new(Lenient(rule)),
            false => rule,
        }
    };
    rules.into_iter().map(lenient).collect()
}

#[derive(Debug)]
struct Lenient(Rule);

impl OptimizerRule for Lenient {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let rewritten = self.0.rewrite(plan.clone(), config);
        Ok(rewritten.unwrap_or_else(|error| {
            tracing::debug!(rule = self.name(), %error, "the plan stays as it is");
            Transformed::no(plan)
        }))
    }
}
