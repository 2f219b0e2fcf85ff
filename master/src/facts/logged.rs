//! Facts as lines of the log, each with the ids of what it is about.

use tracing::{debug, info, warn};

use super::event::{Event, JobEnd, TaskName};
use super::records::State;

/// Logs a fact. What happens every second, and what is told elsewhere, is not logged.
pub(super) fn log(event: &Event) {
    match event {
        Event::ApplicationAccepted {
            application,
            name,
            submitted_by,
            ..
        } => info!(application, name, submitted_by, "application accepted"),
        Event::ApplicationStarted {
            application,
            statements,
        } => debug!(application, statements, "application started"),
        Event::ApplicationResumed {
            application,
            statement,
        } => info!(application, statement, "application goes on"),
        Event::StatementStarted {
            application,
            statement,
            ..
        } => debug!(application, statement, "statement started"),
        Event::JobPlanned {
            application,
            statement,
            attempt,
            job,
            stages,
            ..
        } => info!(
            application,
            statement,
            attempt,
            job,
            stages = stages.len(),
            tasks = stages.iter().map(|stage| stage.tasks).sum::<u32>(),
            "job planned"
        ),
        Event::TaskStarted { task, worker } => {
            let TaskName {
                application,
                job,
                stage,
                task,
            } = task;
            debug!(application, job, stage, task, worker, "task started");
        }
        Event::TaskEnded {
            task,
            worker,
            failed,
            ..
        } => {
            let TaskName {
                application,
                job,
                stage,
                task,
            } = task;
            match failed {
                true => warn!(application, job, stage, task, worker, "task failed"),
                false => debug!(application, job, stage, task, worker, "task ended"),
            }
        }
        Event::JobEnded {
            application,
            job,
            end,
            elapsed_micros,
            reason,
            ..
        } => match end {
            JobEnd::Failed => warn!(application, job, elapsed_micros, reason, "job failed"),
            JobEnd::Succeeded => info!(application, job, elapsed_micros, "job succeeded"),
            JobEnd::Cancelled => info!(application, job, elapsed_micros, "job cancelled"),
        },
        Event::JobRetried {
            application,
            statement,
            attempt,
            reason,
            worker,
        } => warn!(
            application,
            statement, attempt, reason, worker, "job is tried again"
        ),
        Event::StatementFinished {
            application,
            statement,
            rows,
            table,
            elapsed_micros,
            ..
        } => info!(
            application,
            statement, rows, table, elapsed_micros, "statement finished"
        ),
        Event::ApplicationFinished {
            application,
            state,
            failure,
            statement,
        } => {
            let reason = failure.as_ref().map_or("", |failure| &failure.message);
            match state {
                State::Failed => warn!(application, statement, reason, "application failed"),
                state => info!(application, state = state.name(), "application ended"),
            }
        }
        Event::WorkerChanged {
            worker,
            state,
            reason,
        } => info!(worker, state = state.name(), reason, "worker changed"),
        Event::StreamChanged {
            stream,
            state,
            reason,
            ..
        } => info!(stream, state, reason, "stream changed"),
        Event::TableCommitted {
            table,
            version,
            rows,
            files,
            application,
            stream,
            ..
        } => info!(
            application,
            stream, table, version, rows, files, "table committed"
        ),
        _ => {}
    }
}
