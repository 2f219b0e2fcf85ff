//! `INTERSECT ALL` and `EXCEPT ALL`, which count equal rows.
//!
//! DataFusion plans them as joins on the rows, which ask whether a row is there and not how often. With each row
//! numbered among its equals on both sides, and the number compared too, the n-th of them stays (or goes) where
//! the other side has at least n.

use super::changes::column_named;
use crate::sql::BAG;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder,
};
use std::sync::Arc;

/// Such an operation as it is meant; all other nodes as they are.
pub(super) fn counted(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let join = match node {
        LogicalPlan::Join(join) if is_counted(&join) => join,
        other => return Ok(Transformed::no(other)),
    };
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
    let (left_number, right_number) = ("_drumline_left_copy", "_drumline_right_copy");
    let kept: Vec<Expr> = join.left.schema().iter().map(Expr::from).collect();
    let left = numbered(join.left, left_keys, left_number)?;
    let right = numbered(join.right, right_keys, right_number)?;
    let mut on = join.on;
    on.push((column_named(left_number), column_named(right_number)));
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Join(join))
        .project(kept)?
        .build()?;
    Ok(Transformed::yes(plan))
}

fn is_counted(join: &Join) -> bool {
    let LogicalPlan::Projection(left) = join.left.as_ref() else {
        return false;
    };
    let LogicalPlan::SubqueryAlias(bag) = left.input.as_ref() else {
        return false;
    };
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && bag.alias.table() == BAG[0]
}

fn numbered(rows: Arc<LogicalPlan>, keys: Vec<Expr>, name: &str) -> Result<LogicalPlan> {
    let number = row_number().partition_by(keys).build()?.alias(name);
    LogicalPlanBuilder::from(rows).window([number])?.build()
}
