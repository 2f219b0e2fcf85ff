//! What Drumline is tested with: real parts, started and stopped by tests.
//!
//! [`cluster`] starts real `drumline` processes and can kill or freeze each of them, [`kafka`] a real broker; [`gcs`]
//! stands in for Google Cloud Storage and can be made to fail, [`Registry`] for a schema registry, [`s3`] is an S3 server
//! of another make. [`outside`] and [`engines`] read what was written with other engines, [`plain_consumer`] reads Kafka
//! beside us, [`statements`] asks DuckDB what we are asked, [`answers`] compares two results, [`conformance`] is what
//! every object store of ours must do, [`lakes`] what is left of a lake when its writers die. For tests only: nothing
//! that ships depends on this crate.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answers;
pub mod chaos;
pub mod cluster;
pub mod conformance;
pub mod engines;
pub mod gcs;
pub mod kafka;
pub mod lakes;
pub mod outside;
pub mod plain_consumer;
mod process;
mod registry;
pub mod s3;
pub mod statements;
pub mod streams;

pub use cluster::Cluster;
pub use gcs::Gcs;
pub use kafka::Kafka;
pub use process::{Process, free_port, poll};
pub use registry::Registry;
pub use s3::S3;
