//! How many tasks run a part of a plan.
//!
//! The library asks for every node of a plan, takes the most that is desired in a stage, and the least that is
//! bearable. A stage whose operators mean to see all rows in their one partition bears one task: several would each
//! give an answer of their own. So what several tasks are to read is cut into several partitions first, before
//! DataFusion plans anything above it: one large file, too. Each task then gets as many partitions as every other.

use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfig, ParquetSource,
};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec, NetworkBoundaryExt,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
};

use crate::settings;

/// For scans one task per `drumline.bytes_per_task`. The planner caps it at the number of workers.
///
/// Only Parquet files can be cut at any byte; and a scan whose partitions mean something (all rows of a key
/// in one of them) must keep them together. The library's own rule would cut both, and rows would be lost
/// or read twice.
pub(crate) fn desired_tasks(
    event: DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    let one = || Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
    // Nothing above one partition puts partitions together: a limit may be the scan's own, an aggregate final at once.
    let is_leaf = event.plan.children().is_empty();
    if is_leaf && event.plan.output_partitioning().partition_count() <= 1 {
        return one();
    }
    if sees_all_rows(event.plan.as_ref()) {
        return one();
    }
    if let Some(tasks) = crate::topics::desired_tasks(&event) {
        return Some(tasks);
    }
    let source = event.plan.downcast_ref::<DataSourceExec>()?;
    let scan = source.data_source().downcast_ref::<FileScanConfig>()?;
    if scan.output_partitioning.is_some() || !scan.file_source().is::<ParquetSource>() {
        return one();
    }
    let tasks = tasks_for(bytes(scan), event.session_config.options());
    Some(Ok(DesiredTaskCountEventResponse::desired(tasks)))
}

/// Gives each task its own part of the files of a scan. Few bytes make fewer parts than are asked for, and ordered
/// files may not be cut at all: what a task has less than others it gets as partitions without files. The library's
/// own rule refuses such a plan.
pub(crate) fn scale_up(
    event: ScaleUpLeafNodeEvent<'_>,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let source = event.plan.downcast_ref::<DataSourceExec>()?;
    let scan = source.data_source().downcast_ref::<FileScanConfig>()?;
    if event.task_count <= 1 || scan.output_partitioning.is_some() {
        return None;
    }
    let parts = FileGroupPartitioner::new()
        .with_target_partitions(scan.file_groups.len() * event.task_count)
        .with_repartition_file_min_size(0)
        .with_preserve_order_within_groups(!scan.output_ordering.is_empty())
        .repartition_file_groups(&scan.file_groups)
        .unwrap_or_else(|| scan.file_groups.clone());
    let scans = share(parts, event.task_count).into_iter().map(|groups| {
        let mut scan = scan.clone();
        scan.file_groups = groups;
        DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>
    });
    let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), scans);
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// Parts for each task, as many for each, those of one file together: of a file that is cut, often one part alone
/// holds its rows, and dealt out by turns one task could get all of those.
fn share(parts: Vec<FileGroup>, tasks: usize) -> Vec<Vec<FileGroup>> {
    let each = parts.len().div_ceil(tasks).max(1);
    let (all, mut parts) = (parts.len(), parts.into_iter());
    let share = |task: usize| {
        let own = all / tasks + usize::from(task < all % tasks);
        let mut share: Vec<FileGroup> = parts.by_ref().take(own).collect();
        share.resize_with(each, FileGroup::default);
        share
    };
    (0..tasks).map(share).collect()
}

