//! Puts scans of topics on workers, where the planner would have run them in place.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion_distributed::{DistributedExec, DistributedLeafExec, NetworkBoundaryExt};

use super::exec::TopicScanExec;
use crate::Result;
use crate::one_task::{in_one_task, remote};

/// Whether the plan reads a topic, which no master can.
pub(crate) fn needs_workers(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    // The search does not fail.
    let _ = plan.apply(|node| {
        found = is_topic(node);
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    });
    found
}

/// The plan with all its topics read by workers. One that exchanges nothing becomes one stage of one task; of
/// one that does, what is read above its last exchange becomes a stage of its own. Stages need to be numbered
/// afterwards.
pub(crate) fn on_workers(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if !reads_above_exchanges(&plan) {
        return Ok(plan);
    }
    let children: Vec<_> = plan.children().into_iter().cloned().collect();
    let children: Result<Vec<_>> = if plan.is::<DistributedExec>() {
        children.into_iter().map(leaves_on_workers).collect()
    } else if plan.is::<AnalyzeExec>() || has_exchange(&plan) {
        children.into_iter().map(on_workers).collect()
    } else {
        return in_one_task(plan);
    };
    Ok(replace_children_if_necessary(plan, children?)?)
}

fn leaves_on_workers(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if is_topic(&plan) {
        return remote(plan);
    }
    if plan.is_network_boundary() || plan.children().is_empty() {
        return Ok(plan);
    }
    let children = plan
        .children()
        .into_iter()
        .map(|child| leaves_on_workers(Arc::clone(child)))
        .collect::<Result<_>>()?;
    Ok(replace_children_if_necessary(plan, children)?)
}

fn is_topic(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<DistributedLeafExec>() {
        Some(leaf) => leaf.original().is::<TopicScanExec>(),
        None => plan.is::<TopicScanExec>(),
    }
}

fn reads_above_exchanges(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is_network_boundary() {
        return false;
    }
    is_topic(plan) || plan.children().into_iter().any(reads_above_exchanges)
}

fn has_exchange(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is_network_boundary() || plan.children().into_iter().any(has_exchange)
}
