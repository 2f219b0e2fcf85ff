//! TPC-DS: data and the 99 queries, both made by DuckDB's extension of that name.
//!
//! The specification (tpc.org/tpcds, version 3) defines data and queries; the extension fills the templates' parameters
//! in. `cargo xtask setup` brings it, pinned.

mod data;
mod queries;

pub use data::{TABLES, generate};
pub use queries::{EXCEPTIONS, Exception, all};
