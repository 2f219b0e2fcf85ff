//! Where `IS [NOT] DISTINCT FROM` ends: at the next `AND` or `OR`, as in the standard.
//!
//! sqlparser takes everything behind `FROM` for one operand (`Parser::parse_infix`, 0.62): `a IS DISTINCT FROM b AND c`
//! becomes `a IS DISTINCT FROM (b AND c)`, and what stands before it is bound to all of that. Parentheses that are written
//! are nodes of their own, so an `AND` or `OR` below an operator that binds closer was none of the writer's. What is
//! below is put right before what is above it.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

/// Regroups this expression; those in it are regrouped already.
pub(super) fn regroup(expression: &mut Expr) {
    use BinaryOperator::{And, Or};
    // The operand that took too much, and what can be in it only by that.
    let (operand, beyond): (&mut Box<Expr>, &[BinaryOperator]) = match expression {
        Expr::IsDistinctFrom(_, operand) | Expr::IsNotDistinctFrom(_, operand) => {
            (operand, &[And, Or])
        }
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => (expr, &[And, Or]),
        Expr::BinaryOp { op: And, right, .. } => (right, &[And, Or]),
        Expr::BinaryOp { op: Or, right, .. } => (right, &[Or]),
        _ => return,
    };
    if !is_one_of(operand, beyond) {
        return;
    }
    let mut whole = take(operand);
    // The first thing in it is the operand; the rest stands beside what it was the operand of.
    let mut first = &mut whole;
    while is_one_of(first, beyond)
        && let Expr::BinaryOp { left, .. } = first
    {
        first = left;
    }
    **operand = take(first);
    *first = take(expression);
    *expression = whole;
}

fn is_one_of(expression: &Expr, operators: &[BinaryOperator]) -> bool {
    matches!(expression, Expr::BinaryOp { op, .. } if operators.contains(op))
}

fn take(expression: &mut Expr) -> Expr {
    std::mem::replace(expression, Expr::value(Value::Null))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{VisitMut as _, VisitorMut};
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use std::ops::ControlFlow;

    use super::*;

    struct All;

    impl VisitorMut for All {
        type Break = ();

        fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
            regroup(expression);
            ControlFlow::Continue(())
        }
    }

    /// With parentheses around every operation.
    fn shown(expression: &Expr) -> String {
        match expression {
            Expr::BinaryOp { left, op, right } => {
                format!("({} {op} {})", shown(left), shown(right))
            }
            Expr::IsDistinctFrom(left, right) => format!("({} <> {})", shown(left), shown(right)),
            Expr::IsNotDistinctFrom(left, right) => {
                format!("({} == {})", shown(left), shown(right))
            }
            Expr::UnaryOp { expr, .. } => format!("(NOT {})", shown(expr)),
            Expr::Nested(inner) => format!("[{}]", shown(inner)),
            other => other.to_string(),
        }
    }

    fn regrouped(text: &str) -> String {
        let text = text.replace("<>", "IS DISTINCT FROM");
        let text = text.replace("==", "IS NOT DISTINCT FROM");
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(&text).unwrap();
        let mut expression = parser.parse_expr().unwrap();
        let _ = expression.visit(&mut All);
        shown(&expression)
    }

    #[test]
    fn it_ends_at_and_and_or() {
        for (written, meant) in [
            ("a <> b", "(a <> b)"),
            ("a <> b AND c", "((a <> b) AND c)"),
            ("a == b OR c <> d", "((a == b) OR (c <> d))"),
            ("a <> b AND c OR d", "(((a <> b) AND c) OR d)"),
            ("a <> b OR c AND d", "((a <> b) OR (c AND d))"),
            ("x AND a <> b OR c", "((x AND (a <> b)) OR c)"),
            ("x AND a <> b AND c OR d", "(((x AND (a <> b)) AND c) OR d)"),
            ("x OR a <> b AND c", "(x OR ((a <> b) AND c))"),
            ("x OR a <> b OR c", "((x OR (a <> b)) OR c)"),
            ("NOT a <> b AND c", "((NOT (a <> b)) AND c)"),
            ("x AND NOT a <> b OR c", "((x AND (NOT (a <> b))) OR c)"),
            (
                "a <> b OR c <> d OR e <> f AND g",
                "(((a <> b) OR (c <> d)) OR ((e <> f) AND g))",
            ),
        ] {
            assert_eq!(regrouped(written), meant, "{written}");
        }
    }

    #[test]
    fn what_is_in_parentheses_stays_together() {
        for (written, meant) in [
            ("a <> (b AND c)", "(a <> [(b AND c)])"),
            ("x AND (a OR b)", "(x AND [(a OR b)])"),
            ("NOT (a OR b)", "(NOT [(a OR b)])"),
            ("(a <> b OR c) AND d", "([((a <> b) OR c)] AND d)"),
        ] {
            assert_eq!(regrouped(written), meant, "{written}");
        }
    }
}
