//! `EXPLAIN` with the stages that the query would run in.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Explain, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion_distributed::{DistributedExec, display_plan_ascii};
use uuid::Uuid;

use crate::Result;
use crate::launch::physical_plan;
use crate::stages::identified;

/// A physical plan for people: by stages where it has any.
pub(crate) fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    if plan.is::<DistributedExec>() {
        display_plan_ascii(plan.as_ref(), false)
    } else {
        displayable(plan.as_ref()).indent(false).to_string()
    }
}

/// The rows of an `EXPLAIN`: the optimised logical plan, and the physical one.
pub(crate) async fn explain(state: &SessionState, explain: &Explain) -> Result<RecordBatch> {
    let optimised: LogicalPlan = state.optimize(&explain.plan)?;
    // Stages of ours get their numbers here.
    let physical = identified(&physical_plan(state, &explain.plan).await?, Uuid::now_v7())?;
    let kind = if physical.is::<DistributedExec>() {
        "distributed_plan"
    } else {
        "physical_plan"
    };
    let names: ArrayRef = Arc::new(StringArray::from(vec!["logical_plan", kind]));
    let plans: ArrayRef = Arc::new(StringArray::from(vec![
        optimised.display_indent().to_string(),
        text(&physical),
    ]));
    let schema = Arc::clone(explain.schema.inner());
    RecordBatch::try_new(schema, vec![names, plans])
        .map_err(|error| DataFusionError::from(error).into())
}
