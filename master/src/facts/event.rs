//! The event model: what can happen in a cluster. Names and fields are kept in the journal, so they are
//! only ever added to.
//!
//! Ids: applications, jobs and workers' ids are safe in paths; applications and jobs sort by the time they
//! were made. Statements count from 1 within their application, stages from 1 within their job, tasks from
//! 0 within their stage, attempts from 1 within their statement.

use std::collections::BTreeMap;

use drumline_lake::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// Grows from fact to fact, over restarts too; has gaps.
    pub(crate) sequence: u64,
    /// Milliseconds since 1970, UTC.
    pub(crate) at: i64,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A master listens.
    MasterStarted {
        build: String,
        lake: String,
    },
    /// The journal was damaged: what is kept of it, and what is lost.
    JournalRepaired {
        kept: u64,
        dropped: u64,
        reason: String,
    },

    /// The application has an id; nothing of it has run.
    ApplicationAccepted {
        application: String,
        name: String,
        /// The file the text came from; empty where it was typed in.
        source: String,
        /// Name of the token that submitted it.
        submitted_by: String,
        body: Body,
        settings: BTreeMap<String, String>,
    },
    /// Its text was read.
    ApplicationStarted {
        application: String,
        statements: u32,
    },
    /// A restarted master goes on with it, from this statement.
    ApplicationResumed {
        application: String,
        statement: u32,
    },
    StatementStarted {
        application: String,
        statement: u32,
        sql: String,
    },
    /// The attempt waits for its turn behind this many others.
    JobQueued {
        application: String,
        statement: u32,
        attempt: u32,
        position: u32,
        /// The table that those before it change; empty where it waits for cores.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        table: String,
    },
    /// An attempt has a plan and runs. `stages` is empty where it runs in place.
    JobPlanned {
        application: String,
        statement: u32,
        attempt: u32,
        job: String,
        stages: Vec<StagePlan>,
        /// The distributed plan, for people.
        plan: String,
    },
    TaskStarted {
        #[serde(flatten)]
        task: TaskName,
        worker: String,
    },
    /// What a running task has done so far: every second. Not journaled.
    TaskProgressed {
        #[serde(flatten)]
        task: TaskName,
        metrics: TaskMetrics,
    },
    TaskEnded {
        #[serde(flatten)]
        task: TaskName,
        worker: String,
        failed: bool,
        metrics: TaskMetrics,
    },
    /// What has run of it in the master so far: every second. Not journaled.
    JobProgressed {
        application: String,
        job: String,
        metrics: TaskMetrics,
    },
    JobEnded {
        application: String,
        job: String,
        end: JobEnd,
        elapsed_micros: u64,
        /// Why it failed; empty where it did not.
        reason: String,
        /// Of what ran in the master itself: the plan's head, or all of it.
        metrics: TaskMetrics,
    },
    /// `attempt` is the one that comes.
    JobRetried {
        application: String,
        statement: u32,
        attempt: u32,
        reason: String,
        worker: String,
    },
    /// The rows of a statement can be fetched. Not journaled: they are nowhere after a restart.
    ResultReady {
        application: String,
        statement: u32,
        #[serde(skip)]
        ticket: Vec<u8>,
        #[serde(skip)]
        schema_ipc: Vec<u8>,
    },
    /// The first rows of a statement's result are about to be handed out: it cannot be run again unseen.
    DeliveryStarted {
        application: String,
        statement: u32,
    },
    StatementFinished {
        application: String,
        statement: u32,
        rows: u64,
        table: String,
        version: u64,
        files: u64,
        already_committed: bool,
        elapsed_micros: u64,
        message: String,
    },
    ApplicationFinished {
        application: String,
        state: super::State,
        failure: Option<FailureFact>,
        /// The statement that failed; 0 where none did.
        statement: u32,
    },

    WorkerJoined {
        worker: String,
        url: String,
        cores: u32,
        memory_bytes: u64,
        build: String,
        pid: u32,
    },
    /// Heartbeat. Not journaled.
    WorkerReported {
        worker: String,
        running_tasks: u32,
        memory_bytes: u64,
    },
    /// It is a member, and takes work (`alive`) or none (`draining`, `set_aside`).
    WorkerChanged {
        worker: String,
        state: super::WorkerState,
        reason: String,
    },
    WorkerLeft {
        worker: String,
        /// It went by itself, its work handed over.
        clean: bool,
        reason: String,
    },

    StreamChanged {
        stream: String,
        /// `starting`, `running`, `paused`, `failing`, `waiting`.
        state: String,
        reason: String,
    },
    StreamDeleted {
        stream: String,
    },
    /// How far it is: every second while that changes. Not journaled.
    StreamProgressed {
        stream: String,
        #[serde(skip)]
        progress: std::sync::Arc<super::StreamProgress>,
    },

    /// A commit is in the lake: of a statement, or of a stream.
    TableCommitted {
        table: String,
        version: u64,
        rows: u64,
        files: u64,
        bytes: u64,
        /// Empty where a stream made it.
        application: String,
        statement: u32,
        /// Empty where a statement made it.
        stream: String,
    },
}

