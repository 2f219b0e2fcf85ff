//! What happened, recorded once: every fact of the cluster goes through one bus, and everything that is
//! shown of it (events to clients, REST, `system.*` tables, metrics, the page) is read from here.
//!
//! `event.rs` is the event model; `records.rs` is what people and programs see of it; `history.rs` turns
//! the one into the other, purely; `bus.rs` owns both and tells whoever listens; `log.rs` keeps what one
//! application is told; `told.rs` puts that into the words of the wire contract.
//!
//! Facts worth keeping go to `journal/`, and are told to an application's watchers once they are durable.
//!
//! Invariant: a record is changed by an event and by nothing else, so that events replayed from the
//! journal give the same records.

mod bus;
mod event;
mod history;
mod log;
mod logged;
mod records;
#[cfg(test)]
mod tests;
mod told;
mod totals;

pub(crate) use bus::{Facts, Missed};
pub(crate) use event::{
    Body, Event, Fact, JobEnd, OperatorMetrics, StagePlan, TaskMetrics, TaskName,
};
pub(crate) use history::History;
pub(crate) use log::EventLog;
pub(crate) use records::{
    Application, Commit, Job, Stage, State, Statement, Stream, StreamPartition, StreamProgress,
    Task, Worker, WorkerState,
};
pub(crate) use totals::{JOB_SECONDS, Totals};
