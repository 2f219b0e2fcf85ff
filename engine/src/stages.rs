//! The stages of a distributed plan, and the worker of each of their tasks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DistributedExec, NetworkBoundaryExt, RouteTasksEvent, RouteTasksEventResponse,
    RouteTasksHandler, Stage,
};
use url::Url;
use uuid::Uuid;

use crate::job::StageInfo;
use crate::route::{RouteFn, StageToRoute};
use crate::{Error, Result, WorkerTarget};

/// The distributed part of a plan: under an `EXPLAIN ANALYZE` it is not the root.
pub(crate) fn distributed_part(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let mut found = None;
    let _ = plan.apply(|node| {
        if node.is::<DistributedExec>() {
            found = Some(Arc::clone(node));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The plan with this id in all of its stages: the library gives them a random one, and ids of jobs sort by time.
/// Stages are numbered anew from the bottom, the order in which the library asks for their routes: some may be
/// ours.
pub(crate) fn identified(
    plan: &Arc<dyn ExecutionPlan>,
    id: Uuid,
) -> Result<Arc<dyn ExecutionPlan>> {
    numbered(plan, id, &mut 0)
}

fn numbered(
    plan: &Arc<dyn ExecutionPlan>,
    id: Uuid,
    stages: &mut usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let children = plan
        .children()
        .into_iter()
        .map(|child| numbered(child, id, stages))
        .collect::<Result<Vec<_>>>()?;
    let plan = match children.is_empty() {
        true => Arc::clone(plan),
        false => replace_children_if_necessary(Arc::clone(plan), children)?,
    };
    let Some(boundary) = plan.as_network_boundary() else {
        return Ok(plan);
    };
    let Stage::Local(stage) = boundary.input_stage() else {
        return Ok(plan);
    };
    let mut stage = stage.clone();
    *stages += 1;
    stage.query_id = id;
    stage.num = *stages;
    Ok(boundary.with_input_stage(Stage::Local(stage))?)
}

/// A plan's stages, each with an exchange above it.
pub(crate) struct Stages {
    /// The id that workers know the plan's tasks by.
    pub(crate) query: Uuid,
    stages: BTreeMap<usize, Planned>,
}

struct Planned {
    tasks: usize,
    partitions: usize,
    /// Numbers of the stages it reads from.
    inputs: Vec<usize>,
}

impl Stages {
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        let mut query = None;
        let mut stages = BTreeMap::new();
        plan.apply(|node| {
            if let Some(boundary) = node.as_network_boundary() {
                let stage = boundary.input_stage();
                query = Some(stage.query_id());
                if let Some(plan) = stage.local_plan() {
                    stages.insert(
                        stage.num(),
                        Planned {
                            tasks: stage.task_count(),
                            partitions: plan.output_partitioning().partition_count(),
                            inputs: inputs_of(plan)?,
                        },
                    );
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let query = query.ok_or_else(|| Error::bug("a distributed plan has no stages"))?;
        Ok(Self { query, stages })
    }

    /// Asks for the worker of each task, producers first.
    pub(crate) fn route(&self, workers: &[WorkerTarget], route: &RouteFn) -> Result<Routed> {
        let mut placed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut infos = Vec::with_capacity(self.stages.len());
        for (number, stage) in &self.stages {
            let inputs: Vec<usize> = stage
                .inputs
                .iter()
                .filter_map(|input| placed.get(input))
                .flatten()
                .copied()
                .collect();
            let chosen = route(&StageToRoute {
                stage: *number as u32,
                tasks: stage.tasks,
                workers,
                inputs: &inputs,
            });
            let targets: Option<Vec<&WorkerTarget>> =
                chosen.iter().map(|index| workers.get(*index)).collect();
            let targets = targets
                .filter(|targets| targets.len() == stage.tasks)
                .ok_or_else(|| {
                    Error::bug(format!(
                        "stage {number} has {} tasks for {} workers, and was routed to {chosen:?}",
                        stage.tasks,
                        workers.len()
                    ))
                })?;
            infos.push((
                StageInfo {
                    stage: *number as u32,
                    tasks: stage.tasks as u32,
                    partitions: stage.partitions as u32,
                    workers: targets.iter().map(|target| target.id.clone()).collect(),
                },
                targets.iter().map(|target| target.url.clone()).collect(),
            ));
            placed.insert(*number, chosen);
        }
        let (infos, urls) = infos.into_iter().unzip();
        Ok(Routed { infos, urls })
    }
}

fn inputs_of(plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<Vec<usize>> {
    let mut inputs = Vec::new();
    plan.apply(|node| {
        let Some(boundary) = node.as_network_boundary() else {
            return Ok(TreeNodeRecursion::Continue);
        };
        inputs.push(boundary.input_stage().num());
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(inputs)
}

/// Stages with the workers of their tasks, in the order of their numbers.
pub(crate) struct Routed {
    pub(crate) infos: Vec<StageInfo>,
    pub(crate) urls: Vec<Vec<Url>>,
}

/// Hands the routes to the library when it asks for them. A session needs it before the plan is known,
/// so the routes come later.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    inner: Arc<RoutesInner>,
}

#[derive(Default)]
struct RoutesInner {
    urls: OnceLock<Vec<Vec<Url>>>,
    next: AtomicUsize,
}

impl Routes {
    pub(crate) fn set(&self, urls: Vec<Vec<Url>>) {
        // Set once per session, of which there is one per job.
        let _ = self.inner.urls.set(urls);
    }

    /// The library numbers stages and asks for their routes in the same, bottom-up, order.
    fn next(&self, tasks: usize) -> DataFusionResult<Vec<Url>> {
        let index = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let urls = self.inner.urls.get().and_then(|stages| stages.get(index));
        match urls {
            Some(urls) if urls.len() == tasks => Ok(urls.clone()),
            _ => Err(DataFusionError::from(Error::bug(format!(
                "no route for stage {} of {tasks} tasks",
                index + 1
            )))),
        }
    }
}

impl RouteTasksHandler for Routes {
    fn handle(
        &self,
        event: RouteTasksEvent<'_>,
    ) -> Option<DataFusionResult<RouteTasksEventResponse>> {
        Some(
            self.next(event.task_count)
                .map(RouteTasksEventResponse::new),
        )
    }
}
