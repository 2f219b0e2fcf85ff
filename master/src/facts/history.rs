//! Turns events into records, purely: replaying the same facts gives the same records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::event::{Body, Event, Fact, JobEnd, StagePlan, TaskMetrics, TaskName};
use super::records::{
    Application, Commit, Job, Repair, Stage, State, Statement, Stream, Task, Worker, WorkerState,
};

/// Commits that are remembered.
const COMMITS: usize = 10_000;
/// Workers that are gone and remembered.
const GONE_WORKERS: usize = 200;

/// Everything that is known. A clone is a snapshot, and cheap: records are shared until they change.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// The newest fact in it.
    pub(crate) sequence: u64,
    pub(crate) build: String,
    pub(crate) lake: String,
    /// When the master that runs started.
    pub(crate) started_at: i64,
    /// By id, so by age.
    pub(crate) applications: BTreeMap<String, Arc<Application>>,
    /// By id, so by age.
    pub(crate) jobs: BTreeMap<String, Arc<Job>>,
    pub(crate) workers: BTreeMap<String, Arc<Worker>>,
    pub(crate) streams: BTreeMap<String, Arc<Stream>>,
    /// The oldest first.
    pub(crate) commits: VecDeque<Arc<Commit>>,
    /// How often the journal was damaged; the oldest first.
    pub(crate) repairs: Vec<Arc<Repair>>,
}

