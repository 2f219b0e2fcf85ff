//! One run of a query's plan: its stages, its rows, and what its tasks did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::watch;
use uuid::Uuid;

use crate::Interrupt;

/// The plan that runs in this process; none where the rows were there without running one.
#[derive(Clone, Default)]
pub(crate) struct Head(pub(crate) Option<Arc<dyn ExecutionPlan>>);

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").finish_non_exhaustive()
    }
}

/// A running job.
pub struct Job {
    /// Fresh for each job; workers know its tasks by it.
    pub id: Uuid,
    /// Stages with an exchange above them, producers first. Empty where the plan runs in place.
    pub stages: Vec<StageInfo>,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// The rows. Dropping it cancels the job. Its errors convert into [`crate::Error`].
    pub stream: SendableRecordBatchStream,
    /// What the job's tasks do; stays valid after the stream's end.
    pub watch: JobWatch,
}

/// A stage of a job and where its tasks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageInfo {
    /// Number in its job, from 1.
    pub stage: u32,
    /// Number of tasks.
    pub tasks: u32,
    /// Partitions that each task computes.
    pub partitions: u32,
    /// Worker id of each task.
    pub workers: Vec<String>,
}

/// Stage number and task number.
pub type TaskId = (u32, u32);

/// What is known of a task that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Id of its worker.
    pub worker: String,
    /// Whether it has ended with success; a job whose stream failed has tasks that never do.
    pub finished: bool,
    /// What it has done so far, as the worker reports every second and at the end.
    pub facts: TaskFacts,
}

/// What one task did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Number of its stage.
    pub stage: u32,
    /// Its number in the stage, from 0.
    pub task: u32,
    /// Id of its worker.
    pub worker: String,
    /// Rows sent over Flight (rows read in place by a task on the same worker are not sent).
    pub rows_exchanged: u64,
    /// Bytes sent over Flight, as encoded.
    pub bytes_exchanged: u64,
    /// From its plan's arrival to its last row.
    pub elapsed: Duration,
    /// Grows for as long as it computes.
    pub steps: u64,
    /// What its plan did.
    pub work: Work,
}

/// What the operators of a plan have done: in one process, below the exchanges that the plan ends in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows that its leaves read from tables.
    pub rows_read: u64,
    /// Bytes that its leaves read from files.
    pub bytes_read: u64,
    /// Rows that came out of it.
    pub rows_out: u64,
    /// Bytes written to disk for want of memory.
    pub spilled_bytes: u64,
    /// Most bytes that operators held at a time, summed over those that say so.
    pub memory_peak_bytes: u64,
    /// Each operator, parents before children.
    pub operators: Vec<OperatorWork>,
}

/// What one operator has done, summed over its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorWork {
    /// As DataFusion names it, e.g. `HashJoinExec`.
    pub name: String,
    /// Distance from the plan's root.
    pub depth: u32,
    /// Rows that came out of it.
    pub rows_out: u64,
    /// Time it computed.
    pub compute: Duration,
    /// Bytes it wrote to disk for want of memory.
    pub spilled_bytes: u64,
    /// Most bytes it held at a time.
    pub memory_peak_bytes: u64,
}

/// Follows a job from outside of its stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobWatch {
    pub(crate) tasks: watch::Receiver<BTreeMap<TaskId, TaskStatus>>,
    pub(crate) expected: usize,
    pub(crate) display: Arc<str>,
    pub(crate) head: Head,
    /// Of what runs in this process.
    pub(crate) interrupt: Interrupt,
}

impl JobWatch {
    /// Changes for as long as something of the job computes, anywhere; as new as the newest report.
    pub fn steps(&self) -> u64 {
        let tasks = self.tasks.borrow();
        let of_tasks = tasks
            .values()
            .map(|task| task.facts.steps + 1 + u64::from(task.finished));
        of_tasks.sum::<u64>() + self.interrupt.steps()
    }

    /// The tasks that have begun; changes as they begin, report and end.
    pub fn tasks(&self) -> watch::Receiver<BTreeMap<TaskId, TaskStatus>> {
        self.tasks.clone()
    }

    /// What every task did. Complete once the stream has ended with success; waits for at most `patience`
    /// for reports still on their way, then answers with what there is.
    pub async fn facts(&self, patience: Duration) -> Vec<TaskFacts> {
        let mut tasks = self.tasks.clone();
        let complete = |tasks: &BTreeMap<TaskId, TaskStatus>| {
            tasks.values().filter(|task| task.finished).count() >= self.expected
        };
        // An error means that the job is gone and nothing more will be reported: what is there counts.
        let _ = tokio::time::timeout(patience, tasks.wait_for(complete)).await;
        tasks
            .borrow()
            .values()
            .map(|task| task.facts.clone())
            .collect()
    }

    /// What has run in this process so far: the plan above the last exchange, or all of a plan that needs none.
    pub fn head(&self) -> Work {
        self.head.0.as_ref().map(Work::of).unwrap_or_default()
    }

    /// The plan with its stages, for people.
    pub fn display(&self) -> &str {
        &self.display
    }
}
