//! What Drumline is tested with: real parts, started and stopped by tests.
//!
//! [`cluster`] starts real `drumline` processes and can kill or freeze each of them;
//! [`gcs`] stands in for Google Cloud Storage and can be made to fail. [`conformance`] is
//! what every object store of ours must do, [`answers`] compares two results. For tests only:
//! nothing that ships depends on this crate.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answers;
pub mod cluster;
pub mod conformance;
pub mod gcs;
mod process;

pub use cluster::Cluster;
pub use gcs::Gcs;
pub use process::{Process, free_port, poll};
