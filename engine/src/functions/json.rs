//! What reads JSON that is kept as text: `->`, `->>` and the functions `json_…` of datafusion-functions-json.
//!
//! That crate's own `->` gives a union of all kinds of values, which no table can hold. Here it gives JSON's text, as
//! in PostgreSQL and DuckDB, and `->>` the text of what a scalar is.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion::logical_expr::expr::{Alias, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        udfs::json_as_text_udf(),
        udfs::json_contains_udf(),
        udfs::json_get_array_udf(),
        udfs::json_get_bool_udf(),
        udfs::json_get_float_udf(),
        udfs::json_get_int_udf(),
        udfs::json_get_json_udf(),
        udfs::json_get_str_udf(),
        udfs::json_length_udf(),
        udfs::json_object_keys_udf(),
    ]
}

/// The operators.
#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let func = match expr.op {
            BinaryOperator::Arrow => udfs::json_get_json_udf(),
            BinaryOperator::LongArrow => udfs::json_as_text_udf(),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        if let Some(path) = path_of(&expr.right) {
            return plan_err!(
                "`{} '{path}'`: keys are written one by one, as in `value -> 'a' ->> 'b'`; \
                 a key that is so named is read by json_get_str(value, '{path}')",
                expr.op
            );
        }
        let (relation, right) = (relation_of(&expr.left), as_key(expr.right, schema)?);
        let name = format!("{} {} {}", told(&expr.left), expr.op, told(&right));
        let mut args = match unnamed(expr.left) {
            // The text is read once for all steps, which the functions take as one path if all are constants.
            Expr::ScalarFunction(ScalarFunction { func, args })
                if func == udfs::json_get_json_udf()
                    && args.iter().skip(1).chain([&right]).all(is_literal) =>
            {
                args
            }
            other => vec![other],
        };
        args.push(right);
        let read = Expr::ScalarFunction(ScalarFunction { func, args });
        Ok(PlannerResult::Planned(Expr::Alias(Alias::new(
            read, relation, name,
        ))))
    }
}

/// A JSONPath, as other engines take it here.
fn path_of(key: &Expr) -> Option<&str> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = key else {
        return None;
    };
    (text == "$" || text.starts_with("$.") || text.starts_with("$[")).then_some(text)
}

/// Numbers of elements are of one type.
fn as_key(key: Expr, schema: &DFSchema) -> Result<Expr> {
    let is_wide = |kind: &DataType| matches!(kind, DataType::Int64 | DataType::UInt64);
    match key.get_type(schema)? {
        kind if kind.is_integer() && !is_wide(&kind) => Ok(cast(key, DataType::Int64)),
        _ => Ok(key),
    }
}

/// Which of a join's tables a column is of: two may have one name.
fn relation_of(value: &Expr) -> Option<TableReference> {
    match value {
        Expr::Column(column) => column.relation.clone(),
        Expr::Alias(alias) => alias.relation.clone(),
        _ => None,
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn unnamed(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => *alias.expr,
        other => other,
    }
}

/// What the result's column is called by.
fn told(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => format!("'{text}'"),
        Expr::Literal(value, _) => value.to_string(),
        other => other.to_string(),
    }
}
