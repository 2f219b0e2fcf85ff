//! Kafka topics as tables.
//!
//! What is read is fixed when a statement is planned: half-open ranges of offsets, which filters on
//! `_partition`, `_offset` and `_timestamp` make smaller (`filter`), and which are cut into as many pieces as
//! threads read them (`ranges`). A scan always runs on workers, even where one task is enough (`place`): the
//! master reaches no broker and knows no secret. Nothing here sees Kafka: a worker brings a [`TopicReader`],
//! and the master a [`TopicTimes`] that asks one.

mod codec;
mod exec;
mod filter;
mod place;
mod provider;
mod ranges;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use drumline_proto::v1;

use crate::Result;

pub(crate) use codec::TopicScanCodec;
pub(crate) use exec::{desired_tasks, scale_up};
pub(crate) use place::{needs_workers, on_workers};
pub use provider::TopicTable;
pub use ranges::Span;

/// Columns of every record beside those of its value.
pub const POSITION_COLUMNS: [&str; 3] = ["_partition", "_offset", "_timestamp"];

/// Reads topics: what a worker has and a master has not.
pub trait TopicReader: fmt::Debug + Send + Sync {
    /// The records of a scan's one group of ranges. Shape: the wanted columns of the scan's schema, in its order.
    /// The stream ends with the ranges, and with an error where Kafka does not have them any more.
    fn read(&self, scan: v1::TopicScan) -> SendableRecordBatchStream;
}

/// A process's reader, as sessions carry it.
#[derive(Debug, Clone)]
pub(crate) struct Reader(pub(crate) Arc<dyn TopicReader>);

/// First offset of each partition, by instant (milliseconds since 1970).
pub type TimeOffsets = BTreeMap<i64, BTreeMap<i32, i64>>;

/// Knows where records stand in time.
#[async_trait]
pub trait TopicTimes: fmt::Debug + Send + Sync {
    /// For each instant the first offset of each partition whose record is not older. A partition without such a
    /// record is left out.
    async fn at(&self, source: &v1::TopicSource, instants: &[i64]) -> Result<TimeOffsets>;
}
