//! A stream's target tables: read before shares go out, committed to with each offer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use drumline_engine::fault::{self, Place};
use drumline_lake::{
    Catalog, Commit, Consumed, MadeBy, OffsetRange, RangeCounts, StagedFile, Table, TableName,
};
use drumline_proto::v1::{AssignedTable, HeldTopic, Offer, OfferedTable, StreamDefinition};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Partition, TableOffsets};
use crate::Error;

/// Name of a stream's dead-letter table.
pub(crate) fn dead_letters_of(definition: &StreamDefinition) -> &str {
    &definition.dead_letters
}

/// The tables that records of `topic` go to.
pub(crate) fn targets_of(definition: &StreamDefinition, topic: &str) -> BTreeSet<String> {
    let section = definition.topics.iter().find(|t| t.reads(topic));
    let routes = section.map(|topic| topic.all_routes()).unwrap_or_default();
    routes
        .into_iter()
        .map(|route| route.table)
        .chain([dead_letters_of(definition).to_owned()])
        .collect()
}

pub(super) fn all_targets(definition: &StreamDefinition) -> BTreeSet<String> {
    let routes = definition.topics.iter().flat_map(|t| t.all_routes());
    routes
        .map(|route| route.table)
        .chain([dead_letters_of(definition).to_owned()])
        .collect()
}

/// Opened tables, kept for as long as the master runs: each handle knows its table's newest version,
/// so that a commit does not read the log again.
#[derive(Debug, Clone)]
pub(crate) struct StreamTables {
    pub(super) catalog: Catalog,
    open: Arc<Mutex<HashMap<String, Table>>>,
    /// Tables that got rows, or moved, below the offsets that they held: by a replay of dead letters or a reset.
    gone_back: broadcast::Sender<String>,
}

/// Tells whoever goes on from a table's offsets that there may be more below them: when it goes, so also after a commit
/// that failed, or that nobody waited for, and may have landed.
#[must_use]
pub(super) struct GoesBack {
    table: String,
    told: broadcast::Sender<String>,
}

impl Drop for GoesBack {
    fn drop(&mut self) {
        // Nobody listens: there is no table that goes on from these offsets.
        let _ = self.told.send(std::mem::take(&mut self.table));
    }
}

