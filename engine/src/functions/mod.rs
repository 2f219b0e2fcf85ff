//! Functions that every session has beyond DataFusion's: on the master, on workers and in streams.
//!
//! Those whose names begin with `drumline_` are planned by us alone, into statements that write.

mod keeps;
mod order;
mod repair_text;
mod single;
mod store_as;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};
use std::sync::Arc;

pub(crate) use keeps::keeps;
pub(crate) use order::{Curve, MOST_COLUMNS, place, range, with_curve};
pub use repair_text::repair_text;
pub(crate) use single::single;
pub(crate) use store_as::store_as;

/// Drumline's own functions, for the builders of sessions.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(repair_text::RepairText::new())),
        Arc::new(ScalarUDF::from(store_as::StoreAs::new())),
        Arc::new(ScalarUDF::from(keeps::Keeps::new())),
        Arc::new(ScalarUDF::from(order::Place::new())),
        Arc::new(ScalarUDF::from(order::Range::new())),
        Arc::new(ScalarUDF::from(single::Single::new())),
    ]
}

/// A name that was planned as a literal.
fn text_of(value: &ColumnarValue) -> String {
    let value = match value {
        ColumnarValue::Scalar(value) => Some(value.clone()),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, 0).ok(),
    };
    let text = value.and_then(|value| value.try_as_str().flatten().map(str::to_owned));
    text.unwrap_or_default()
}