impl History {
    pub(crate) fn apply(&mut self, fact: &Fact) {
        let at = fact.at;
        self.sequence = fact.sequence;
        match &fact.event {
            Event::MasterStarted { build, lake } => self.restart(at, build, lake),
            Event::JournalRepaired {
                kept,
                dropped,
                reason,
            } => self.repairs.push(Arc::new(Repair {
                at,
                kept: *kept,
                dropped: *dropped,
                reason: reason.clone(),
            })),
            Event::ApplicationAccepted {
                application,
                name,
                source,
                submitted_by,
                body,
                settings: _,
            } => {
                let record = Application {
                    id: application.clone(),
                    name: name.clone(),
                    kind: match body {
                        Body::Sql(_) => "sql",
                        Body::Plan => "plan",
                    }
                    .to_owned(),
                    source: source.clone(),
                    submitted_by: submitted_by.clone(),
                    submitted_at: at,
                    ..Application::default()
                };
                self.applications
                    .insert(application.clone(), Arc::new(record));
            }
            Event::ApplicationStarted {
                application,
                statements,
            } => self.application(application, |record| {
                record.state = State::Running;
                record.statement_count = *statements;
            }),
            Event::ApplicationResumed { application, .. } => {
                self.application(application, |record| record.resumed += 1);
            }
            Event::StatementStarted {
                application,
                statement,
                sql,
            } => {
                let started = Statement {
                    application: application.clone(),
                    statement: *statement,
                    sql: sql.clone(),
                    state: State::Running,
                    started_at: at,
                    ..Statement::default()
                };
                self.application(application, |record| {
                    match position(record, *statement) {
                        // A restarted master begins it again.
                        Some(index) => record.statements[index].state = State::Running,
                        None => record.statements.push(started),
                    }
                });
            }
            Event::JobQueued {
                application,
                position,
                ..
            } => self.application(application, |record| {
                record.queue_position = Some(*position);
            }),
            Event::JobPlanned {
                application,
                statement,
                attempt,
                job,
                stages,
                plan,
            } => {
                let planned = Job {
                    id: job.clone(),
                    application: application.clone(),
                    statement: *statement,
                    attempt: *attempt,
                    state: State::Running,
                    started_at: at,
                    stages: stages
                        .iter()
                        .map(|stage| planned_stage(job, *attempt, stage))
                        .collect(),
                    plan: plan.clone(),
                    ..Job::default()
                };
                self.application(application, |record| record.queue_position = None);
                self.statement(application, *statement, |record| {
                    record.jobs.push(job.clone());
                    record.attempts = record.attempts.max(*attempt);
                });
                self.jobs.insert(job.clone(), Arc::new(planned));
            }
            Event::TaskStarted { task, worker } => self.task(task, |record| {
                record.state = State::Running;
                record.worker = worker.clone();
                record.started_at = at;
            }),
            Event::TaskProgressed { task, metrics } => self.task(task, |record| {
                record.metrics = metrics.clone();
            }),
            Event::TaskEnded {
                task,
                worker,
                failed,
                metrics,
            } => self.task(task, |record| {
                record.state = match failed {
                    true => State::Failed,
                    false => State::Succeeded,
                };
                record.worker = worker.clone();
                record.ended_at = at;
                if *metrics != TaskMetrics::default() {
                    record.metrics = metrics.clone();
                }
            }),
            Event::JobProgressed { job, metrics, .. } => self.job(job, |record| {
                record.metrics = metrics.clone();
            }),
            Event::JobEnded {
                job,
                end,
                elapsed_micros,
                reason,
                metrics,
                ..
            } => self.job(job, |record| {
                record.state = match end {
                    JobEnd::Succeeded => State::Succeeded,
                    JobEnd::Failed => State::Failed,
                    JobEnd::Cancelled => State::Cancelled,
                };
                record.ended_at = at;
                record.elapsed_micros = *elapsed_micros;
                record.reason = reason.clone();
                record.metrics = metrics.clone();
                end_tasks(record, at);
            }),
            Event::JobRetried {
                application,
                statement,
                attempt,
                reason,
                ..
            } => self.statement(application, *statement, |record| {
                record.attempts = record.attempts.max(*attempt);
                record.retries.push(reason.clone());
            }),
            Event::ResultReady { .. } | Event::DeliveryStarted { .. } => {}
            Event::StatementFinished {
                application,
                statement,
                rows,
                table,
                version,
                files,
                already_committed,
                elapsed_micros,
                message,
            } => self.statement(application, *statement, |record| {
                record.state = State::Succeeded;
                record.ended_at = at;
                record.elapsed_micros = *elapsed_micros;
                record.rows = *rows;
                record.table = table.clone();
                record.version = *version;
                record.files = *files;
                record.already_committed = *already_committed;
                record.message = message.clone();
            }),
            Event::ApplicationFinished {
                application,
                state,
                failure,
                ..
            } => {
                self.application(application, |record| {
                    record.state = *state;
                    record.ended_at = at;
                    record.queue_position = None;
                    record.failure = failure.clone();
                    for statement in &mut record.statements {
                        if !statement.state.is_over() {
                            statement.state = *state;
                            statement.ended_at = at;
                        }
                    }
                });
                self.end_jobs(application, at, *state);
            }
            Event::WorkerJoined {
                worker,
                url,
                cores,
                memory_bytes,
                build,
                pid,
            } => {
                let joined = Worker {
                    id: worker.clone(),
                    url: url.clone(),
                    state: WorkerState::Alive,
                    cores: *cores,
                    memory_bytes: *memory_bytes,
                    build: build.clone(),
                    pid: *pid,
                    joined_at: at,
                    ..Worker::default()
                };
                self.workers.insert(worker.clone(), Arc::new(joined));
            }
            Event::WorkerReported {
                worker,
                running_tasks,
                memory_bytes,
            } => self.worker(worker, |record| {
                record.running_tasks = *running_tasks;
                record.memory_used_bytes = *memory_bytes;
            }),
            Event::WorkerChanged {
                worker,
                state,
                reason,
            } => self.worker(worker, |record| {
                record.state = *state;
                record.reason = reason.clone();
            }),
            Event::WorkerLeft {
                worker,
                clean,
                reason,
            } => {
                self.worker(worker, |record| {
                    record.state = match clean {
                        true => WorkerState::Left,
                        false => WorkerState::Lost,
                    };
                    record.reason = reason.clone();
                    record.left_at = at;
                    record.running_tasks = 0;
                });
                self.forget_workers();
            }
            Event::StreamChanged {
                stream,
                state,
                reason,
            } => {
                let record = Arc::make_mut(self.streams.entry(stream.clone()).or_default());
                record.name = stream.clone();
                if record.state != *state {
                    record.since = at;
                }
                record.state = state.clone();
                record.reason = reason.clone();
            }
            Event::StreamDeleted { stream } => {
                self.streams.remove(stream);
            }
            Event::StreamProgressed { stream, progress } => {
                if let Some(record) = self.streams.get_mut(stream) {
                    Arc::make_mut(record).progress = Arc::clone(progress);
                }
            }
            Event::TableCommitted {
                table,
                version,
                rows,
                files,
                bytes,
                application,
                statement,
                stream,
            } => {
                if let Some(record) = self.streams.get_mut(stream) {
                    let record = Arc::make_mut(record);
                    record.commits += 1;
                    record.rows += rows;
                    record.last_commit_at = at;
                }
                if self.commits.len() >= COMMITS {
                    self.commits.pop_front();
                }
                self.commits.push_back(Arc::new(Commit {
                    at,
                    table: table.clone(),
                    version: *version,
                    rows: *rows,
                    files: *files,
                    bytes: *bytes,
                    application: application.clone(),
                    statement: *statement,
                    stream: stream.clone(),
                }));
            }
        }
    }

