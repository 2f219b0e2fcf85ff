//! Plans that exchange nothing, as one task of a worker.
//!
//! The planner leaves such a plan where it was planned, in the master: right for what is small. What reads much
//! belongs on a worker, with a worker's memory, though there is nobody to share it with: where there is one worker
//! alone, or one file that cannot be cut.

use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion_distributed::{DistributedExec, NetworkCoalesceExec};

use crate::Result;
use crate::scan;
use crate::stages::distributed_part;

/// The plan as one task, if it exchanges nothing and reads more than one task is for. Not under an `EXPLAIN ANALYZE`,
/// which could not tell what another process counts.
pub(crate) fn large_on_a_worker(
    plan: Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let is_done = plan.is::<AnalyzeExec>() || distributed_part(&plan).is_some();
    match is_done || !scan::is_large(&plan, config) || !can_travel(&plan) {
        true => Ok(plan),
        false => in_one_task(plan),
    }
}

/// A plan without exchanges as one stage of one task.
pub(crate) fn in_one_task(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // Who shows stages looks for exchanges below a plan's root.
    let stage = Arc::new(CoalescePartitionsExec::new(remote(one_partition(plan))?));
    Ok(Arc::new(
        DistributedExec::new(stage).with_metrics_collection(true),
    ))
}

/// An exchange between the plan, run by one task, and what reads it.
pub(crate) fn remote(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(NetworkCoalesceExec::try_new(plan, 1, 1)?))
}

fn one_partition(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match plan.output_partitioning().partition_count() {
        1 => plan,
        _ => Arc::new(CoalescePartitionsExec::new(plan)),
    }
}

/// Whether all that a plan reads can be read in another process: what the master alone knows cannot.
fn can_travel(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut can = true;
    // The search does not fail.
    let _ = plan.apply(|node| {
        can &= !node.children().is_empty()
            || node.is::<DataSourceExec>()
            || node.is::<EmptyExec>()
            || node.is::<PlaceholderRowExec>()
            || node.is::<LazyMemoryExec>();
        Ok(match can {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    can
}
