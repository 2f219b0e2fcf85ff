//! What is known now of applications, jobs, workers, streams and commits: the shapes that REST, the
//! `system.*` tables and the page show. Times are milliseconds since 1970, UTC; 0 means not yet.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{FailureFact, TaskMetrics};

/// Where an application, a statement, a job, a stage or a task stands.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Accepted or planned; nothing has run.
    #[default]
    Waiting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a user submitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Application {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `sql` or `plan`.
    pub(crate) kind: String,
    /// The file its text came from; empty where it was typed in.
    pub(crate) source: String,
    pub(crate) submitted_by: String,
    pub(crate) state: State,
    pub(crate) submitted_at: i64,
    pub(crate) ended_at: i64,
    /// How many statements it has; 0 until its text was read.
    pub(crate) statement_count: u32,
    /// The statements that have begun.
    pub(crate) statements: Vec<Statement>,
    /// Jobs that wait for their turn have a place in line, from 1.
    pub(crate) queue_position: Option<u32>,
    /// How often a restarted master went on with it.
    pub(crate) resumed: u32,
    pub(crate) failure: Option<FailureFact>,
}

/// One statement of an application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Statement {
    pub(crate) application: String,
    /// From 1.
    pub(crate) statement: u32,
    pub(crate) sql: String,
    pub(crate) state: State,
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) elapsed_micros: u64,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Its jobs' ids, one per attempt that got as far as a plan.
    pub(crate) jobs: Vec<String>,
    /// Rows returned, or written where `table` is set.
    pub(crate) rows: u64,
    pub(crate) table: String,
    pub(crate) version: u64,
    pub(crate) files: u64,
    pub(crate) already_committed: bool,
    /// A line for people.
    pub(crate) message: String,
    /// Why its attempts had to be repeated, the newest last.
    pub(crate) retries: Vec<String>,
}

/// One run of a statement's plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) application: String,
    pub(crate) statement: u32,
    pub(crate) attempt: u32,
    pub(crate) state: State,
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) elapsed_micros: u64,
    /// Why it failed.
    pub(crate) reason: String,
    /// Empty where the plan runs in place, on the master.
    pub(crate) stages: Vec<Stage>,
    /// What ran on the master: the plan's head, or all of it.
    pub(crate) metrics: TaskMetrics,
    /// The distributed plan as text.
    pub(crate) plan: String,
}

/// A stage of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Stage {
    pub(crate) job: String,
    /// From 1.
    pub(crate) stage: u32,
    pub(crate) state: State,
    pub(crate) partitions: u32,
    pub(crate) tasks: Vec<Task>,
}

/// A task of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Task {
    pub(crate) job: String,
    pub(crate) stage: u32,
    /// From 0.
    pub(crate) task: u32,
    /// Its job's attempt.
    pub(crate) attempt: u32,
    pub(crate) worker: String,
    pub(crate) state: State,
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) metrics: TaskMetrics,
}

/// Whether a worker takes work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerState {
    #[default]
    Alive,
    /// It finishes what it has and leaves.
    Draining,
    /// Its tasks kept failing: it gets none for a while.
    SetAside,
    /// It went by itself.
    Left,
    /// It went silent, or its call broke.
    Lost,
}

impl WorkerState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::SetAside => "set_aside",
            Self::Left => "left",
            Self::Lost => "lost",
        }
    }

    /// Whether it is a member of the cluster.
    pub(crate) fn is_member(self) -> bool {
        !matches!(self, Self::Left | Self::Lost)
    }
}

/// A worker process, present or past.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) state: WorkerState,
    /// Why it is not alive.
    pub(crate) reason: String,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) build: String,
    pub(crate) pid: u32,
    pub(crate) joined_at: i64,
    pub(crate) left_at: i64,
    /// As of its last heartbeat.
    pub(crate) running_tasks: u32,
    /// Resident memory as of its last heartbeat.
    pub(crate) memory_used_bytes: u64,
}

/// What happened to a stream; its partitions and lag are asked of the coordinator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    /// When it came into this state.
    pub(crate) since: i64,
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    pub(crate) last_commit_at: i64,
    /// How far it is, as it was told last.
    #[serde(skip)]
    pub(crate) progress: Arc<StreamProgress>,
}

/// How far a stream is. What is not known is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct StreamProgress {
    pub(crate) lag: Option<i64>,
    pub(crate) lag_seconds: Option<f64>,
    pub(crate) records_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// Records that commits went past, and calls of object stores for a million of them.
    pub(crate) records: u64,
    pub(crate) requests_per_million: Option<f64>,
    pub(crate) dead_letters: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    #[serde(skip)]
    pub(crate) partitions: Vec<StreamPartition>,
}

/// How far one partition of a stream is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct StreamPartition {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) worker: String,
    pub(crate) epoch: u64,
    pub(crate) committed: Option<i64>,
    pub(crate) end: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) lag: Option<i64>,
    pub(crate) lag_seconds: Option<f64>,
    /// Newest and oldest of the brokers' dates among committed records.
    pub(crate) newest_at: Option<i64>,
    pub(crate) oldest_at: Option<i64>,
    pub(crate) records_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

/// A damaged journal that was repaired when the master started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Repair {
    pub(crate) at: i64,
    /// Facts that were there still.
    pub(crate) kept: u64,
    /// Facts that are lost, as far as is known.
    pub(crate) dropped: u64,
    /// What was damaged, and where it was put.
    pub(crate) reason: String,
}

/// One commit to a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Commit {
    pub(crate) at: i64,
    pub(crate) table: String,
    pub(crate) version: u64,
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) application: String,
    pub(crate) statement: u32,
    pub(crate) stream: String,
}
