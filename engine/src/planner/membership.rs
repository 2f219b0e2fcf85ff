//! `IN (SELECT …)` where nulls are among the values.
//!
//! DataFusion plans an `IN` that is a whole condition by itself, or one of several joined by AND, into joins that
//! know nulls. Anywhere else, behind OR, NOT or inside of CASE, it becomes a mark that is true or false and never
//! null (`decorrelate_predicate_subquery`, "mark joins don't use null-aware semantics"): `a OR b NOT IN (…)`
//! would then hold for rows of which nobody can tell. So those are planned as what SQL means by them.

use crate::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    in_subquery, lit, not, scalar_subquery, when,
};
use std::sync::Arc;

/// The plan with every `IN` meaning what it says.
pub(crate) fn with_nulls(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else {
            return Ok(Transformed::no(node));
        };
        let schema = Arc::clone(filter.input.schema());
        let mut changed = false;
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            let told = match is_whole(&condition) {
                true => Transformed::no(condition),
                false => told(condition, Some(true), &schema)?,
            };
            changed |= told.transformed;
            conditions.push(told.data);
        }
        Ok(match (changed, conjunction(conditions)) {
            (true, Some(predicate)) => {
                let filter = Filter::try_new(predicate, filter.input)?;
                Transformed::yes(LogicalPlan::Filter(filter))
            }
            _ => Transformed::no(LogicalPlan::Filter(filter)),
        })
    })?;
    Ok(plan.data)
}

/// What becomes a join that knows nulls.
fn is_whole(condition: &Expr) -> bool {
    match condition {
        Expr::InSubquery(_) => true,
        Expr::Not(inner) => matches!(inner.as_ref(), Expr::InSubquery(_)),
        _ => false,
    }
}

/// `wanted` is what the rest of the condition asks of an expression: that it be true, or false. Where it asks for
/// just what a mark tells, a mark does; `None` where it may ask for anything.
fn told(
    expression: Expr,
    wanted: Option<bool>,
    schema: &DFSchema,
) -> PlanResult<Transformed<Expr>> {
    match expression {
        Expr::InSubquery(membership) if wanted == Some(!membership.negated) => {
            Ok(Transformed::no(Expr::InSubquery(membership)))
        }
        Expr::InSubquery(membership) => accurate(membership, schema),
        Expr::Not(inner) => {
            let inner = told(*inner, wanted.map(|wanted| !wanted), schema)?;
            Ok(inner.update_data(|inner| Expr::Not(Box::new(inner))))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::And | Operator::Or),
            right,
        }) => {
            let left = told(*left, wanted, schema)?;
            let right = told(*right, wanted, schema)?;
            let transformed = left.transformed || right.transformed;
            let both = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            let both = Expr::BinaryExpr(both);
            Ok(match transformed {
                true => Transformed::yes(both),
                false => Transformed::no(both),
            })
        }
        other => other.map_children(|inner| told(inner, None, schema)),
    }
}

/// True, false or null, as SQL has it.
fn accurate(membership: InSubquery, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let values = Arc::clone(&membership.subquery.subquery);
    let (qualifier, field) = values.schema().qualified_field(0);
    let value = Expr::from((qualifier, field));
    if !field.is_nullable() && !membership.expr.nullable(schema)? {
        return Ok(Transformed::no(Expr::InSubquery(membership)));
    }
    let counted = |plan: LogicalPlan| -> PlanResult<Expr> {
        let none: [Expr; 0] = [];
        let plan = LogicalPlanBuilder::from(plan).aggregate(none, [count(lit(1_i64))])?;
        Ok(scalar_subquery(Arc::new(plan.build()?)))
    };
    let all = counted(values.as_ref().clone())?;
    let nulls = LogicalPlanBuilder::from(values.as_ref().clone()).filter(value.is_null())?;
    let nulls = counted(nulls.build()?)?;
    let unknown = || lit(ScalarValue::Boolean(None));
    let asked = *membership.expr;
    let is_out = when(all.eq(lit(0_i64)), lit(true))
        .when(asked.clone().is_null(), unknown())
        .when(in_subquery(asked, values), lit(false))
        .when(nulls.gt(lit(0_i64)), unknown())
        .otherwise(lit(true))?;
    Ok(Transformed::yes(match membership.negated {
        true => is_out,
        false => not(is_out),
    }))
}
