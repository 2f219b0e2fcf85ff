//! One attempt's job: waits for its turn, starts it, tells what its tasks do.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use drumline_engine::job::{JobWatch, StageInfo, TaskFacts, TaskId};
use drumline_engine::{Job, Query, WorkerTarget};
use drumline_proto::v1::application_event::Event as Told;
use drumline_proto::v1::{self, JobFinished, JobPlanned, StagePlanned, TaskChanged, TaskState};
use futures::Stream;
use tokio::sync::watch;

use super::Services;
use super::events::EventLog;
use super::machine::AttemptId;
use crate::admitter::Place;
use crate::routing::JobPlacement;

/// How long a job waits for the first worker to join.
const WORKER_WITHIN: Duration = Duration::from_secs(30);

/// How long the reports of tasks that have ended may be on their way.
const FACTS_WITHIN: Duration = Duration::from_secs(2);

/// A job that runs. Its rows hold its place and its tasks' load; both are given back with them.
pub(super) struct RunningJob {
    pub(super) rows: JobRows,
    pub(super) schema: SchemaRef,
    /// The workers that its tasks run on; none where it runs in place.
    pub(super) workers: BTreeSet<String>,
    pub(super) told: JobTold,
}

/// The rows of a job. Dropping them cancels it.
pub(super) struct JobRows {
    rows: SendableRecordBatchStream,
    started: Instant,
    elapsed: Arc<OnceLock<Duration>>,
    _place: Place,
    _placement: JobPlacement,
}

/// Tells the job's facts to the application's log. When dropped before [`JobTold::finished`], the tasks
/// that still ran are told as failed.
pub(super) struct JobTold {
    job_id: String,
    log: EventLog,
    watch: JobWatch,
    running: BTreeMap<TaskId, String>,
    seen: BTreeSet<TaskId>,
    elapsed: Arc<OnceLock<Duration>>,
}

/// Waits for the job's turn and starts it.
pub(super) async fn start(
    services: &Services,
    log: &EventLog,
    id: AttemptId,
    query: &Query,
    avoid: &BTreeSet<String>,
) -> Result<RunningJob, drumline_engine::Error> {
    let mut place = services
        .admitter
        .request(wished_cores(query), avoid.clone());
    if let Some(before) = place.position() {
        tracing::info!(ordinal = id.ordinal, before, "job waits for its turn");
    }
    let granted = tokio::select! {
        granted = place.granted() => granted,
        () = no_worker(services.workers.clone()) => BTreeSet::new(),
    };
    // Without any worker it runs here, if it can.
    let alive = services.workers.borrow().clone();
    let workers: Vec<WorkerTarget> = alive
        .iter()
        .filter(|worker| granted.contains(&worker.id))
        .cloned()
        .collect();
    let (placement, route) = services.placements.of_job();
    let started = Instant::now();
    let Job {
        id: job_id,
        stages,
        schema,
        stream,
        watch,
    } = services.engine.start(query, workers, route).await?;
    let job_id = job_id.to_string();
    log.append(
        SystemTime::now(),
        Told::JobPlanned(planned(id, &job_id, &stages)),
    );
    let elapsed = Arc::new(OnceLock::new());
    Ok(RunningJob {
        rows: JobRows {
            rows: stream,
            started,
            elapsed: Arc::clone(&elapsed),
            _place: place,
            _placement: placement,
        },
        schema,
        workers: stages.into_iter().flat_map(|stage| stage.workers).collect(),
        told: JobTold {
            job_id,
            log: log.clone(),
            watch,
            running: BTreeMap::new(),
            seen: BTreeSet::new(),
            elapsed,
        },
    })
}

/// The engine has checked the setting's value.
fn wished_cores(query: &Query) -> Option<u32> {
    let cores = query.settings.get("drumline.cores")?.parse().ok()?;
    (cores > 0).then_some(cores)
}

/// Resolves once there has been no worker for a while.
async fn no_worker(mut workers: watch::Receiver<Arc<[WorkerTarget]>>) {
    loop {
        let has_some = workers.wait_for(|workers| !workers.is_empty());
        if tokio::time::timeout(WORKER_WITHIN, has_some).await.is_err() {
            return;
        }
        // An error means that the master is stopping, and this with it.
        if workers
            .wait_for(|workers| workers.is_empty())
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

fn planned(id: AttemptId, job_id: &str, stages: &[StageInfo]) -> JobPlanned {
    let stage = |stage: &StageInfo| StagePlanned {
        stage: stage.stage,
        tasks: stage.tasks,
        partitions: stage.partitions,
        workers: stage.workers.clone(),
    };
    JobPlanned {
        ordinal: id.ordinal,
        attempt: id.attempt,
        job_id: job_id.to_owned(),
        stages: stages.iter().map(stage).collect(),
    }
}

impl Stream for JobRows {
    type Item = datafusion::error::Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.rows.as_mut().poll_next(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            let elapsed = self.started.elapsed();
            self.elapsed.get_or_init(|| elapsed);
        }
        next
    }
}

impl JobTold {
    /// Tells tasks as they begin and end; for as long as it is polled.
    pub(super) async fn follow(&mut self) {
        let mut tasks = self.watch.tasks();
        loop {
            self.tell_tasks(&mut tasks);
            if tasks.changed().await.is_err() {
                // Nothing more will be reported.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The job's stream has ended with success: tells the last of its tasks, and what they did.
    pub(super) async fn finished(mut self) {
        let facts = self.watch.facts(FACTS_WITHIN).await;
        self.tell_tasks(&mut self.watch.tasks());
        for (task, worker) in std::mem::take(&mut self.running) {
            // Its rows are all here, so it has done its part, though its report is not in.
            self.tell_task(task, TaskState::Finished, &worker);
        }
        let elapsed = self.elapsed.get().copied().unwrap_or_default();
        self.tell(Told::JobFinished(JobFinished {
            job_id: self.job_id.clone(),
            tasks: facts.iter().map(task_facts).collect(),
            elapsed_micros: micros(elapsed),
        }));
    }

    fn tell_tasks(
        &mut self,
        tasks: &mut watch::Receiver<BTreeMap<TaskId, drumline_engine::job::TaskStatus>>,
    ) {
        let tasks = tasks.borrow_and_update().clone();
        for (id, task) in tasks {
            if self.seen.insert(id) {
                self.tell_task(id, TaskState::Running, &task.worker);
                self.running.insert(id, task.worker.clone());
            }
            if task.finished && self.running.remove(&id).is_some() {
                self.tell_task(id, TaskState::Finished, &task.worker);
            }
        }
    }

    fn tell_task(&self, (stage, task): TaskId, state: TaskState, worker: &str) {
        self.tell(Told::TaskChanged(TaskChanged {
            job_id: self.job_id.clone(),
            stage,
            task,
            state: state.into(),
            worker: worker.to_owned(),
        }));
    }

    fn tell(&self, event: Told) {
        self.log.append(SystemTime::now(), event);
    }
}

impl Drop for JobTold {
    fn drop(&mut self) {
        for (task, worker) in std::mem::take(&mut self.running) {
            self.tell_task(task, TaskState::Failed, &worker);
        }
    }
}

fn task_facts(facts: &TaskFacts) -> v1::TaskFacts {
    v1::TaskFacts {
        stage: facts.stage,
        task: facts.task,
        worker: facts.worker.clone(),
        rows_exchanged: facts.rows_exchanged,
        bytes_exchanged: facts.bytes_exchanged,
        elapsed_micros: micros(facts.elapsed),
        rows_read: facts.rows_read,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
