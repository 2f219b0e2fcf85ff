//! What other engines have words for and DataFusion's planner has not, in words that it has.
//!
//! | written | read as |
//! |---|---|
//! | `dateadd(month, 2, d)`, `date_add('month', 2, d)`, `timestampadd(…)` | `d + INTERVAL '2 month'` |
//! | `datediff(day, a, b)`, `date_diff('day', a, b)`, `timestampdiff(…)` | boundaries of days between the two |
//! | `datediff(b, a)` | days between the two, as Spark has it |
//! | `if(c, a, b)`, `iff(c, a, b)` | `CASE WHEN c THEN a ELSE b END` |
//! | `count_if(c)`, `strftime(d, f)`, `localtimestamp` | `count(*) FILTER (WHERE c)`, `to_char(d, f)`, `localtimestamp()` |
//! | `mod(a, b)`, `every(c)`, `year(d)` to `second(d)`, `last_day(d)` | `a % b`, `bool_and(c)`, `date_part('year', d)`, … |
//! | `current_schema()`, `current_database()` | their names |
//! | `a LIKE '10!%' ESCAPE '!'` | `a LIKE '10\%'` |
//! | `FETCH FIRST 5 ROWS ONLY` | `LIMIT 5` |
//! | `12345678901234567.89`: more digits than a double holds | `CAST('12345678901234567.89' AS DECIMAL(19, 2))` |
//! | `a IS DISTINCT FROM b AND c` | `(a IS DISTINCT FROM b) AND c`: see `distinct.rs` |
//! | `a INTERSECT ALL b`, `a EXCEPT ALL b` | see `planner/bags.rs` |

use super::distinct::regroup;
use super::statement::{Body, MergeAction};
use super::tokens::tokenize;
use super::{Error, parse};
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr,
    SetOperator, SetQuantifier, Value, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// What the two sides of `INTERSECT ALL` and `EXCEPT ALL` are called: no name that can be written.
pub(crate) const BAG: [&str; 2] = ["bag\nof rows", "other bag\nof rows"];

/// A statement with every part of it in the planner's words.
pub(super) fn known(body: &mut Body) -> Result<(), Error> {
    match body {
        // What VALUES of an INSERT holds is of one kind: `planner/literals.rs`.
        Body::Insert(insert) if matches!(insert.source.body.as_ref(), SetExpr::Values(_)) => {
            let mut words = Words { decimals: false };
            match insert.source.visit(&mut words) {
                ControlFlow::Break(error) => Err(error),
                ControlFlow::Continue(()) => Ok(()),
            }
        }
        Body::Query(parsed) => part(parsed_of(parsed)),
        Body::Explain { query, .. } => part(parsed_of(query)),
        Body::ExplainWrite(body) => known(body),
        Body::Insert(insert) => part(Some(insert.source.as_mut())),
        Body::Delete(delete) => {
            part(Some(&mut delete.using))?;
            part(delete.condition.as_mut())
        }
        Body::Update(update) => {
            part(Some(&mut update.from))?;
            for set in &mut update.set {
                part(Some(&mut set.value))?;
            }
            part(update.condition.as_mut())
        }
        Body::Merge(merge) => {
            part(Some(&mut merge.source))?;
            part(Some(&mut merge.on))?;
            for clause in &mut merge.clauses {
                part(clause.condition.as_mut())?;
                match &mut clause.action {
                    MergeAction::Update(set) => {
                        for set in set {
                            part(Some(&mut set.value))?;
                        }
                    }
                    MergeAction::Insert { values, .. } => part(Some(values))?,
                    MergeAction::Delete | MergeAction::UpdateAll | MergeAction::InsertAll => {}
                }
            }
            Ok(())
        }
        Body::Copy(copy) => part(parsed_of(&mut copy.source)),
        Body::CreateTable(create) => part(create.source.as_deref_mut()),
        Body::CreateView(create) => part(Some(create.query.as_mut())),
        _ => Ok(()),
    }
}

fn parsed_of(parsed: &mut datafusion::sql::parser::Statement) -> Option<&mut ast::Statement> {
    match parsed {
        datafusion::sql::parser::Statement::Statement(statement) => Some(statement.as_mut()),
        _ => None,
    }
}

fn part(part: Option<&mut impl VisitMut>) -> Result<(), Error> {
    match part.map(|part| part.visit(&mut Words { decimals: true })) {
        Some(ControlFlow::Break(error)) => Err(error),
        _ => Ok(()),
    }
}

struct Words {
    /// Whether numbers of more digits than a double holds are decimals.
    decimals: bool,
}

