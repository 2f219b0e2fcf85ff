//! The master: plans, admits, routes and commits what applications ask for, and assigns streams.
//!
//! One statement goes through here in one direction: `applications/` receives it and decides, statement
//! by statement and attempt by attempt, what runs (`machine.rs`, pure) and does it (`runner.rs`);
//! `catalog/` binds its names to snapshots; `admission.rs` gives it cores and `routing.rs` a worker for
//! each task (both pure); `drumline-engine` runs it; `drumline-lake` commits what it wrote.
//! `facts/` records what happens and is what everything shown is read from.
//! `rest/` shows it as JSON, `traces/` sends it to a collector; `doors/` decides who comes in.
//! `cluster/` knows which workers there are; `streams/` assigns topic partitions to them.
//!
//! Must never: store rows (they pass through to a client at most), decide anything inside of a service,
//! or see the worker's crate.
//!
//! Read next: `server.rs`, where all of it is put together on one port.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod admission;
mod admitter;
mod applications;
mod backoff;
mod catalog;
mod cluster;
mod doors;
mod error;
// Not all that is recorded is shown yet.
#[allow(dead_code)]
mod facts;
mod failure;
mod journal;
mod lock;
mod metrics;
mod notify;
mod options;
mod page;
mod rest;
mod routing;
mod server;
mod streams;
mod system;
mod topics;
mod traces;
mod upkeep;

pub use drumline_engine::LogTail;
pub use error::{Error, Result};
pub use notify::Webhook;
pub use options::{Authentication, Options, TopicBrokers};
pub use server::{Handle, start};
pub use traces::Collector;
