//! What every session's plans mean, where DataFusion by itself would answer otherwise than DuckDB and PostgreSQL do:
//!
//! - [`SqlTypes`]: `TIMESTAMP` is in microseconds, as in tables, and so knows all years from 1 to 9999.
//! - [`Zones`]: a time of a zone that is cast to `TIMESTAMP` is what clocks there show.
//! - [`Literals`]: a text beside a timestamp is read as one of the timestamp's own kind; a decimal that is written out
//!   beside a float, as a float.
//! - [`Decimals`]: a number that is written beside a decimal is a decimal, so that sums and products are exact; what
//!   is divided, with such a number in it, is divided as floats are, so that a quotient keeps its digits.
//! - [`Numbers`]: whole numbers that leave their type are an error; floats that are equal are in one window.
//!
//! The rules run on the master, on the logical plan. Their functions (`functions/`) are in every session.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::functions::datetime::expr_fn::to_local_time;
use datafusion::logical_expr::expr::{Between, Cast, InList, TryCast, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType, TimezoneInfo};

use crate::functions::{checked, plain};

/// DataFusion's rules and ours, in their order.
pub(crate) fn rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(Zones), Arc::new(Literals)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(Numbers));
    rules
}

/// Numbers beside decimals. Planned, not analysed: the type of what is computed is another one.
#[derive(Debug)]
pub(crate) struct Decimals;

impl ExprPlanner for Decimals {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => return quotient(expr, schema),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let is_decimal = |value: &Expr| {
            let kind = value.get_type(schema);
            matches!(
                kind,
                Ok(DataType::Decimal128(..) | DataType::Decimal256(..))
            )
        };
        let number = |value: &Expr, beside: &Expr| match is_decimal(beside) {
            true => decimal(value),
            false => None,
        };
        let (left, right) = (
            number(&expr.left, &expr.right),
            number(&expr.right, &expr.left),
        );
        if left.is_none() && right.is_none() {
            return Ok(PlannerResult::Original(expr));
        }
        let left = Box::new(left.unwrap_or(expr.left));
        let right = Box::new(right.unwrap_or(expr.right));
        let exact = Expr::BinaryExpr(BinaryExpr { left, op, right });
        Ok(PlannerResult::Planned(exact))
    }
}

/// A quotient of decimals has four digits more than the dividend, whatever its size. Where a number that was written
/// out with a point made a decimal of what would be a float, the quotient is one.
fn quotient(mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (
        would_be_float(&expr.left, schema)?,
        would_be_float(&expr.right, schema)?,
    );
    if !left && !right {
        return Ok(PlannerResult::Original(expr));
    }
    if left {
        expr.left = cast(expr.left, DataType::Float64);
    }
    if right {
        expr.right = cast(expr.right, DataType::Float64);
    }
    let (left, right) = (Box::new(expr.left), Box::new(expr.right));
    Ok(PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Divide,
        right,
    })))
}

/// Whether a decimal is a float once the numbers in it are what they were before [`decimal`].
fn would_be_float(value: &Expr, schema: &DFSchema) -> Result<bool> {
    let as_written = value.clone().transform_up(|part| {
        Ok(match part {
            Expr::Literal(ScalarValue::Decimal128(Some(_), ..), metadata) => {
                Transformed::yes(Expr::Literal(ScalarValue::Float64(Some(1.0)), metadata))
            }
            other => Transformed::no(other),
        })
    })?;
    // What has no type of its own is told of where it is planned.
    let kind = as_written.data.get_type(schema);
    Ok(as_written.transformed && matches!(kind, Ok(DataType::Float64)))
}

/// A double that was written with a point, as the decimal that was written.
fn decimal(value: &Expr) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Float64(Some(value)), _) = value else {
        return None;
    };
    if !value.is_finite() {
        return None;
    }
    // The shortest text that is this double: so was it written, if it has no more digits than doubles keep.
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((text.as_str(), ""));
    let digits = whole.trim_start_matches(['-', '0']).len() + fraction.len();
    if digits > f64::DIGITS as usize {
        return None;
    }
    let unscaled = format!("{whole}{fraction}").parse().ok()?;
    let precision = u8::try_from(digits.max(1)).ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    let number = ScalarValue::Decimal128(Some(unscaled), precision, scale);
    Some(Expr::Literal(number, None))
}

/// What SQL's names of types stand for.
#[derive(Debug)]
pub(crate) struct SqlTypes {
    /// The session's time zone.
    pub(crate) zone: Option<String>,
    /// What texts are.
    pub(crate) text: DataType,
}

