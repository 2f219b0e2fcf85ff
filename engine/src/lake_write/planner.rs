//! From the logical node to the physical one.

use super::exec::LakeWriteExec;
use super::logical::LakeWrite;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use drumline_lake::Stores;
use std::sync::Arc;

/// DataFusion's planner with [`LakeWrite`] nodes; part of every session that starts jobs.
#[derive(Debug, Clone)]
pub(crate) struct LakePlanner {
    stores: Stores,
}

impl LakePlanner {
    /// Writes go to these stores when they run in this process.
    pub(crate) fn new(stores: Stores) -> Self {
        Self { stores }
    }
}

#[async_trait]
impl QueryPlanner for LakePlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(self.clone())]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for LakePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(write), [input]) = (node.as_any().downcast_ref::<LakeWrite>(), inputs) else {
            return Ok(None);
        };
        let (target, stores) = (write.target().clone(), self.stores.clone());
        let exec = LakeWriteExec::try_new(Arc::clone(input), target, stores)?;
        Ok(Some(Arc::new(exec)))
    }
}
