//! Jobs, their stages and tasks, and their plans.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asked::{self, Name, Nothing, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::facts::{self, History, Job, OperatorMetrics, Stage, Task, TaskMetrics};

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only jobs of this application.
    application: Option<String>,
    /// Only jobs in this state.
    state: Option<facts::State>,
}

/// Jobs, the newest first
///
/// Without their plans and operators, which one job's own route has.
#[utoipa::path(
    get,
    path = "/jobs",
    tag = "jobs",
    params(Which, PageQuery),
    responses((status = 200, description = "Jobs", body = Page<Job>))
)]
pub(super) async fn list_jobs(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<Which>,
) -> Result<Json<Page<Job>>, Problem> {
    let of = asked::text("application", &which.application)?;
    let history = rest.history();
    let wanted = newest_first(&history).into_iter().filter(|job| {
        of.is_none_or(|id| job.application == id)
            && which.state.is_none_or(|state| job.state == state)
    });
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |job| Key::name(place(job)),
        |job| {
            let weight = job.stages.iter().map(|stage| stage.tasks.len()).sum();
            (job_in_list(job), weight)
        },
    )))
}

/// One job, whole
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job))
)]
pub(super) async fn get_job(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<Json<Job>, Problem> {
    let history = rest.history();
    Ok(Json(job(&history, &id)?.clone()))
}

/// The stages of a job, with their tasks
#[utoipa::path(
    get,
    path = "/jobs/{id}/stages",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), PageQuery),
    responses((status = 200, description = "Stages", body = Page<Stage>))
)]
pub(super) async fn list_stages_of_job(
    State(rest): State<Rest>,
    Name(id): Name,
    Paged(paging, _): Paged<Nothing>,
) -> Result<Json<Page<Stage>>, Problem> {
    let history = rest.history();
    Ok(Json(paging.page(
        Order::NewestFirst,
        &job(&history, &id)?.stages,
        |stage| Key::numbers(&stage.job, stage.stage, 0),
        |stage| (stage.clone(), stage.tasks.len()),
    )))
}

/// A job's plan, and what its operators have done so far.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plan {
    /// The distributed plan, for people.
    text: String,
    /// Stage 0 is what runs on the master; it comes first where there is one.
    stages: Vec<PlannedStage>,
}

/// The operators of one stage.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlannedStage {
    /// From 1; 0 is what runs on the master.
    stage: u32,
    /// Parents before children; each summed over the stage's tasks.
    operators: Vec<OperatorMetrics>,
}

/// A job's plan, with the metrics of its operators
#[utoipa::path(
    get,
    path = "/jobs/{id}/plan",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The plan", body = Plan))
)]
pub(super) async fn get_plan(
    State(rest): State<Rest>,
    Name(id): Name,
) -> Result<Json<Plan>, Problem> {
    let history = rest.history();
    let job = job(&history, &id)?;
    let head = PlannedStage {
        stage: 0,
        operators: job.metrics.operators.clone(),
    };
    let of_stage = |stage: &Stage| PlannedStage {
        stage: stage.stage,
        operators: summed(
            stage
                .tasks
                .iter()
                .map(|task| task.metrics.operators.as_slice()),
        ),
    };
    let mut stages: Vec<PlannedStage> = job.stages.iter().map(of_stage).collect();
    if !head.operators.is_empty() {
        stages.insert(0, head);
    }
    Ok(Json(Plan {
        text: job.plan.clone(),
        stages,
    }))
}

/// Which stages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichStages {
    /// Only stages of this job.
    job: Option<String>,
    /// Only stages in this state.
    state: Option<facts::State>,
}

/// Stages, those of the newest job first
///
/// Without operators, which `/jobs/{id}/stages` has.
#[utoipa::path(
    get,
    path = "/stages",
    tag = "jobs",
    params(WhichStages, PageQuery),
    responses((status = 200, description = "Stages", body = Page<Stage>))
)]
pub(super) async fn list_stages(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<WhichStages>,
) -> Result<Json<Page<Stage>>, Problem> {
    let of = asked::text("job", &which.job)?;
    let history = rest.history();
    let wanted = stages(&history, of)
        .filter(|(_, stage)| which.state.is_none_or(|state| stage.state == state));
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |(job, stage)| Key::numbers(place(job), stage.stage, 0),
        |(_, stage)| (stage_in_list(stage), stage.tasks.len()),
    )))
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichTasks {
    /// Only tasks of this job.
    job: Option<String>,
    /// Only tasks on this worker.
    worker: Option<String>,
    /// Only tasks in this state.
    state: Option<facts::State>,
}