impl SqlTypes {
    /// Those of a session.
    pub(crate) fn of(options: &ConfigOptions) -> Self {
        Self {
            zone: options.execution.time_zone.clone(),
            text: match options.sql_parser.map_string_types_to_utf8view {
                true => DataType::Utf8View,
                false => DataType::Utf8,
            },
        }
    }
}

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, kind: &SqlType) -> Result<Option<FieldRef>> {
        let zone = match kind {
            SqlType::Timestamp(None | Some(6), TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
                self.zone.as_deref().map(Into::into)
            }
            SqlType::Timestamp(None | Some(6), _) => None,
            SqlType::Datetime(None | Some(6)) => None,
            SqlType::CharacterVarying(_) | SqlType::CharVarying(_) | SqlType::Nvarchar(_) => {
                return Ok(Some(Arc::new(Field::new("", self.text.clone(), true))));
            }
            SqlType::HugeInt => {
                return Ok(Some(Arc::new(Field::new(
                    "",
                    DataType::Decimal128(38, 0),
                    true,
                ))));
            }
            _ => return Ok(None),
        };
        let kind = DataType::Timestamp(TimeUnit::Microsecond, zone);
        Ok(Some(Arc::new(Field::new("", kind, true))))
    }
}

/// Every expression of a plan, subqueries' too, by a function that knows what columns there are.
fn rewritten(
    plan: LogicalPlan,
    mut of: impl FnMut(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let schema = match &node {
            LogicalPlan::TableScan(scan) => {
                let source = scan.source.schema();
                DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source)?
            }
            node => merge_schema(&node.inputs()),
        };
        let names = NamePreserver::new(&node);
        // What is put in has the type and the name of what was there: the node's schema stays.
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let expression = expression.transform_up(|expression| of(expression, &schema))?;
            Ok(expression.update_data(|expression| name.restore(expression)))
        })
    })?;
    Ok(plan.data)
}

/// Casts that take a zone away. Before types are coerced: these casts are those that were written.
#[derive(Debug)]
struct Zones;

impl AnalyzerRule for Zones {
    fn name(&self) -> &str {
        "times_as_clocks_show_them"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let takes_zone = |value: &Expr, wanted: &FieldRef, schema: &DFSchema| {
            matches!(wanted.data_type(), DataType::Timestamp(_, None)) && is_shown(value, schema)
        };
        let local = |value: Box<Expr>| Box::new(to_local_time(vec![*value]));
        rewritten(plan, |expression, schema| {
            Ok(match expression {
                Expr::Cast(Cast { expr, field }) if takes_zone(&expr, &field, schema) => {
                    let expr = local(expr);
                    Transformed::yes(Expr::Cast(Cast { expr, field }))
                }
                Expr::TryCast(TryCast { expr, field }) if takes_zone(&expr, &field, schema) => {
                    let expr = local(expr);
                    Transformed::yes(Expr::TryCast(TryCast { expr, field }))
                }
                other => Transformed::no(other),
            })
        })
    }
}

/// Whether a value is an instant that a zone's clocks show. What had no zone was their time, and became an instant.
fn is_shown(value: &Expr, schema: &DFSchema) -> bool {
    let has_zone = |value: &Expr| match value.get_type(schema) {
        Ok(DataType::Timestamp(_, zone)) => zone,
        _ => None,
    };
    let is_local = has_zone(value).is_some_and(|zone| !matches!(&*zone, "UTC" | "Z" | "+00:00"));
    let was_instant = |value: Expr| match value.unalias_nested().data {
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            has_zone(&expr).is_some()
        }
        _ => true,
    };
    is_local && was_instant(value.clone())
}

/// Texts beside timestamps, numbers beside floats.
#[derive(Debug)]
struct Literals;

impl AnalyzerRule for Literals {
    fn name(&self) -> &str {
        "literals_as_compared"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewritten(plan, |expression, schema| {
            let kind = |expression: &Expr| expression.get_type(schema).ok();
            Ok(match expression {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                    let (is_left, is_right) = (kind(&left), kind(&right));
                    let (left, left_changed) = compared(left, is_left.as_ref(), is_right.as_ref());
                    let (right, right_changed) =
                        compared(right, is_right.as_ref(), is_left.as_ref());
                    let compared = Expr::BinaryExpr(BinaryExpr { left, op, right });
                    match left_changed || right_changed {
                        true => Transformed::yes(compared),
                        false => Transformed::no(compared),
                    }
                }
                Expr::Between(Between {
                    expr,
                    negated,
                    low,
                    high,
                }) => {
                    let wanted = kind(&expr);
                    let (is_low, is_high) = (kind(&low), kind(&high));
                    let (low, low_changed) = compared(low, is_low.as_ref(), wanted.as_ref());
                    let (high, high_changed) = compared(high, is_high.as_ref(), wanted.as_ref());
                    let between = Expr::Between(Between::new(expr, negated, low, high));
                    match low_changed || high_changed {
                        true => Transformed::yes(between),
                        false => Transformed::no(between),
                    }
                }
                Expr::InList(InList {
                    expr,
                    list,
                    negated,
                }) => {
                    let wanted = kind(&expr);
                    let mut changed = false;
                    let list = list.into_iter().map(|one| {
                        let is = kind(&one);
                        let (one, is_changed) =
                            compared(Box::new(one), is.as_ref(), wanted.as_ref());
                        changed |= is_changed;
                        *one
                    });
                    let list = list.collect();
                    let among = Expr::InList(InList::new(expr, list, negated));
                    match changed {
                        true => Transformed::yes(among),
                        false => Transformed::no(among),
                    }
                }
                Expr::Cast(Cast { expr, field })
                    if matches!(field.data_type(), DataType::Timestamp(..)) =>
                {
                    let whole = literal(&expr).and_then(with_seconds);
                    match whole {
                        Some(text) => Transformed::yes(Expr::Cast(Cast {
                            expr: Box::new(lit(text)),
                            field,
                        })),
                        None => Transformed::no(Expr::Cast(Cast { expr, field })),
                    }
                }
                other => Transformed::no(other),
            })
        })
    }
}

fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn is_text(kind: Option<&DataType>) -> bool {
    matches!(
        kind,
        Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
    )
}

/// A text beside a timestamp as one of its kind, and a number as what it is compared with; whether it is one.
fn compared(
    value: Box<Expr>,
    kind: Option<&DataType>,
    beside: Option<&DataType>,
) -> (Box<Expr>, bool) {
    match beside {
        // A float may be NaN, which no decimal is: a number that was written out is compared as a float.
        Some(wanted @ (DataType::Float32 | DataType::Float64))
            if matches!(kind, Some(DataType::Decimal128(..))) && is_constant(&value) =>
        {
            (Box::new(cast(*value, wanted.clone())), true)
        }
        Some(wanted @ DataType::Timestamp(..)) if is_text(kind) => {
            let value = match literal(&value).and_then(with_seconds) {
                Some(text) => lit(text),
                None => *value,
            };
            (Box::new(cast(value, wanted.clone())), true)
        }
        _ => (value, false),
    }
}

fn is_constant(value: &Expr) -> bool {
    match value {
        Expr::Literal(..) => true,
        Expr::Negative(inner) => is_constant(inner),
        Expr::Cast(cast) => is_constant(&cast.expr),
        _ => false,
    }
}

fn literal(value: &Expr) -> Option<&str> {
    match value {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// `2020-01-01 10:30` with its seconds, which the kernel asks for; `None` for all other texts.
fn with_seconds(text: &str) -> Option<String> {
    let (_, time) = text.trim().split_once([' ', 'T'])?;
    let is_minutes = match time.as_bytes() {
        [a, b, b':', c, d] => [a, b, c, d].into_iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_minutes.then(|| format!("{}:00", text.trim()))
}

/// Whole numbers and floats.
#[derive(Debug)]
struct Numbers;

impl AnalyzerRule for Numbers {
    fn name(&self) -> &str {
        "checked_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewritten(plan, |expression, schema| {
            Ok(match expression {
                Expr::BinaryExpr(BinaryExpr { left, op, right })
                    if is_whole(&left, schema) && is_whole(&right, schema) =>
                {
                    match checked(left.as_ref().clone(), op, right.as_ref().clone()) {
                        Some(checked) => Transformed::yes(checked),
                        None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                    }
                }
                Expr::Negative(value) if is_whole(&value, schema) => {
                    let zero = ScalarValue::new_zero(&value.get_type(schema)?)?;
                    let zero = Expr::Literal(zero, None);
                    match checked(zero, Operator::Minus, value.as_ref().clone()) {
                        Some(checked) => Transformed::yes(checked),
                        None => Transformed::no(Expr::Negative(value)),
                    }
                }
                Expr::WindowFunction(window) => over(window, schema),
                other => Transformed::no(other),
            })
        })
    }
}

fn is_whole(value: &Expr, schema: &DFSchema) -> bool {
    matches!(
        value.get_type(schema),
        Ok(DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
    )
}

/// A window whose rows are put together, and ordered, by what is equal.
fn over(mut window: Box<WindowFunction>, schema: &DFSchema) -> Transformed<Expr> {
    let is_float = |value: &Expr| {
        matches!(
            value.get_type(schema),
            Ok(DataType::Float32 | DataType::Float64)
        )
    };
    let mut changed = false;
    let mut put = |value: &mut Expr| {
        if is_float(value) {
            let own = std::mem::replace(value, Expr::Literal(ScalarValue::Null, None));
            *value = plain(own);
            changed = true;
        }
    };
    window.params.partition_by.iter_mut().for_each(&mut put);
    for sort in &mut window.params.order_by {
        put(&mut sort.expr);
    }
    let window = Expr::WindowFunction(window);
    match changed {
        true => Transformed::yes(window),
        false => Transformed::no(window),
    }
}
