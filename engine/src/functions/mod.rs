//! Functions that every session has beyond DataFusion's: on the master, on workers and in streams.

mod repair_text;

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub use repair_text::repair_text;

/// Drumline's own functions, for the builders of sessions.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::from(repair_text::RepairText::new()))]
}