/// What status shows of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableProgress {
    pub(crate) rows: u64,
    pub(crate) version: u64,
    /// Files and bytes that it holds, or that one commit added.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Records that one commit went past, and dead letters in it by what is wrong with them.
    pub(crate) records: u64,
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl StreamTables {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            open: Arc::default(),
            gone_back: broadcast::Sender::new(64),
        }
    }

    /// Held while a commit puts rows below the offsets of `table`, or moves these back.
    pub(super) fn goes_back(&self, table: &str) -> GoesBack {
        GoesBack {
            table: table.to_owned(),
            told: self.gone_back.clone(),
        }
    }

    /// The tables of which a [`GoesBack`] was held until now.
    pub(super) fn gone_back(&self) -> broadcast::Receiver<String> {
        self.gone_back.subscribe()
    }

    /// A table as it stands.
    pub(crate) async fn now(&self, name: &str) -> Result<drumline_lake::TableSnapshot, Error> {
        Ok(self.table(name).await?.snapshot().await?)
    }

    /// The handle of a table by the name a stream gives it.
    pub(super) async fn table(&self, name: &str) -> Result<Table, Error> {
        if let Some(table) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return Ok(table.clone());
        }
        let parsed = TableName::parse(name)?;
        let snapshot = self.catalog.refresh().await?;
        let object = snapshot
            .get(&parsed)
            .ok_or_else(|| Error::StreamTableMissing {
                table: parsed.to_string(),
            })?;
        let table = Table::open(self.catalog.lake(), &parsed, object).await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(open.entry(name.to_owned()).or_insert(table).clone())
    }

    /// Reads what every target of the stream holds. Handles are opened afresh: a table may have been
    /// dropped and made again since.
    pub(crate) async fn read(
        &self,
        definition: &StreamDefinition,
    ) -> Result<(TableOffsets, BTreeMap<String, TableProgress>), Error> {
        let mut offsets = TableOffsets::default();
        let mut progress = BTreeMap::new();
        for name in all_targets(definition) {
            self.open
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&name);
            let snapshot = self.table(&name).await?.snapshot().await?;
            let held = snapshot.offsets.iter().map(|((topic, partition), offset)| {
                (
                    Partition {
                        topic: topic.clone(),
                        partition: *partition,
                    },
                    *offset,
                )
            });
            offsets.0.insert(name.clone(), held.collect());
            progress.insert(
                name,
                TableProgress {
                    rows: snapshot.rows(),
                    version: snapshot.version,
                    files: snapshot.files.len() as u64,
                    bytes: snapshot.files.iter().map(|file| file.size).sum(),
                    ..TableProgress::default()
                },
            );
        }
        Ok((offsets, progress))
    }

    /// What a table's log tells of what it consumed; nothing if the table is gone.
    pub(super) async fn consumed(&self, name: &str) -> Result<Option<Consumed>, Error> {
        let parsed = TableName::parse(name)?;
        let snapshot = self.catalog.refresh().await?;
        let Some(object) = snapshot.get(&parsed) else {
            return Ok(None);
        };
        let table = Table::open(self.catalog.lake(), &parsed, object).await?;
        Ok(Some(table.consumed().await?))
    }

    /// URL of the lake.
    pub(crate) fn lake(&self) -> String {
        self.catalog.lake().root().to_string()
    }

    /// Where a new share's writers stage files.
    pub(crate) async fn write_targets(
        &self,
        definition: &StreamDefinition,
        topics: &BTreeSet<String>,
    ) -> Result<Vec<AssignedTable>, Error> {
        let names: BTreeSet<String> = topics
            .iter()
            .flat_map(|topic| targets_of(definition, topic))
            .collect();
        let mut assigned = Vec::new();
        for name in names {
            let attempt = Uuid::now_v7().to_string();
            let target = self.table(&name).await?.write_target(&attempt).await?;
            let write_target_json = serde_json::to_vec(&target).map_err(|source| Error::Bug {
                context: format!("write target of {name}: {source}"),
            })?;
            assigned.push(AssignedTable {
                table: name,
                write_target_json,
                schema_ipc: Vec::new(),
            });
        }
        Ok(assigned)
    }

    /// Which topics, by Kafka's own ids, the tables of these topics took their records from.
    pub(crate) async fn held_topics(
        &self,
        definition: &StreamDefinition,
        topics: &BTreeSet<String>,
    ) -> Result<Vec<HeldTopic>, Error> {
        let mut held = Vec::new();
        for topic in topics {
            for table in targets_of(definition, topic) {
                let snapshot = self.table(&table).await?.snapshot().await?;
                if let Some(id) = snapshot.topic_ids.get(topic) {
                    held.push(HeldTopic {
                        table,
                        topic: topic.clone(),
                        topic_id: id.clone(),
                    });
                }
            }
        }
        Ok(held)
    }

    /// Commits an offer of this definition's, one commit per table; returns what the tables now hold.
    pub(crate) async fn commit(
        &self,
        offer: &Offer,
        definition: u64,
    ) -> Result<(TableOffsets, BTreeMap<String, TableProgress>), Error> {
        let mut offsets = TableOffsets::default();
        let mut progress = BTreeMap::new();
        for (number, offered) in offer.tables.iter().enumerate() {
            fault::at(match number {
                0 => Place::CommitBegun,
                _ => Place::CommitBetween,
            });
            let table = self.table(&offered.table).await?;
            let ranges: Vec<OffsetRange> = ranges_of(offered);
            let held = ranges.iter().map(|range| {
                (
                    Partition {
                        topic: range.topic.clone(),
                        partition: range.partition,
                    },
                    range.to,
                )
            });
            offsets.0.insert(offered.table.clone(), held.collect());
            let files: Vec<StagedFile> = match offered.files_json.as_slice() {
                [] => Vec::new(),
                json => serde_json::from_slice(json).map_err(|source| Error::Bug {
                    context: format!("files of an offer: {source}"),
                })?,
            };
            let made_by = MadeBy::Stream {
                stream: offer.stream.clone(),
                epoch: offer.epoch,
                ranges,
                definition,
                lookups: offered.lookups.clone().into_iter().collect(),
            };
            let records = offered.ranges.iter().map(|range| range.to - range.from);
            let records = u64::try_from(records.sum::<i64>()).unwrap_or(0);
            let (count, bytes) = (files.len() as u64, files.iter().map(|file| file.size).sum());
            let committed = table.commit(Commit::append(made_by, files)).await?;
            let row = TableProgress {
                rows: committed.rows,
                version: committed.version,
                files: count,
                bytes,
                records,
                reasons: offered.reasons.clone().into_iter().collect(),
            };
            progress.insert(offered.table.clone(), row);
        }
        fault::at(Place::CommitLanded);
        Ok((offsets, progress))
    }
}

fn ranges_of(offered: &OfferedTable) -> Vec<OffsetRange> {
    let ranges = offered.ranges.iter().map(|range| OffsetRange {
        topic: range.topic.clone(),
        partition: range.partition,
        from: range.from,
        to: range.to,
        counts: range.counts.map(|counts| RangeCounts {
            records: counts.records,
            rows: counts.rows,
            filtered: counts.filtered,
            dead_letters: counts.dead_letters,
        }),
        topic_id: Some(range.topic_id.clone()).filter(|id| !id.is_empty()),
    });
    ranges.collect()
}
