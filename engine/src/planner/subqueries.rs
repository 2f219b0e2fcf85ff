//! Subqueries that mean what SQL says of them, where DataFusion plans them as something else.
//!
//! - One that stands for a value becomes a join, which multiplies rows where it yields several: see [`single`].
//! - `EXISTS` over an aggregate without `GROUP BY` always holds: there is one row even of nothing. As a join with
//!   the rows below the aggregate it would not.
//! - `NOT IN` over a subquery that names columns of the query around it becomes an anti join that knows no nulls.
//! - `INTERSECT ALL` and `EXCEPT ALL`: `planner/bags.rs`.
//! - `IN` beside other conditions: `planner/membership.rs`.

use super::membership::with_nulls;
use crate::functions::single;
use crate::{Result, sql};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::functions_aggregate::expr_fn::{count, first_value};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, lit, not_exists,
};
use std::sync::Arc;

/// The plan with every subquery as it is meant.
pub(crate) fn as_meant(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|node| {
        let node = super::bags::counted(node)?;
        let node = node.transform_data(correlated)?;
        node.transform_data(|node| {
            let is_filter = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
            node.map_expressions(|expression| {
                expression.transform_up(|expression| match expression {
                    Expr::Exists(exists) => {
                        let exists = of_aggregate(exists)?;
                        match exists.data {
                            Expr::Exists(_) if !is_filter => Err(among_values("EXISTS")),
                            _ => Ok(exists),
                        }
                    }
                    Expr::InSubquery(_) if !is_filter => Err(among_values("IN (SELECT …)")),
                    Expr::ScalarSubquery(subquery) => one_value(subquery),
                    other => Ok(Transformed::no(other)),
                })
            })
        })
    })?;
    with_nulls(plan.data)
}

/// A value, or an error if there are several. Where it names columns around it, DataFusion itself refuses what could
/// yield several.
fn one_value(subquery: Subquery) -> PlanResult<Transformed<Expr>> {
    let is_single = matches!(subquery.subquery.max_rows(), Some(0 | 1));
    if is_single || !subquery.outer_ref_columns.is_empty() {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let rows = Arc::unwrap_or_clone(subquery.subquery);
    let (qualifier, field) = rows.schema().qualified_field(0);
    let (name, value) = (field.name().clone(), Expr::from((qualifier, field)));
    let none: [Expr; 0] = [];
    let value = first_value(value, Vec::new()).alias(&name);
    let counted = "_drumline_rows";
    let value = LogicalPlanBuilder::from(rows)
        .aggregate(none, [value, count(lit(1_i64)).alias(counted)])?
        .filter(single(super::changes::column_named(counted)))?
        .project([super::changes::column_named(&name)])?
        .build()?;
    Ok(Transformed::yes(Expr::ScalarSubquery(Subquery {
        subquery: Arc::new(value),
        ..subquery
    })))
}

fn of_aggregate(exists: Exists) -> PlanResult<Transformed<Expr>> {
    let mut plan = exists.subquery.subquery.as_ref();
    let mut is_filtered = false;
    loop {
        plan = match plan {
            LogicalPlan::Projection(node) => &node.input,
            LogicalPlan::SubqueryAlias(node) => &node.input,
            LogicalPlan::Sort(node) if node.fetch.is_none() => &node.input,
            LogicalPlan::Filter(node) => {
                is_filtered = true;
                &node.input
            }
            LogicalPlan::Aggregate(node) if node.group_expr.is_empty() => break,
            _ => return Ok(Transformed::no(Expr::Exists(exists))),
        };
    }
    if !is_filtered {
        return Ok(Transformed::yes(lit(!exists.negated)));
    }
    match exists.subquery.outer_ref_columns.is_empty() {
        true => Ok(Transformed::no(Expr::Exists(exists))),
        false => Err(refused(
            "EXISTS over an aggregate with HAVING that names columns of the query around it is not supported yet",
            "compare the aggregate itself, as in (SELECT count(*) …) > 1",
        )),
    }
}

/// A filter whose `NOT IN` looks for rows that it is equal to, or may be: there must be none.
fn correlated(node: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = node else {
        return Ok(Transformed::no(node));
    };
    let schema = Arc::clone(filter.input.schema());
    let mut changed = false;
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        let membership = match condition {
            Expr::InSubquery(membership) if membership.negated => membership,
            Expr::Not(inner) if is_in(&inner) => match *inner {
                Expr::InSubquery(membership) => membership,
                other => {
                    conditions.push(Expr::Not(Box::new(other)));
                    continue;
                }
            },
            other => {
                conditions.push(other);
                continue;
            }
        };
        let values = &membership.subquery.subquery;
        let (_, field) = values.schema().qualified_field(0);
        let may_be_null = field.is_nullable() || membership.expr.nullable(&schema)?;
        if membership.subquery.outer_ref_columns.is_empty() || !may_be_null {
            conditions.push(Expr::InSubquery(InSubquery {
                negated: true,
                ..membership
            }));
            continue;
        }
        changed = true;
        conditions.push(none_like(membership, &schema)?);
    }
    Ok(match (changed, conjunction(conditions)) {
        (true, Some(predicate)) => {
            let filter = Filter::try_new(predicate, filter.input)?;
            Transformed::yes(LogicalPlan::Filter(filter))
        }
        _ => Transformed::no(LogicalPlan::Filter(filter)),
    })
}

fn is_in(expression: &Expr) -> bool {
    matches!(expression, Expr::InSubquery(membership) if !membership.negated)
}

fn none_like(membership: InSubquery, schema: &DFSchema) -> PlanResult<Expr> {
    let asked = membership
        .expr
        .transform_up(|expression| match expression {
            Expr::Column(column) => {
                let (_, field) = schema.qualified_field_from_column(&column)?;
                let outer = Expr::OuterReferenceColumn(Arc::clone(field), column);
                Ok(Transformed::yes(outer))
            }
            other => Ok(Transformed::no(other)),
        })?;
    let asked = asked.data;
    let values = Arc::unwrap_or_clone(membership.subquery.subquery);
    let (qualifier, field) = values.schema().qualified_field(0);
    let value = Expr::from((qualifier, field));
    let may_be = value
        .clone()
        .eq(asked.clone())
        .or(value.is_null())
        .or(asked.is_null());
    let like = LogicalPlanBuilder::from(values).filter(may_be)?.build()?;
    Ok(not_exists(Arc::new(like)))
}

fn among_values(what: &str) -> datafusion::common::DataFusionError {
    refused(
        &format!("{what} is supported in WHERE and HAVING only, not among values yet"),
        "count the rows, as in (SELECT count(*) FROM s WHERE s.x = t.a) > 0, or join",
    )
}

fn refused(reason: &str, hint: &str) -> datafusion::common::DataFusionError {
    crate::Error::from(sql::Error::Invalid {
        reason: reason.to_owned(),
        position: None,
        hint: Some(hint.to_owned()),
    })
    .into()
}