/// What was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Sql(String),
    /// A logical plan, which is not kept.
    Plan,
}

/// Which task. `attempt` is its job's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TaskName {
    pub(crate) application: String,
    pub(crate) job: String,
    pub(crate) stage: u32,
    pub(crate) task: u32,
}

/// A stage as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagePlan {
    pub(crate) stage: u32,
    pub(crate) tasks: u32,
    pub(crate) partitions: u32,
    /// Worker of each task.
    pub(crate) workers: Vec<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobEnd {
    Succeeded,
    Failed,
    Cancelled,
}

/// What a task has done: totals, and the same for each operator of its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct TaskMetrics {
    /// Rows that its leaves read.
    pub(crate) rows_read: u64,
    /// Bytes that its leaves read from files.
    pub(crate) bytes_read: u64,
    /// Rows that came out of its plan.
    pub(crate) rows_out: u64,
    /// Rows sent to other tasks over Flight.
    pub(crate) rows_exchanged: u64,
    /// Bytes sent to other tasks over Flight, as encoded.
    pub(crate) bytes_exchanged: u64,
    /// Bytes written to disk for want of memory.
    pub(crate) spilled_bytes: u64,
    /// Most bytes that its operators reserved at a time, summed over operators.
    pub(crate) memory_peak_bytes: u64,
    /// From its plan's arrival to its last row.
    pub(crate) elapsed_micros: u64,
    /// Its operators, parents before children.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) operators: Vec<OperatorMetrics>,
}

/// What one operator of a task has done, summed over its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct OperatorMetrics {
    /// As DataFusion names it, e.g. `HashJoinExec`.
    pub(crate) name: String,
    /// Distance from the plan's root.
    pub(crate) depth: u32,
    pub(crate) rows_out: u64,
    /// Time it computed, over all its partitions.
    pub(crate) compute_micros: u64,
    pub(crate) spilled_bytes: u64,
    pub(crate) memory_peak_bytes: u64,
}

/// A failure as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct FailureFact {
    /// `user`, `retryable` or `bug`.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// The next step; may be empty.
    pub(crate) hint: String,
    /// 1-based, within the submitted text; 0 where it is not known.
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl From<Failure> for FailureFact {
    fn from(failure: Failure) -> Self {
        Self {
            kind: match failure.kind {
                ErrorKind::User => "user",
                ErrorKind::Retryable => "retryable",
                ErrorKind::Bug => "bug",
            }
            .to_owned(),
            message: failure.message,
            hint: failure.hint,
            line: failure.line,
            column: failure.column,
        }
    }
}

impl From<&FailureFact> for Failure {
    fn from(fact: &FailureFact) -> Self {
        let kind = match fact.kind.as_str() {
            "user" => ErrorKind::User,
            "retryable" => ErrorKind::Retryable,
            _ => ErrorKind::Bug,
        };
        Self {
            hint: fact.hint.clone(),
            line: fact.line,
            column: fact.column,
            ..Failure::new(kind, fact.message.clone())
        }
    }
}

impl Event {
    /// The application it belongs to.
    pub(crate) fn application(&self) -> Option<&str> {
        match self {
            Self::ApplicationAccepted { application, .. }
            | Self::ApplicationStarted { application, .. }
            | Self::ApplicationResumed { application, .. }
            | Self::StatementStarted { application, .. }
            | Self::JobQueued { application, .. }
            | Self::JobPlanned { application, .. }
            | Self::JobProgressed { application, .. }
            | Self::JobEnded { application, .. }
            | Self::JobRetried { application, .. }
            | Self::ResultReady { application, .. }
            | Self::DeliveryStarted { application, .. }
            | Self::StatementFinished { application, .. }
            | Self::ApplicationFinished { application, .. } => Some(application),
            Self::TaskStarted { task, .. }
            | Self::TaskProgressed { task, .. }
            | Self::TaskEnded { task, .. } => Some(&task.application),
            Self::TableCommitted { application, .. } if !application.is_empty() => {
                Some(application)
            }
            Self::MasterStarted { .. }
            | Self::JournalRepaired { .. }
            | Self::WorkerJoined { .. }
            | Self::WorkerReported { .. }
            | Self::WorkerChanged { .. }
            | Self::WorkerLeft { .. }
            | Self::StreamChanged { .. }
            | Self::StreamDeleted { .. }
            | Self::StreamProgressed { .. }
            | Self::TableCommitted { .. } => None,
        }
    }

    /// Whether it is worth keeping: what is true for a second only is not.
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(
            self,
            Self::TaskProgressed { .. }
                | Self::JobProgressed { .. }
                | Self::WorkerReported { .. }
                | Self::StreamProgressed { .. }
                | Self::ResultReady { .. }
                | Self::JobQueued { .. }
        )
    }
}