/// The plan with the scans above its exchanges as `prepare` makes them: those this process reads itself. Below, plans
/// travel as they were planned, and whoever runs them prepares them. A scan beside an exchange is wrapped for tasks, of
/// which this process is the only one.
pub(crate) fn read_here(
    plan: Arc<dyn ExecutionPlan>,
    prepare: &impl Fn(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is_network_boundary() {
        return Ok(plan);
    }
    if let Some(leaf) = plan.downcast_ref::<DistributedLeafExec>() {
        return prepare(Arc::clone(leaf.original()));
    }
    if plan.children().is_empty() {
        return prepare(plan);
    }
    let children = plan.children().into_iter();
    let children = children.map(|child| read_here(Arc::clone(child), prepare));
    let children = children.collect::<Result<_>>()?;
    replace_children_if_necessary(plan, children)
}

fn bytes(scan: &FileScanConfig) -> u64 {
    let files = scan.file_groups.iter().flat_map(|group| group.iter());
    files.map(|file| file.effective_size()).sum()
}

/// Whether a plan's files are more than one task is for, whatever they are.
pub(crate) fn is_large(plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> bool {
    let mut all = 0;
    // The search does not fail.
    let _ = plan.apply(|node| {
        let source = node.downcast_ref::<DataSourceExec>();
        let scan = source.and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
        all += scan.map_or(0, bytes);
        Ok(TreeNodeRecursion::Continue)
    });
    tasks_for(all, config) > 1
}

fn tasks_for(bytes: u64, config: &ConfigOptions) -> usize {
    let per_task = settings::of(config).bytes_per_task.max(1) as u64;
    usize::try_from(bytes.div_ceil(per_task))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Cuts a scan of one partition that is large enough for several tasks.
#[derive(Debug)]
pub(crate) struct CutScans;

impl PhysicalOptimizerRule for CutScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(exec) = node.downcast_ref::<DataSourceExec>() else {
                return Ok(Transformed::no(node));
            };
            let Some(scan) = exec.data_source().downcast_ref::<FileScanConfig>() else {
                return Ok(Transformed::no(node));
            };
            let is_large = scan.file_groups.len() == 1 && tasks_for(bytes(scan), config) > 1;
            if !is_large || !scan.file_source().is::<ParquetSource>() {
                return Ok(Transformed::no(node));
            }
            let mut any_size = config.clone();
            any_size.optimizer.repartition_file_min_size = 0;
            let partitions = config.execution.target_partitions;
            match node.repartitioned(partitions, &any_size)? {
                Some(cut) => Ok(Transformed::yes(cut)),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "CutScans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether an operator was planned over one partition, because it needs all rows, or all of a key, in one place.
fn sees_all_rows(plan: &dyn ExecutionPlan) -> bool {
    let children = plan.children();
    let needs = plan.input_distribution_requirements().into_per_child();
    let mut inputs = children.iter().zip(needs).enumerate();
    inputs.any(|(at, (child, needs))| {
        let is_one = child.output_partitioning().partition_count() <= 1;
        let is_needed = match needs {
            Distribution::SinglePartition => !is_sent_to_all(plan, at),
            Distribution::UnspecifiedDistribution => false,
            _ => true,
        };
        is_one && is_needed
    })
}

/// Whether an input is one that every task gets whole: the library sends such, or runs the join in one task.
fn is_sent_to_all(plan: &dyn ExecutionPlan, input: usize) -> bool {
    let hash = plan.downcast_ref::<HashJoinExec>();
    let is_join = hash.is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft)
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<CrossJoinExec>();
    input == 0 && is_join
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::Partitioning;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
    use datafusion::physical_plan::repartition::RepartitionExec;

    use super::*;

    fn rows(partitions: usize) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let rows = Arc::new(EmptyExec::new(Arc::clone(&schema)));
        let by = Partitioning::Hash(vec![col("a", &schema).unwrap()], partitions);
        Arc::new(RepartitionExec::try_new(rows, by).unwrap())
    }

    #[test]
    fn an_operator_over_one_partition_that_needs_all_rows_sees_all_rows() {
        assert!(sees_all_rows(&GlobalLimitExec::new(rows(1), 0, Some(1))));
        assert!(!sees_all_rows(&GlobalLimitExec::new(rows(2), 0, Some(1))));
        assert!(!sees_all_rows(&LocalLimitExec::new(rows(1), 1)));
    }

    #[test]
    fn every_task_gets_as_many_partitions_and_each_file_is_with_one() {
        use datafusion::datasource::listing::PartitionedFile;

        for (files, tasks, each) in [(0, 3, 1), (2, 4, 1), (5, 4, 2), (8, 4, 2), (50, 4, 13)] {
            let file = |number: u64| FileGroup::new(vec![PartitionedFile::new("f", number)]);
            let shares = share((0..files).map(file).collect(), tasks);
            assert_eq!(shares.len(), tasks);
            assert!(shares.iter().all(|share| share.len() == each), "{shares:?}");
            let idle = |share: &&Vec<FileGroup>| share.iter().all(|group| group.is_empty());
            let idle = shares.iter().filter(idle).count();
            assert_eq!(idle, tasks.saturating_sub(files as usize), "{shares:?}");
            let all = shares.iter().flatten().flat_map(|group| group.iter());
            // Neighbours stay together.
            let sizes: Vec<u64> = all.map(|file| file.object_meta.size).collect();
            assert_eq!(sizes, (0..files).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_build_side_that_every_task_gets_needs_no_task_of_its_own() {
        let cross = CrossJoinExec::new(rows(1), rows(2));
        assert!(!sees_all_rows(&cross));
    }
}
