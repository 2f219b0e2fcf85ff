//! The check between operators: a plan node that is its inner node in everything but the streams it gives.

use std::any::Any;
use std::fmt::Formatter;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, InvariantLevel, replace_children_if_necessary,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
    ReplaceChildrenOptions,
};
use datafusion_distributed::NetworkBoundaryExt;
use futures::{Stream, StreamExt};

use super::Interrupt;
use super::filter::with_checked_filter;
use crate::fault::{self, Place};

/// The plan with checks in it, down to its exchanges. To be called last: what rewrites plans by their shape
/// needs it no more. The plan's shape stays: a checked node has the children of its inner one.
pub(crate) fn interruptible(
    plan: &Arc<dyn ExecutionPlan>,
    interrupt: &Interrupt,
) -> Result<Arc<dyn ExecutionPlan>> {
    // What is below an exchange runs elsewhere.
    if plan.is_network_boundary() {
        return Ok(Arc::clone(plan));
    }
    let children = plan
        .children()
        .into_iter()
        .map(|child| interruptible(child, interrupt))
        .collect::<Result<Vec<_>>>()?;
    let plan = match children.is_empty() {
        true => Arc::clone(plan),
        false => replace_children_if_necessary(Arc::clone(plan), children)?,
    };
    Ok(Arc::new(Interruptible {
        inner: with_checked_filter(plan, interrupt)?,
        interrupt: interrupt.clone(),
    }))
}

#[derive(Debug)]
struct Interruptible {
    inner: Arc<dyn ExecutionPlan>,
    interrupt: Interrupt,
}

impl Interruptible {
    fn around(&self, inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self {
            inner,
            interrupt: self.interrupt.clone(),
        })
    }
}

impl DisplayAs for Interruptible {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt_as(kind, f)
    }
}

impl ExecutionPlan for Interruptible {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn check_invariants(&self, check: InvariantLevel) -> Result<()> {
        self.inner.check_invariants(check)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.inner.input_distribution_requirements()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.inner.required_input_ordering()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.inner.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.inner.benefits_from_input_partitioning()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let inner = Arc::clone(&self.inner).replace_children(children, options)?;
        Ok(self.around(inner))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let inner = replace_children_if_necessary(Arc::clone(&self.inner), children)?;
        Ok(self.around(inner))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let inner = Arc::clone(&self.inner).reset_state()?;
        Ok(self.around(inner))
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        let inner = self.inner.with_new_state(state)?;
        Some(self.around(inner))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(Checked {
            rows: Some(self.inner.execute(partition, context)?),
            schema: self.inner.schema(),
            interrupt: self.interrupt.clone(),
            is_source: self.inner.children().is_empty(),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        arguments: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.inner.statistics_from_inputs(inputs, arguments)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.inner.child_stats_requests(partition)
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.inner.cardinality_effect()
    }
}

/// The inner node's rows, until the interrupt. Each batch uses up some of the task's budget, so that a
/// consumer that reads many in a row lets others onto its thread.
struct Checked {
    rows: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    interrupt: Interrupt,
    is_source: bool,
}

impl Stream for Checked {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Err(error) = this.interrupt.check() {
            // Dropping the rows stops what was spawned for them.
            let was_running = this.rows.take().is_some();
            return Poll::Ready(was_running.then_some(Err(error)));
        }
        let Some(rows) = &mut this.rows else {
            return Poll::Ready(None);
        };
        let budget = ready!(tokio::task::coop::poll_proceed(context));
        let next = rows.poll_next_unpin(context);
        if next.is_ready() {
            budget.made_progress();
            this.interrupt.step();
            if this.is_source {
                fault::at(Place::Scan);
            }
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows
            .as_ref()
            .map_or((0, Some(0)), |rows| rows.size_hint())
    }
}

impl RecordBatchStream for Checked {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