/// Tasks, those of the newest job first
///
/// Without operators, which `/jobs/{id}` has.
#[utoipa::path(
    get,
    path = "/tasks",
    tag = "jobs",
    params(WhichTasks, PageQuery),
    responses((status = 200, description = "Tasks", body = Page<Task>))
)]
pub(super) async fn list_tasks(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<WhichTasks>,
) -> Result<Json<Page<Task>>, Problem> {
    let of = asked::text("job", &which.job)?;
    let worker = asked::text("worker", &which.worker)?;
    let history = rest.history();
    let wanted = stages(&history, of)
        .flat_map(|(job, stage)| stage.tasks.iter().map(move |task| (job, task)))
        .filter(|(_, task)| {
            worker.is_none_or(|worker| task.worker == worker)
                && which.state.is_none_or(|state| task.state == state)
        });
    Ok(Json(paging.page(
        Order::NewestFirst,
        wanted,
        |(job, task)| Key::numbers(place(job), task.stage, task.task),
        |(_, task)| (task_in_list(task), 1),
    )))
}

fn job<'a>(history: &'a History, id: &str) -> Result<&'a Job, Problem> {
    let found = history.jobs.get(id).map(|found| &**found);
    found.ok_or_else(|| {
        Problem::unknown("job", id)
            .hint("`drumline jobs` and /api/v1/jobs list those that are known")
    })
}

/// Their ids do not tell which is newer.
fn newest_first(history: &History) -> Vec<&Job> {
    let mut jobs: Vec<&Job> = history.jobs.values().map(|job| &**job).collect();
    jobs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    jobs
}

/// A name that grows with time.
fn place(job: &Job) -> String {
    format!("{:016}-{}", job.started_at, job.id)
}

/// Stages of one job or all, the newest job first.
fn stages<'a>(
    history: &'a History,
    of: Option<&'a str>,
) -> impl Iterator<Item = (&'a Job, &'a Stage)> {
    let jobs = newest_first(history).into_iter();
    jobs.filter(move |job| of.is_none_or(|id| job.id == id))
        .flat_map(|job| job.stages.iter().map(move |stage| (job, stage)))
}

/// Operators of one stage's tasks, which have the same plan, added up.
fn summed<'a>(tasks: impl Iterator<Item = &'a [OperatorMetrics]>) -> Vec<OperatorMetrics> {
    let mut sums: Vec<OperatorMetrics> = vec![];
    for operators in tasks {
        for (index, operator) in operators.iter().enumerate() {
            let is_same =
                |sum: &OperatorMetrics| sum.name == operator.name && sum.depth == operator.depth;
            match sums.get_mut(index).filter(|sum| is_same(sum)) {
                Some(sum) => {
                    sum.rows_out += operator.rows_out;
                    sum.compute_micros += operator.compute_micros;
                    sum.spilled_bytes += operator.spilled_bytes;
                    sum.memory_peak_bytes += operator.memory_peak_bytes;
                }
                None => sums.push(operator.clone()),
            }
        }
    }
    sums
}

fn job_in_list(job: &Job) -> Job {
    Job {
        id: job.id.clone(),
        application: job.application.clone(),
        reason: job.reason.clone(),
        stages: job.stages.iter().map(stage_in_list).collect(),
        metrics: totals(&job.metrics),
        plan: String::new(),
        ..*job
    }
}

fn stage_in_list(stage: &Stage) -> Stage {
    Stage {
        job: stage.job.clone(),
        tasks: stage.tasks.iter().map(task_in_list).collect(),
        ..*stage
    }
}

fn task_in_list(task: &Task) -> Task {
    Task {
        job: task.job.clone(),
        worker: task.worker.clone(),
        metrics: totals(&task.metrics),
        ..*task
    }
}

fn totals(metrics: &TaskMetrics) -> TaskMetrics {
    TaskMetrics {
        operators: vec![],
        ..*metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(name: &str, rows_out: u64) -> OperatorMetrics {
        OperatorMetrics {
            name: name.to_owned(),
            rows_out,
            ..OperatorMetrics::default()
        }
    }

    #[test]
    fn operators_are_added_up_over_tasks_even_where_one_has_not_reported_yet() {
        let first = [operator("Join", 3), operator("Scan", 5)];
        let second = [operator("Join", 4), operator("Scan", 6)];
        let sums = summed([&first[..], &[], &second[..]].into_iter());
        assert_eq!(sums, [operator("Join", 7), operator("Scan", 11)]);
    }
}
