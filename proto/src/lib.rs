//! The wire contracts: applications, streams, cluster, access and tasks (`drumline/v1/*.proto`).
//!
//! Compiled by protox, so no `protoc` has to be installed. This crate sees neither DataFusion nor
//! Kafka: plans, schemas and files travel as bytes whose owner is named beside each field.

pub mod kafka;

/// Messages, clients and servers of `drumline.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("drumline.v1");
}

mod streams;

pub use streams::PartitionColumn;

/// The path of every method of every service in the contracts.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// What a master that stops in good order says, as the message of a status `UNAVAILABLE`, to who waits for
/// something that it goes on with when it is started again.
pub const MASTER_GOES: &str =
    "the master is stopping, and goes on with its applications when it is started again";

/// The build that both ends of a cluster connection must share.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
