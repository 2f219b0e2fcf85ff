//! Facts in the words of `drumline.v1.Applications.Watch`.

use drumline_proto::v1::application_event::Event as Told;
use drumline_proto::v1::{
    ApplicationEvent, ApplicationFinished, ApplicationStarted, ApplicationState, JobFinished,
    JobPlanned, JobQueued, JobRetried, ResultReady, StagePlanned, StatementFinished,
    StatementStarted, TaskChanged, TaskFacts, TaskState,
};

use super::event::{Event, Fact, JobEnd, TaskName};
use super::history::History;
use super::records::{Job, State, Task};
use crate::failure::Failure;

/// What a client is told of a fact that the history has just taken in; nothing where it is of no use to one.
pub(super) fn told(fact: &Fact, history: &History) -> Option<ApplicationEvent> {
    let event = match &fact.event {
        Event::ApplicationStarted { statements, .. } => {
            Told::ApplicationStarted(ApplicationStarted {
                statements: *statements,
            })
        }
        Event::StatementStarted { statement, sql, .. } => {
            Told::StatementStarted(StatementStarted {
                ordinal: *statement,
                sql: sql.clone(),
            })
        }
        Event::JobQueued {
            statement,
            attempt,
            position,
            table,
            ..
        } => Told::JobQueued(JobQueued {
            ordinal: *statement,
            attempt: *attempt,
            position: *position,
            table: table.clone(),
        }),
        Event::JobPlanned {
            statement,
            attempt,
            job,
            stages,
            ..
        } => Told::JobPlanned(JobPlanned {
            ordinal: *statement,
            attempt: *attempt,
            job_id: job.clone(),
            stages: stages
                .iter()
                .map(|stage| StagePlanned {
                    stage: stage.stage,
                    tasks: stage.tasks,
                    partitions: stage.partitions,
                    workers: stage.workers.clone(),
                })
                .collect(),
        }),
        Event::TaskStarted { task, worker } => {
            Told::TaskChanged(task_changed(task, TaskState::Running, worker))
        }
        Event::TaskEnded {
            task,
            worker,
            failed,
            ..
        } => {
            let state = match failed {
                true => TaskState::Failed,
                false => TaskState::Finished,
            };
            Told::TaskChanged(task_changed(task, state, worker))
        }
        Event::JobEnded {
            job,
            end: JobEnd::Succeeded,
            elapsed_micros,
            ..
        } => Told::JobFinished(JobFinished {
            job_id: job.clone(),
            tasks: history
                .jobs
                .get(job)
                .map_or_else(Vec::new, |job| facts(job)),
            elapsed_micros: *elapsed_micros,
        }),
        Event::JobRetried {
            statement,
            attempt,
            reason,
            worker,
            ..
        } => Told::JobRetried(JobRetried {
            ordinal: *statement,
            attempt: *attempt,
            reason: reason.clone(),
            worker: worker.clone(),
        }),
        Event::ResultReady {
            statement,
            ticket,
            schema_ipc,
            ..
        } => Told::ResultReady(ResultReady {
            ordinal: *statement,
            ticket: ticket.clone(),
            schema_ipc: schema_ipc.clone(),
        }),
        Event::StatementFinished {
            statement,
            rows,
            table,
            version,
            files,
            already_committed,
            elapsed_micros,
            message,
            ..
        } => Told::StatementFinished(StatementFinished {
            ordinal: *statement,
            rows: *rows,
            table: table.clone(),
            version: *version,
            files: *files,
            already_committed: *already_committed,
            elapsed_micros: *elapsed_micros,
            message: message.clone(),
        }),
        Event::ApplicationFinished {
            state,
            failure,
            statement,
            ..
        } => Told::ApplicationFinished(ApplicationFinished {
            state: match state {
                State::Succeeded => ApplicationState::Succeeded,
                State::Cancelled => ApplicationState::Cancelled,
                State::Waiting | State::Running | State::Failed => ApplicationState::Failed,
            }
            .into(),
            failure: failure
                .as_ref()
                .map(|failure| Failure::from(failure).to_message(*statement)),
        }),
        Event::ApplicationAccepted { .. }
        | Event::ApplicationResumed { .. }
        | Event::TaskProgressed { .. }
        | Event::JobProgressed { .. }
        | Event::JobEnded { .. }
        | Event::TableCommitted { .. }
        | Event::MasterStarted { .. }
        | Event::JournalRepaired { .. }
        | Event::DeliveryStarted { .. }
        | Event::WorkerJoined { .. }
        | Event::WorkerReported { .. }
        | Event::WorkerChanged { .. }
        | Event::WorkerLeft { .. }
        | Event::StreamChanged { .. }
        | Event::StreamDeleted { .. }
        | Event::StreamProgressed { .. } => return None,
    };
    Some(ApplicationEvent {
        sequence: fact.sequence,
        at_unix_millis: fact.at,
        event: Some(event),
    })
}

fn task_changed(task: &TaskName, state: TaskState, worker: &str) -> TaskChanged {
    TaskChanged {
        job_id: task.job.clone(),
        stage: task.stage,
        task: task.task,
        state: state.into(),
        worker: worker.to_owned(),
    }
}

fn facts(job: &Job) -> Vec<TaskFacts> {
    let tasks = job.stages.iter().flat_map(|stage| &stage.tasks);
    let facts = |task: &Task| TaskFacts {
        stage: task.stage,
        task: task.task,
        worker: task.worker.clone(),
        rows_exchanged: task.metrics.rows_exchanged,
        bytes_exchanged: task.metrics.bytes_exchanged,
        elapsed_micros: task.metrics.elapsed_micros,
        rows_read: task.metrics.rows_read,
    };
    tasks.map(facts).collect()
}
