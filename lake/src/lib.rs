//! Tables on object stores: stores by URL, the catalog log, snapshots, staged writes, commits.
//!
//! Owns everything that is ever written to a lake: the catalog (`<root>/_drumline/catalog/`), the commit
//! records of plain Parquet tables, Delta logs, staged and published data files. A row is visible if and
//! only if a commit names its file, and every commit carries what made it (a statement, or stream offsets),
//! so that it is safe to repeat.
//!
//! Must never: distribute work, talk to Kafka, decide what to run. Only this crate sees `deltalake-core`.
//!
//! Read next: [`Catalog`] for names, [`Table`] for commits and snapshots, [`Writer`] for staging files,
//! [`PreparedCopy`] for files that belong to no table.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod catalog;
mod columns;
#[doc(hidden)]
pub mod conformance;
mod copy;
mod error;
mod hive;
mod locations;
mod moved;
mod name;
mod probe;
mod provider;
mod read;
mod record_log;
mod requests;
mod root;
mod snapshot;
mod statistics;
mod stores;
mod table;
mod upkeep;
mod writer;

pub use catalog::{
    Catalog, CatalogSnapshot, Change, Changed, External, FileFormat, Format, Object, ObjectKind,
    StatementId, StreamObject,
};
pub use columns::{NOT_NULL, widens};
pub use copy::{Copying, Existing, NewCopy, PreparedCopy};
pub use error::{Error, ErrorKind, Result};
pub use hive::too_long;
pub use locations::Locations;
pub use name::{DEFAULT_SCHEMA, TableName};
pub use probe::{Finding, Health, probe};
pub use read::FileRows;
pub use requests::Requests;
pub use root::Lake;
pub use snapshot::{AsOf, DataFile, FILE_COLUMN, ROW_COLUMN, TableSnapshot, Version};
pub use stores::{BucketSettings, Stores};
pub use table::{
    Commit, Committed, Consumed, ConsumedBy, MadeBy, NewTable, OffsetMove, OffsetRange, Operation,
    PreparedTable, RangeCounts, Redefinition, Table, TableChange, replay_id,
};
pub use upkeep::{
    Candidate, Compaction, Expired, Lease, Leftover, Retention, Turn, Vacuum, Vacuumed, Wishes,
};
pub use writer::{Codec, Encoding, SortColumn, StagedFile, WriteOptions, WriteTarget, Writer};
