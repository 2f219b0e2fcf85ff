//! A worker: the process on each machine that runs tasks and consumes streams.
//!
//! It owns no truth. It runs the tasks that the master's jobs send it (`engine::server`), consumes
//! the partitions that the master assigns (`ingest::StreamHost`), and keeps one call open to the
//! master (`membership.rs`). When that call ends, everything it was assigned is void: it drops its
//! open files and asks again. It never commits.
//!
//! Read `run.rs` for how the parts are put together.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod leave;
mod membership;
mod metrics;
mod options;
mod run;
mod topics;

pub use drumline_engine::LogTail;
pub use error::Error;
pub use membership::State;
pub use options::{Options, TokenSource};
pub use run::{Handle, random_id, start};
