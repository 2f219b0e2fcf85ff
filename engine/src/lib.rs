//! Sessions and distributed execution: the only place where a DataFusion session is built, and the only
//! crate that sees `datafusion-distributed`.
//!
//! Owns functions, settings and how they reach the workers, SQL that DataFusion does not have, the
//! staged write node, the plan codecs, and the transport between processes: task control as our own gRPC
//! service, rows as Arrow Flight.
//!
//! Must never: decide when a job runs or on which workers (the host passes them in), keep state between
//! jobs, or commit anything.
//!
//! Read next: [`Engine`] (the master's side), [`server::TaskHost`] (the worker's side), [`job`], and
//! `transport/` for what happens between them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod board;
mod classify;
mod engine;
mod error;
mod explain;
pub mod fault;
mod fences;
mod float_bounds;
pub mod functions;
mod interrupt;
pub mod job;
mod joins;
mod lake_write;
mod launch;
mod lenient;
mod logs;
mod meaning;
mod memory;
mod one_task;
mod options;
mod orders;
mod planner;
mod process;
pub mod rebind;
pub mod route;
mod row_numbers;
mod scan;
pub mod server;
mod session;
mod settings;
pub mod sql;
mod stages;
mod tasks;
mod topics;
mod transport;
mod windows;
mod work;

pub use engine::{Engine, Query};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use job::Job;
pub use lake_write::{Counts, staged_counts, staged_files};
pub use logs::{LogLine, LogTail};
pub use memory::Exhausted;
pub use options::{Keepalive, Options, WorkerTarget};
pub use planner::{
    Copy, CreateTable, Definition, Doubled, Extend, Foreign, Fresh, NameChange, Overwrite, Planned,
    Replaced, Resolved, Rewrite, SYSTEM_SCHEMA, Source, TOPICS_SCHEMA, TableRef, Tables, Vacuum,
    Write, WriteMode, names_in,
};
pub use process::Process;
pub use session::{local_session, runtime};
pub use settings::DrumlineSettings;
pub use sql::Statement;
pub use topics::{Span, TimeOffsets, TopicReader, TopicTable, TopicTimes};
