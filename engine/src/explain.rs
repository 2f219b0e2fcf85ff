//! `EXPLAIN` with the stages that the query would run in.

use std::fmt;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Explain, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion_distributed::{DistributedExec, display_plan_ascii};
use uuid::Uuid;

use crate::Result;
use crate::launch::physical_plan;
use crate::stages::identified;

/// What a statement that writes would run, one after the other: for `EXPLAIN` alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Steps {
    names: Vec<&'static str>,
    plans: Vec<LogicalPlan>,
}

impl Steps {
    pub(crate) fn plan(steps: Vec<(&'static str, LogicalPlan)>) -> LogicalPlan {
        let (names, plans) = steps.into_iter().unzip();
        let node = Arc::new(Self { names, plans });
        LogicalPlan::Extension(Extension { node })
    }
}

impl UserDefinedLogicalNodeCore for Steps {
    fn name(&self) -> &str {
        "Steps"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.plans.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        static NOTHING: LazyLock<DFSchemaRef> = LazyLock::new(|| Arc::new(DFSchema::empty()));
        &NOTHING
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steps")
    }

    fn with_exprs_and_inputs(
        &self,
        _expressions: Vec<Expr>,
        plans: Vec<LogicalPlan>,
    ) -> std::result::Result<Self, DataFusionError> {
        let names = self.names.clone();
        Ok(Self { names, plans })
    }
}

/// A physical plan for people: by stages where it has any.
pub(crate) fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    if plan.is::<DistributedExec>() {
        display_plan_ascii(plan.as_ref(), false)
    } else {
        displayable(plan.as_ref()).indent(false).to_string()
    }
}

/// The rows of an `EXPLAIN`: the optimised logical plan, and the physical one; both for each step of several.
pub(crate) async fn explain(
    state: &SessionState,
    explain: &Explain,
    has_workers: bool,
) -> Result<RecordBatch> {
    let steps = match explain.plan.as_ref() {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Steps>(),
        _ => None,
    };
    let (mut names, mut plans) = (Vec::new(), Vec::new());
    let one = [explain.plan.as_ref().clone()];
    let (of, steps) = match steps {
        Some(steps) => (steps.names.as_slice(), steps.plans.as_slice()),
        None => (["" as &str].as_slice(), one.as_slice()),
    };
    for (of, plan) in of.iter().zip(steps) {
        let optimised: LogicalPlan = state.optimize(plan)?;
        let physical = physical_plan(state, plan, has_workers).await?;
        // Stages of ours get their numbers here.
        let physical = identified(&physical, Uuid::now_v7())?;
        let kind = if physical.is::<DistributedExec>() {
            "distributed_plan"
        } else {
            "physical_plan"
        };
        for kind in ["logical_plan", kind] {
            names.push(match of.is_empty() {
                true => kind.to_owned(),
                false => format!("{of}: {kind}"),
            });
        }
        plans.push(optimised.display_indent().to_string());
        plans.push(text(&physical));
    }
    let names: ArrayRef = Arc::new(StringArray::from(names));
    let plans: ArrayRef = Arc::new(StringArray::from(plans));
    let schema = Arc::clone(explain.schema.inner());
    RecordBatch::try_new(schema, vec![names, plans])
        .map_err(|error| DataFusionError::from(error).into())
}
