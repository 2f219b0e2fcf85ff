//! Functions that every session has beyond DataFusion's: on the master, on workers and in streams.
//!
//! Those whose names begin with `drumline_` are planned by us alone, into statements that write.

mod aggregates;
mod checked;
mod folds;
mod json;
mod keeps;
mod moment;
mod order;
mod plain;
mod repair_text;
mod single;
mod store_as;

use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF};
use std::sync::Arc;

pub(crate) use checked::checked;
pub(crate) use json::JsonOperators;
pub(crate) use keeps::keeps;
pub(crate) use order::{Curve, MOST_COLUMNS, place, range, with_curve};
pub(crate) use plain::{plain, plain_value};
pub use repair_text::repair_text;
pub(crate) use single::single;
pub(crate) use store_as::store_as;

/// Drumline's own functions, for the builders of sessions.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let own = [
        ScalarUDF::from(repair_text::RepairText::new()),
        ScalarUDF::from(store_as::StoreAs::new()),
        ScalarUDF::from(keeps::Keeps::new()),
        ScalarUDF::from(order::Place::new()),
        ScalarUDF::from(order::Range::new()),
        ScalarUDF::from(single::Single::new()),
        ScalarUDF::from(plain::Plain::new()),
    ];
    let own = own.into_iter().chain(checked::all());
    let own = own.chain(moment::all(None)).map(Arc::new);
    own.chain(json::all()).collect()
}

/// Those of DataFusion's aggregates that ours stand for.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    aggregates::all()
}

/// `now()` and its like, all of them at one moment.
pub(crate) fn at(moment: DateTime<Utc>) -> Vec<ScalarUDF> {
    moment::all(Some(moment))
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
