//! Values that are stored in decimals: a number of theirs is one as it is written, not the double next to it.

use super::Error;
use super::spellings::{decimal, read};
use datafusion::sql::sqlparser::ast::{Expr, ObjectNamePart, VisitMut, VisitorMut};
use std::ops::ControlFlow;

/// Functions that yield one of their arguments. All others say themselves what numbers they take.
const KEEPING: &[&str] = &["coalesce", "greatest", "ifnull", "least", "nullif", "nvl"];

/// An expression whose numbers with a point are decimals.
pub(crate) fn exact(expression: &Expr) -> Result<Expr, Error> {
    let mut expression = expression.clone();
    match expression.visit(&mut Numbers { inside: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(expression),
    }
}

struct Numbers {
    /// How many functions there are around that do not keep their arguments.
    inside: usize,
}

fn is_apart(expression: &Expr) -> bool {
    let Expr::Function(function) = expression else {
        return false;
    };
    let name = function.name.0.last().and_then(ObjectNamePart::as_ident);
    !name.is_some_and(|name| {
        let mut keeping = KEEPING.iter();
        keeping.any(|known| known.eq_ignore_ascii_case(&name.value))
    })
}

impl VisitorMut for Numbers {
    type Break = Error;

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        self.inside += usize::from(is_apart(expression));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        self.inside -= usize::from(is_apart(expression));
        if self.inside == 0
            && let Some(text) = decimal(expression, 0)
        {
            match read(&text) {
                Ok(number) => *expression = number,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}
