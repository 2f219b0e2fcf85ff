//! What a table's log tells of what it consumed, record by record: for those who check it against Kafka.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{MadeBy, Table};
use crate::{Result, TableSnapshot};

/// Records that are read at a time.
const AT_A_TIME: usize = 32;

/// All that a table's log still tells, and what the table holds after it.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// The newest version.
    pub snapshot: TableSnapshot,
    /// The first version whose record is there: 0, unless records were removed after a checkpoint.
    pub first: u64,
    /// One record per version, from the first to the newest.
    pub records: Vec<ConsumedBy>,
}

/// What one record tells.
#[derive(Debug, Clone, Default)]
pub struct ConsumedBy {
    /// The version it made.
    pub version: u64,
    /// What made it, if Drumline did. A stream's ranges are empty where an older build wrote it.
    pub made_by: Option<MadeBy>,
    /// Who made it, for people.
    pub words: String,
    /// All of the table's offsets after it; none in records of others.
    pub offsets: Option<BTreeMap<String, BTreeMap<i32, i64>>>,
    /// What Delta's own application transactions say beside them: topic, partition, next position.
    pub transactions: Vec<(String, i32, i64)>,
    /// Rows in files it added; none where it does not tell.
    pub rows_added: Option<u64>,
    /// It took files away.
    pub removes: bool,
    /// It moved rows between files, and changed none.
    pub rearranges_only: bool,
}

impl Table {
    /// Reads the whole log, as far as it is there.
    pub async fn consumed(&self) -> Result<Consumed> {
        let snapshot = self.snapshot().await?;
        let first = self.log.first_told(snapshot.version).await?;
        let reads: Vec<_> = (first..=snapshot.version)
            .map(|version| self.log.consumed(version).boxed())
            .collect();
        let records = stream::iter(reads)
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        Ok(Consumed {
            snapshot,
            first,
            records,
        })
    }
}
