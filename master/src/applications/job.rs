//! One attempt's job: waits for its turn, starts it, tells what its tasks do.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use drumline_engine::job::{JobWatch, StageInfo, TaskFacts, TaskId, TaskStatus, Work};
use drumline_engine::{Interrupt, Job, Query, WorkerTarget};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Services;
use super::machine::AttemptId;
use super::stall;
pub(super) use super::stall::Stall;
use crate::admitter::Place;
use crate::facts::{Event, Facts, JobEnd, OperatorMetrics, StagePlan, TaskMetrics, TaskName};
use crate::routing::JobPlacement;

/// How long a job that workers are of use to waits for the first one to join.
const WORKER_WITHIN: Duration = Duration::from_secs(30);

/// How often a job tells what has run of it in this process.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long the reports of tasks that have ended may be on their way.
const FACTS_WITHIN: Duration = Duration::from_secs(2);

/// A job that runs. Its rows hold its place and its tasks' load; both are given back with them.
pub(super) struct RunningJob {
    pub(super) rows: JobRows,
    pub(super) schema: SchemaRef,
    /// The workers that its tasks run on; none where it runs in place.
    pub(super) workers: BTreeSet<String>,
    pub(super) told: JobTold,
    /// Resolves when the job stands still.
    pub(super) stalled: BoxFuture<'static, Stall>,
}

/// The rows of a job. Dropping them cancels it.
pub(super) struct JobRows {
    rows: SendableRecordBatchStream,
    started: Instant,
    elapsed: Arc<OnceLock<Duration>>,
    _place: Place,
    _placement: JobPlacement,
}

/// Tells the job's facts. When dropped before [`JobTold::finished`], the job and the tasks that still ran are
/// told as failed if [`JobTold::failed`] was called, as cancelled if not.
pub(super) struct JobTold {
    application: String,
    job: String,
    facts: Facts,
    watch: JobWatch,
    /// What was told last of each task that runs.
    running: BTreeMap<TaskId, TaskFacts>,
    seen: BTreeSet<TaskId>,
    started: Instant,
    elapsed: Arc<OnceLock<Duration>>,
    /// Why it failed.
    reason: Option<String>,
    ended: bool,
}

/// Waits for the job's turn and starts it.
pub(super) async fn start(
    services: &Services,
    application: &str,
    id: AttemptId,
    query: &Query,
    avoid: &BTreeSet<String>,
    interrupt: &Interrupt,
) -> Result<RunningJob, drumline_engine::Error> {
    let mut place = services
        .admitter
        .request(wished_cores(query), avoid.clone());
    if let Some(before) = place.position() {
        tracing::info!(
            application,
            ordinal = id.ordinal,
            before,
            "job waits for its turn"
        );
        services.facts.publish(Event::JobQueued {
            application: application.to_owned(),
            statement: id.ordinal,
            attempt: id.attempt,
            position: u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1),
            table: String::new(),
        });
    }
    let nobody_is_there = services.workers.borrow().is_empty();
    let patience = match nobody_is_there && services.engine.runs_in_place(query).await? {
        true => Duration::ZERO,
        false => WORKER_WITHIN,
    };
    let granted = tokio::select! {
        granted = place.granted() => granted,
        () = no_worker(services.workers.clone(), patience) => BTreeSet::new(),
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
    } = services
        .engine
        .start_under(query, workers, route, interrupt)
        .await?;
    let job = job_id.to_string();
    services.facts.publish(Event::JobPlanned {
        application: application.to_owned(),
        statement: id.ordinal,
        attempt: id.attempt,
        job: job.clone(),
        stages: stages.iter().map(planned).collect(),
        plan: watch.display().to_owned(),
    });
    let elapsed = Arc::new(OnceLock::new());
    let stalled = stall::watch(watch.clone(), stall_limit(query)).boxed();
    Ok(RunningJob {
        stalled,
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
            application: application.to_owned(),
            job,
            facts: services.facts.clone(),
            watch,
            running: BTreeMap::new(),
            seen: BTreeSet::new(),
            started,
            elapsed,
            reason: None,
            ended: false,
        },
    })
}

fn stall_limit(query: &Query) -> Option<Duration> {
    let default = drumline_engine::DrumlineSettings::default().stall_limit;
    seconds(query, "drumline.stall_limit", default)
}

/// How long a client may take none of its rows.
pub(super) fn read_limit(query: &Query) -> Option<Duration> {
    let default = drumline_engine::DrumlineSettings::default().read_limit;
    seconds(query, "drumline.read_limit", default)
}

