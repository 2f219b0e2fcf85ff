//! Kafka → staged files: the standing consumers of a worker, and the project's Kafka clients.
//!
//! One topic's way: `source` reads records in batches on a thread of its own and decodes them
//! (`decode`) → `pipeline` transforms (`transform`) and writes them to the lake (`roll`) →
//! `assignment` offers closed files with their offset ranges, as `machine` decides. Nothing here
//! commits: the master does, and a table is the only truth about what it holds.
//!
//! Must never: see DataFusion's distributed execution, or hand out an offer of a revoked epoch. No
//! other crate sees rdkafka. Read next: [`StreamHost`], then `machine.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod assignment;
mod budget;
mod counts;
mod decode;
mod error;
mod host;
pub mod kafka;
mod lookup;
mod machine;
mod partitioning;
mod pipeline;
mod places;
mod planner;
mod probe;
mod registry;
mod replay;
mod roll;
mod scan;
mod schema;
mod source;
mod tally;
mod transform;

pub use error::{Error, Result};
pub use host::{HostEvent, Options, SessionFactory, StreamHost};
pub use scan::TopicScans;
pub use transform::ReadQuery;
