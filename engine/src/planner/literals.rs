//! Numbers that a statement writes out with more digits than a double holds.
//!
//! They are read as doubles elsewhere: beside a decimal, DataFusion compares doubles as decimals, and NaN is none.

use crate::sql::Body;
use datafusion::sql::sqlparser::ast::{SetExpr, Value, ValueWithSpan, Visit, Visitor};
use std::ops::ControlFlow;

/// The setting that makes decimals of them.
pub(super) const AS_DECIMAL: &str = "datafusion.sql_parser.parse_float_as_decimal";

/// So many digits come back from a double as they were.
const DOUBLE_DIGITS: usize = 15;

/// Whether `INSERT … VALUES` holds a number that is to be stored as it is written.
pub(super) fn has_long_decimals(body: &Body) -> bool {
    let Body::Insert(insert) = body else {
        return false;
    };
    let SetExpr::Values(values) = insert.source.body.as_ref() else {
        return false;
    };
    let mut found = Found::default();
    let _ = values.visit(&mut found);
    found.is_long && !found.has_exponent
}

#[derive(Default)]
struct Found {
    is_long: bool,
    has_exponent: bool,
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Number(number, _) = &value.value {
            let digits = number.trim_start_matches(['0', '.']);
            let digits = digits.chars().filter(char::is_ascii_digit).count();
            self.is_long |= number.contains('.') && digits > DOUBLE_DIGITS;
            self.has_exponent |= number.contains(['e', 'E']);
        }
        ControlFlow::Continue(())
    }
}