/// The engine has checked the setting's value.
fn seconds(query: &Query, setting: &str, default: u64) -> Option<Duration> {
    let given = query.settings.get(setting);
    let seconds = given.and_then(|seconds| seconds.parse().ok());
    let seconds = seconds.unwrap_or(default);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The engine has checked the setting's value.
fn wished_cores(query: &Query) -> Option<u32> {
    let cores = query.settings.get("drumline.cores")?.parse().ok()?;
    (cores > 0).then_some(cores)
}

/// Resolves once there has been no worker for a while.
async fn no_worker(mut workers: watch::Receiver<Arc<[WorkerTarget]>>, patience: Duration) {
    loop {
        let has_some = workers.wait_for(|workers| !workers.is_empty());
        if tokio::time::timeout(patience, has_some).await.is_err() {
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

fn planned(stage: &StageInfo) -> StagePlan {
    StagePlan {
        stage: stage.stage,
        tasks: stage.tasks,
        partitions: stage.partitions,
        workers: stage.workers.clone(),
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
    /// Tells tasks as they begin, go on and end; for as long as it is polled.
    pub(super) async fn follow(&mut self) {
        let mut tasks = self.watch.tasks();
        let mut every =
            tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.tell_tasks(&mut tasks);
            tokio::select! {
                Ok(()) = tasks.changed() => {}
                _ = every.tick() => self.facts.publish(Event::JobProgressed {
                    application: self.application.clone(),
                    job: self.job.clone(),
                    metrics: work_metrics(&self.watch.head()),
                }),
            }
        }
    }

    /// The job's stream has ended with success: tells the last of its tasks, and what they did.
    pub(super) async fn finished(mut self) {
        // Reports may still be on their way.
        self.watch.facts(FACTS_WITHIN).await;
        self.tell_tasks(&mut self.watch.tasks());
        for (task, facts) in std::mem::take(&mut self.running) {
            // Its rows are all here, so it has done its part, though its report is not in.
            self.tell_end(task, &facts, false);
        }
        self.end(JobEnd::Succeeded, String::new());
    }

    /// The job's stream broke off; gives the error back.
    pub(super) fn failed(&mut self, error: drumline_engine::Error) -> drumline_engine::Error {
        self.reason = Some(error.to_string());
        error
    }

    fn tell_tasks(&mut self, tasks: &mut watch::Receiver<BTreeMap<TaskId, TaskStatus>>) {
        let tasks = tasks.borrow_and_update().clone();
        for (
            id,
            TaskStatus {
                finished, facts, ..
            },
        ) in tasks
        {
            if self.seen.insert(id) {
                self.facts.publish(Event::TaskStarted {
                    task: self.name(id),
                    worker: facts.worker.clone(),
                });
                self.running.insert(id, facts.clone());
            }
            let Some(told) = self.running.get_mut(&id) else {
                continue;
            };
            if finished {
                self.running.remove(&id);
                self.tell_end(id, &facts, false);
            } else if *told != facts {
                told.clone_from(&facts);
                self.facts.publish(Event::TaskProgressed {
                    task: self.name(id),
                    metrics: metrics(&facts),
                });
            }
        }
    }

    fn tell_end(&self, id: TaskId, facts: &TaskFacts, failed: bool) {
        self.facts.publish(Event::TaskEnded {
            task: self.name(id),
            worker: facts.worker.clone(),
            failed,
            metrics: metrics(facts),
        });
    }

    fn end(&mut self, end: JobEnd, reason: String) {
        self.ended = true;
        let elapsed = self.elapsed.get().copied();
        self.facts.publish(Event::JobEnded {
            application: self.application.clone(),
            job: self.job.clone(),
            end,
            elapsed_micros: micros(elapsed.unwrap_or_else(|| self.started.elapsed())),
            reason,
            metrics: work_metrics(&self.watch.head()),
        });
    }

    fn name(&self, (stage, task): TaskId) -> TaskName {
        TaskName {
            application: self.application.clone(),
            job: self.job.clone(),
            stage,
            task,
        }
    }
}

impl Drop for JobTold {
    fn drop(&mut self) {
        for (task, facts) in std::mem::take(&mut self.running) {
            self.tell_end(task, &facts, true);
        }
        if self.ended {
            return;
        }
        match self.reason.take() {
            Some(reason) => self.end(JobEnd::Failed, reason),
            None => self.end(JobEnd::Cancelled, "it was stopped".to_owned()),
        }
    }
}

fn metrics(facts: &TaskFacts) -> TaskMetrics {
    TaskMetrics {
        rows_exchanged: facts.rows_exchanged,
        bytes_exchanged: facts.bytes_exchanged,
        elapsed_micros: micros(facts.elapsed),
        ..work_metrics(&facts.work)
    }
}

fn work_metrics(work: &Work) -> TaskMetrics {
    let operators = work.operators.iter().map(|operator| OperatorMetrics {
        name: operator.name.clone(),
        depth: operator.depth,
        rows_out: operator.rows_out,
        compute_micros: micros(operator.compute),
        spilled_bytes: operator.spilled_bytes,
        memory_peak_bytes: operator.memory_peak_bytes,
    });
    TaskMetrics {
        rows_read: work.rows_read,
        bytes_read: work.bytes_read,
        rows_out: work.rows_out,
        spilled_bytes: work.spilled_bytes,
        memory_peak_bytes: work.memory_peak_bytes,
        operators: operators.collect(),
        ..TaskMetrics::default()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