impl VisitorMut for Words {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(fetch) = &query.fetch
            && !fetch.with_ties
            && !fetch.percent
            && (query.limit_clause.is_none() || is_offset(query.limit_clause.as_ref()))
        {
            let one = || Expr::value(Value::Number("1".to_owned(), false));
            let limit = Some(fetch.quantity.clone().unwrap_or_else(one));
            let offset = match query.limit_clause.take() {
                Some(ast::LimitClause::LimitOffset { offset, .. }) => offset,
                _ => None,
            };
            query.limit_clause = Some(ast::LimitClause::LimitOffset {
                limit,
                offset,
                limit_by: Vec::new(),
            });
            query.fetch = None;
        }
        match bags(&mut query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        regroup(expression);
        let number = match self.decimals {
            true => decimal(expression, DOUBLE_DIGITS + 1),
            false => None,
        };
        let known = match number {
            Some(text) => read(&text).map(Some),
            None => worded(expression),
        };
        match known {
            Ok(Some(known)) => *expression = known,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn is_offset(clause: Option<&ast::LimitClause>) -> bool {
    matches!(clause, Some(ast::LimitClause::LimitOffset { limit: None, limit_by, .. }) if limit_by.is_empty())
}

/// Marks the sides of set operations that keep equal rows.
fn bags(body: &mut SetExpr) -> Result<(), Error> {
    let SetExpr::SetOperation {
        op,
        set_quantifier,
        left,
        right,
    } = body
    else {
        return Ok(());
    };
    bags(left)?;
    bags(right)?;
    let keeps = matches!(
        op,
        SetOperator::Intersect | SetOperator::Except | SetOperator::Minus
    ) && *set_quantifier == SetQuantifier::All;
    if !keeps {
        return Ok(());
    }
    for (side, bag) in [left, right].into_iter().zip(BAG) {
        let all = format!("SELECT * FROM (SELECT 1) AS \"{bag}\"");
        let tokens = tokenize(&all)?;
        let parsed = parse::parser(&tokens).parse_query();
        let mut marked = parsed.map_err(|error| parse::from_parser(error, &tokens))?;
        if let SetExpr::Select(select) = marked.body.as_mut()
            && let Some(from) = select.from.first_mut()
            && let ast::TableFactor::Derived { subquery, .. } = &mut from.relation
        {
            subquery.body = side.clone();
            **side = SetExpr::Query(marked);
        }
    }
    Ok(())
}

/// So many digits come back from a double as they were.
const DOUBLE_DIGITS: usize = 15;

/// A number with a point and so many digits, as a decimal.
pub(super) fn decimal(expression: &Expr, fewest: usize) -> Option<String> {
    let Expr::Value(value) = expression else {
        return None;
    };
    let Value::Number(text, _) = &value.value else {
        return None;
    };
    let (whole, fraction) = text.split_once('.')?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = whole.trim_start_matches('0').len() + fraction.len();
    let counted = (whole.to_owned() + fraction).trim_start_matches('0').len();
    let is_long = counted >= fewest && digits <= 38 && is_digits(whole) && is_digits(fraction);
    is_long.then(|| {
        format!(
            "CAST('{text}' AS DECIMAL({}, {}))",
            digits.max(1),
            fraction.len()
        )
    })
}

fn worded(expression: &Expr) -> Result<Option<Expr>, Error> {
    match expression {
        Expr::Identifier(Ident {
            value,
            quote_style: None,
            ..
        }) if value.eq_ignore_ascii_case("localtimestamp") => read("localtimestamp()").map(Some),
        Expr::Function(function) => called(function),
        Expr::Like {
            negated,
            any,
            expr,
            pattern,
            escape_char: Some(escape),
        } if !any => Ok(escaped(pattern, escape).map(|pattern| Expr::Like {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern,
            escape_char: None,
        })),
        Expr::ILike {
            negated,
            any,
            expr,
            pattern,
            escape_char: Some(escape),
        } if !any => Ok(escaped(pattern, escape).map(|pattern| Expr::ILike {
            negated: *negated,
            any: false,
            expr: expr.clone(),
            pattern,
            escape_char: None,
        })),
        _ => Ok(None),
    }
}

/// A pattern with a backslash where it had an escape of its own.
fn escaped(pattern: &Expr, escape: &ast::ValueWithSpan) -> Option<Box<Expr>> {
    let text = |value: &Value| match value {
        Value::SingleQuotedString(text) => Some(text.clone()),
        _ => None,
    };
    let Expr::Value(value) = pattern else {
        return None;
    };
    let (pattern, escape) = (text(&value.value)?, text(&escape.value)?);
    let mut chars = escape.chars();
    let (Some(escape), None) = (chars.next(), chars.next()) else {
        return None;
    };
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(char) = rest.next() {
        if char == escape {
            out.push('\\');
            out.extend(rest.next());
        } else {
            if char == '\\' {
                out.push('\\');
            }
            out.push(char);
        }
    }
    Some(Box::new(Expr::value(Value::SingleQuotedString(out))))
}

fn called(function: &ast::Function) -> Result<Option<Expr>, Error> {
    let Some(name) = (match function.name.0.as_slice() {
        [part] => part.as_ident().map(|name| name.value.to_lowercase()),
        _ => None,
    }) else {
        return Ok(None);
    };
    let plain = function.over.is_none() && function.filter.is_none();
    let arguments = match &function.args {
        FunctionArguments::List(list)
            if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
        {
            let value = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                _ => None,
            };
            list.args.iter().map(value).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    let Some(arguments) = arguments else {
        return Ok(None);
    };
    let text = match (name.as_str(), arguments.as_slice()) {
        ("dateadd" | "date_add" | "timestampadd", [part, count, time]) => {
            let Some(part) = part_of(part) else {
                return Ok(None);
            };
            added(&part, count, time)
        }
        ("datediff" | "date_diff" | "timestampdiff", [part, from, to]) => {
            match part_of(part).and_then(|part| boundaries(&part, from, to)) {
                Some(text) => text,
                None => return Ok(None),
            }
        }
        ("datediff", [to, from]) => {
            format!("(CAST({to} AS DATE) - CAST({from} AS DATE))")
        }
        ("if" | "iff", [condition, yes, no]) => {
            format!("CASE WHEN {condition} THEN {yes} ELSE {no} END")
        }
        ("count_if" | "countif", [condition]) => {
            format!("count(*) FILTER (WHERE {condition})")
        }
        ("strftime", [time, format]) => format!("to_char({time}, {format})"),
        ("mod", [value, by]) => format!("(({value}) % ({by}))"),
        ("every", [condition]) => format!("bool_and({condition})"),
        ("last_day", [time]) => format!(
            "CAST(date_trunc('month', CAST({time} AS DATE)) + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)"
        ),
        (
            part @ ("year" | "quarter" | "month" | "week" | "day" | "hour" | "minute" | "second"),
            [time],
        ) => format!("date_part('{part}', {time})"),
        ("current_schema", []) => format!("'{}'", drumline_lake::DEFAULT_SCHEMA),
        ("current_database" | "current_catalog", []) => "'lake'".to_owned(),
        ("listagg", [value]) => format!("string_agg({value}, '')"),
        _ => return Ok(None),
    };
    read(&text).map(Some)
}

/// `day`, `'day'` or `days`, as intervals and `date_trunc` call it.
fn part_of(part: &Expr) -> Option<String> {
    let name = match part {
        Expr::Identifier(name) => name.value.to_lowercase(),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.to_lowercase(),
            _ => return None,
        },
        _ => return None,
    };
    let name = name.strip_suffix('s').unwrap_or(&name);
    let known = [
        "year",
        "quarter",
        "month",
        "week",
        "day",
        "hour",
        "minute",
        "second",
        "millisecond",
        "microsecond",
    ];
    known.contains(&name).then(|| name.to_owned())
}

fn added(part: &str, count: &Expr, time: &Expr) -> String {
    let (part, times) = match part {
        "quarter" => ("month", 3),
        other => (other, 1),
    };
    let whole = count.to_string().parse::<i64>();
    match whole.ok().and_then(|whole| whole.checked_mul(times)) {
        Some(whole) => format!("({time} + INTERVAL '{whole} {part}')"),
        None => format!(
            "({time} + CAST(concat(CAST(({count}) * {times} AS VARCHAR), ' {part}') AS INTERVAL))"
        ),
    }
}

/// How many beginnings of years, days and so on lie between two times.
fn boundaries(part: &str, from: &Expr, to: &Expr) -> Option<String> {
    let months =
        |time: &Expr| format!("(date_part('year', {time}) * 12 + date_part('month', {time}))");
    let steps = |seconds: u32, unit: &str| {
        let begin = |time: &Expr| {
            format!("date_part('epoch', date_trunc('{unit}', CAST({time} AS TIMESTAMP)))")
        };
        format!(
            "CAST(({} - {}) / {seconds} AS BIGINT)",
            begin(to),
            begin(from)
        )
    };
    Some(match part {
        "year" => format!("CAST(date_part('year', {to}) - date_part('year', {from}) AS BIGINT)"),
        "quarter" => {
            let quarters = |time: &Expr| {
                format!("(date_part('year', {time}) * 4 + date_part('quarter', {time}))")
            };
            format!("CAST({} - {} AS BIGINT)", quarters(to), quarters(from))
        }
        "month" => format!("CAST({} - {} AS BIGINT)", months(to), months(from)),
        "week" => steps(7 * 24 * 3600, "week"),
        "day" => steps(24 * 3600, "day"),
        "hour" => steps(3600, "hour"),
        "minute" => steps(60, "minute"),
        "second" => steps(1, "second"),
        _ => return None,
    })
}

pub(super) fn read(text: &str) -> Result<Expr, Error> {
    let tokens = tokenize(text)?;
    parse::parser(&tokens)
        .parse_expr()
        .map_err(|error| parse::from_parser(error, &tokens))
}
