//! The leaf that reads a topic: as many partitions as it has groups of ranges.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
};
use drumline_proto::v1;
use futures::StreamExt;

use super::codec::schema_ipc;
use super::{Reader, Span, ranges};
use crate::{Error, settings};

/// Bytes of a record where nothing is known of it.
const RECORD_BYTES: u64 = 512;

/// Reads ranges of one topic, each group of them by a consumer of its own.
#[derive(Debug)]
pub(crate) struct TopicScanExec {
    source: Arc<v1::TopicSource>,
    /// All columns of the topic.
    schema: SchemaRef,
    /// Places of the wanted ones.
    columns: Vec<usize>,
    groups: Vec<Vec<Span>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TopicScanExec {
    /// # Errors
    /// A wanted column is none of the topic's.
    pub(super) fn try_new(
        source: Arc<v1::TopicSource>,
        schema: SchemaRef,
        columns: Vec<usize>,
        groups: Vec<Vec<Span>>,
    ) -> Result<Self> {
        let projected = Arc::new(schema.project(&columns)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(projected),
            Partitioning::UnknownPartitioning(groups.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Self {
            source,
            schema,
            columns,
            groups,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(super) fn to_scan(&self) -> Result<v1::TopicScan> {
        let groups = self.groups.iter().map(|group| v1::TopicRanges {
            ranges: group.iter().copied().map(Into::into).collect(),
        });
        Ok(v1::TopicScan {
            source: Some(v1::TopicSource::clone(&self.source)),
            schema: schema_ipc(&self.schema)?,
            columns: self.columns.iter().map(|column| *column as u32).collect(),
            groups: groups.collect(),
        })
    }

    fn topic(&self) -> &str {
        let definition = self.source.definition.as_ref();
        definition
            .and_then(|definition| definition.topics.first())
            .map_or("", |topic| topic.topic.as_str())
    }

    fn offsets(&self) -> u64 {
        self.groups.iter().map(|group| ranges::offsets(group)).sum()
    }

    /// The same scan in pieces for this many tasks, each with as many partitions as this one.
    fn for_tasks(&self, tasks: usize) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
        let partitions = self.groups.len().max(1);
        let cut = ranges::cut(&self.spans(), tasks * partitions);
        // Side by side: where there is little to read, each task gets some.
        let of_task = |task: usize| -> Result<Arc<dyn ExecutionPlan>> {
            let groups = cut.iter().skip(task).step_by(tasks).cloned().collect();
            let (source, schema) = (Arc::clone(&self.source), Arc::clone(&self.schema));
            Ok(Arc::new(Self::try_new(
                source,
                schema,
                self.columns.clone(),
                groups,
            )?))
        };
        (0..tasks).map(of_task).collect()
    }

    /// What is read, each partition once.
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.groups.iter().flatten().copied().collect();
        spans.sort_by_key(|span| (span.partition, span.from));
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match joined.last_mut() {
                Some(last) if last.partition == span.partition && last.to == span.from => {
                    last.to = span.to;
                }
                _ => joined.push(span),
            }
        }
        joined
    }
}

impl DisplayAs for TopicScanExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self
            .spans()
            .iter()
            .map(|span| format!("{}:[{}, {})", span.partition, span.from, span.to))
            .collect();
        let schema = self.properties.eq_properties.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(
            f,
            "TopicScanExec: topic={}, consumers={}, offsets={}, ranges=[{}], projection=[{}]",
            self.topic(),
            self.groups.iter().filter(|group| !group.is_empty()).count(),
            self.offsets(),
            ranges.join(", "),
            columns.join(", "),
        )
    }
}

impl ExecutionPlan for TopicScanExec {
    fn name(&self) -> &str {
        "TopicScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a topic's scan has no input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(group) = self.groups.get(partition) else {
            return internal_err!("a topic's scan has no partition {partition}");
        };
        let reader = context.session_config().get_extension::<Reader>();
        let reader = reader.ok_or_else(|| Error::bug("a topic is read where no reader is"))?;
        let mut scan = self.to_scan()?;
        scan.groups = vec![v1::TopicRanges {
            ranges: group.iter().copied().map(Into::into).collect(),
        }];
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = Arc::clone(self.properties.eq_properties.schema());
        let rows = reader.0.read(scan).inspect(move |batch| {
            if let Ok(batch) = batch {
                metrics.record_output(RecordBatch::num_rows(batch));
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let group = args.partition().and_then(|at| self.groups.get(at));
        let offsets = group.map_or_else(|| self.offsets(), |group| ranges::offsets(group));
        let schema = self.properties.eq_properties.schema();
        let mut statistics = Statistics::new_unknown(schema);
        // Aborted and compacted records leave gaps.
        statistics.num_rows = Precision::Inexact(usize::try_from(offsets).unwrap_or(usize::MAX));
        let bytes = offsets.saturating_mul(RECORD_BYTES);
        statistics.total_byte_size =
            Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Arc::new(statistics))
    }
}

/// One task per `drumline.bytes_per_task`, as far as can be told from offsets.
pub(crate) fn desired_tasks(
    event: &DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    let scan = event.plan.downcast_ref::<TopicScanExec>()?;
    let per_task = settings::of(event.session_config.options())
        .bytes_per_task
        .max(1) as u64;
    let bytes = scan.offsets().saturating_mul(RECORD_BYTES);
    let tasks = usize::try_from(bytes.div_ceil(per_task)).unwrap_or(usize::MAX);
    Some(Ok(DesiredTaskCountEventResponse::desired(tasks.max(1))))
}

/// Gives each task its own ranges: without this every task would read all of them.
pub(crate) fn scale_up(
    event: ScaleUpLeafNodeEvent<'_>,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let scan = event.plan.downcast_ref::<TopicScanExec>()?;
    if event.task_count <= 1 {
        return None;
    }
    let leaf = scan
        .for_tasks(event.task_count)
        .and_then(|tasks| DistributedLeafExec::try_new(Arc::clone(event.plan), tasks));
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}
