//! The physical node: N partitions in, N out, files in between.

use super::action::{ACTION, Counts};
use super::rows::{SCHEMA, to_rows};
use datafusion::arrow::compute::SortOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{
    EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties,
};
use drumline_lake::{StagedFile, Stores, WriteTarget, Writer};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Stages its input's rows as files of a target; yields one row per file, and none for an empty partition.
#[derive(Debug)]
pub(crate) struct LakeWriteExec {
    input: Arc<dyn ExecutionPlan>,
    target: WriteTarget,
    stores: Stores,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    sort_by: Vec<PhysicalSortExpr>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LakeWriteExec {
    /// A write of `input` to `target`.
    ///
    /// # Errors
    /// A partition column of the target is not in the input.
    pub(crate) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        target: WriteTarget,
        stores: Stores,
    ) -> Result<Self> {
        let partition_by = target
            .partition_columns
            .iter()
            .filter(|name| input.schema().column_with_name(name).is_some())
            .map(|name| col(name, &input.schema()))
            .collect::<Result<Vec<_>>>()?;
        let sort_by = target
            .sort_by
            .iter()
            .filter(|by| input.schema().column_with_name(&by.column).is_some())
            .map(|by| {
                let options = SortOptions {
                    descending: by.descending,
                    nulls_first: false,
                };
                let column = col(&by.column, &input.schema())?;
                Ok(PhysicalSortExpr::new(column, options))
            })
            .collect::<Result<Vec<_>>>()?;
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&SCHEMA)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self {
            input,
            target,
            stores,
            partition_by,
            sort_by,
            properties,
            metrics,
        })
    }

    pub(super) fn target(&self) -> &WriteTarget {
        &self.target
    }
}

impl DisplayAs for LakeWriteExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeWriteExec: table={}", self.target.table)?;
        if !self.target.partition_columns.is_empty() {
            write!(
                f,
                ", partition_by=[{}]",
                self.target.partition_columns.join(", ")
            )?;
        }
        Ok(())
    }
}

impl ExecutionPlan for LakeWriteExec {
    fn name(&self) -> &str {
        "LakeWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Rows of one partition value meet in one task: one file for it instead of one per task.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        match self.partition_by.is_empty() {
            true if self.target.one_writer => vec![Distribution::SinglePartition],
            true => vec![Distribution::UnspecifiedDistribution],
            false => vec![Distribution::KeyPartitioned(self.partition_by.clone())],
        }
    }

    /// Rows of a file come in the order that the table's property asks for.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let wanted = self
            .sort_by
            .iter()
            .map(|by| PhysicalSortRequirement::new(Arc::clone(&by.expr), Some(by.options)));
        vec![LexRequirement::new(wanted).map(OrderingRequirements::new)]
    }

    /// Spreading few rows over many partitions would only make many small files.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        let sorted = self.sort_by.iter().map(|by| &by.expr);
        for expression in self.partition_by.iter().chain(sorted) {
            recursion = recursion.visit_sibling(|| f(expression))?;
        }
        Ok(recursion)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::try_new(
                input,
                self.target.clone(),
                self.stores.clone(),
            )?)),
            Err(children) => internal_err!("a write has one input, not {}", children.len()),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let memory =
            MemoryConsumer::new(format!("LakeWrite[{partition}]")).register(context.memory_pool());
        let rows_written = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let bytes_written = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let mut open = Open {
            writer: Some(Writer::new(&self.stores, &self.target)?),
        };
        let acts = self.input.schema().column_with_name(ACTION).is_some();
        let mut counts = Counts::default();
        let staged = async move {
            let written = async {
                let mut input = input;
                while let Some(batch) = input.next().await {
                    let batch = match acts {
                        true => counts.take(&batch?)?,
                        false => batch?,
                    };
                    open.get()?.write(&batch).await?;
                    let held = open.get()?.buffered_bytes();
                    if memory.try_resize(in_memory(held)).is_err() {
                        // Smaller files are better than none.
                        open.get()?.shrink(held / 2).await?;
                        memory.try_resize(in_memory(open.get()?.buffered_bytes()))?;
                    }
                    rows_written.add(batch.num_rows());
                }
                Ok(())
            };
            if let Err(error) = written.await {
                open.abort().await;
                return Err(error);
            }
            let files = open.finish().await?;
            crate::fault::at(crate::fault::Place::Staging);
            let bytes: u64 = files.iter().map(|file| file.size).sum();
            bytes_written.add(usize::try_from(bytes).unwrap_or(usize::MAX));
            to_rows(&files, acts.then_some(counts))
        };
        let schema = Arc::clone(&SCHEMA);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream::once(staged),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What rows take of a process: allocators, and what is read and encoded on the way, add as much again where a thousand
/// small files are open (`cargo xtask bench write`).
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes.saturating_mul(2)).unwrap_or(usize::MAX)
}

/// A writer that gives up its files when it is dropped before its end.
struct Open {
    writer: Option<Writer>,
}

impl Open {
    fn get(&mut self) -> Result<&mut Writer> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            None => internal_err!("the writer is closed"),
        }
    }

    async fn finish(&mut self) -> Result<Vec<StagedFile>> {
        match self.writer.take() {
            Some(writer) => Ok(writer.finish().await?),
            None => internal_err!("the writer is closed"),
        }
    }

    async fn abort(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abort().await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A cancelled task is dropped, and aborting an upload is a call. Best effort: where no runtime is
        // left, what was staged stays an orphan, which upkeep removes.
        if let (Some(writer), Ok(runtime)) =
            (self.writer.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(writer.abort());
        }
    }
}