    /// Forgets an application and its jobs.
    pub(crate) fn forget(&mut self, application: &str) {
        self.applications.remove(application);
        self.jobs.retain(|_, job| job.application != application);
    }

    /// What ran in a master that is gone does not run any more.
    fn restart(&mut self, at: i64, build: &str, lake: &str) {
        self.build = build.to_owned();
        self.lake = lake.to_owned();
        self.started_at = at;
        for job in self.jobs.values_mut().filter(|job| !job.state.is_over()) {
            let job = Arc::make_mut(job);
            job.state = State::Failed;
            job.ended_at = at;
            job.reason = "the master was restarted".to_owned();
            end_tasks(job, at);
        }
        for worker in self.workers.values_mut() {
            if worker.state.is_member() {
                let worker = Arc::make_mut(worker);
                worker.state = WorkerState::Lost;
                worker.reason = "the master was restarted".to_owned();
                worker.left_at = at;
                worker.running_tasks = 0;
            }
        }
    }

    fn application(&mut self, id: &str, change: impl FnOnce(&mut Application)) {
        if let Some(record) = self.applications.get_mut(id) {
            change(Arc::make_mut(record));
        }
    }

    fn statement(&mut self, id: &str, statement: u32, change: impl FnOnce(&mut Statement)) {
        self.application(id, |record| {
            if let Some(index) = position(record, statement) {
                change(&mut record.statements[index]);
            }
        });
    }

    fn job(&mut self, id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(record) = self.jobs.get_mut(id) {
            change(Arc::make_mut(record));
        }
    }

    fn task(&mut self, name: &TaskName, change: impl FnOnce(&mut Task)) {
        self.job(&name.job, |job| {
            let stage = job
                .stages
                .iter_mut()
                .find(|stage| stage.stage == name.stage);
            let Some(stage) = stage else { return };
            if let Some(task) = stage.tasks.iter_mut().find(|task| task.task == name.task) {
                change(task);
            }
            stage.state = stage_state(&stage.tasks);
        });
    }

    fn worker(&mut self, id: &str, change: impl FnOnce(&mut Worker)) {
        if let Some(record) = self.workers.get_mut(id) {
            change(Arc::make_mut(record));
        }
    }

    fn end_jobs(&mut self, application: &str, at: i64, state: State) {
        let open = self
            .jobs
            .values_mut()
            .filter(|job| job.application == application && !job.state.is_over());
        for job in open {
            let job = Arc::make_mut(job);
            job.state = state;
            job.ended_at = at;
            end_tasks(job, at);
        }
    }

    fn forget_workers(&mut self) {
        let mut gone: Vec<(i64, String)> = self
            .workers
            .values()
            .filter(|worker| !worker.state.is_member())
            .map(|worker| (worker.left_at, worker.id.clone()))
            .collect();
        gone.sort();
        let too_many = gone.len().saturating_sub(GONE_WORKERS);
        for (_, id) in gone.into_iter().take(too_many) {
            self.workers.remove(&id);
        }
    }
}

fn position(application: &Application, statement: u32) -> Option<usize> {
    application
        .statements
        .iter()
        .position(|record| record.statement == statement)
}

fn planned_stage(job: &str, attempt: u32, plan: &StagePlan) -> Stage {
    let task = |task: u32| Task {
        job: job.to_owned(),
        stage: plan.stage,
        task,
        attempt,
        worker: plan.workers.get(task as usize).cloned().unwrap_or_default(),
        ..Task::default()
    };
    Stage {
        job: job.to_owned(),
        stage: plan.stage,
        partitions: plan.partitions,
        tasks: (0..plan.tasks).map(task).collect(),
        state: State::Waiting,
    }
}

fn stage_state(tasks: &[Task]) -> State {
    let is_all = |state: State| tasks.iter().all(|task| task.state == state);
    if tasks.iter().any(|task| task.state == State::Failed) {
        State::Failed
    } else if is_all(State::Succeeded) {
        State::Succeeded
    } else if is_all(State::Waiting) {
        State::Waiting
    } else {
        State::Running
    }
}

/// The tasks of a job that is over are over too: with it, or cut off.
fn end_tasks(job: &mut Job, at: i64) {
    let state = job.state;
    for stage in &mut job.stages {
        for task in stage.tasks.iter_mut().filter(|task| !task.state.is_over()) {
            task.state = state;
            task.ended_at = at;
        }
        stage.state = match state {
            State::Succeeded => State::Succeeded,
            _ if stage
                .tasks
                .iter()
                .all(|task| task.state == State::Succeeded) =>
            {
                State::Succeeded
            }
            _ => state,
        };
    }
}
