//! A stream's target tables: made at apply, read before shares go out, committed to with each offer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use drumline_engine::fault::{self, Place};
use drumline_lake::{
    Catalog, Commit, Consumed, Format, MadeBy, NewTable, OffsetRange, RangeCounts, StagedFile,
    StatementId, Table, TableName,
};
use drumline_proto::v1::{
    AssignedTable, HeldTopic, Offer, OfferedTable, PartitionEdges, StartFrom, StreamDefinition,
};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Partition, TableOffsets};
use crate::Error;

/// Columns and place of one target table, for a stream that is being applied.
pub(crate) struct Target {
    pub(crate) name: TableName,
    /// As the definition has it.
    pub(crate) text: String,
    pub(crate) location: Option<String>,
    pub(crate) format: Format,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: Vec<String>,
    /// Key of the definition that names it, for messages.
    pub(crate) key: String,
    /// Whether columns that an existing table lacks are added: a registered schema got them.
    pub(crate) may_grow: bool,
    /// Whether columns get a wider type where that is wanted: the topic's records needed it.
    pub(crate) may_widen: bool,
}

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
    catalog: Catalog,
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

    /// Makes the targets that do not exist. An existing one must have columns and partitions that fit; one of the
    /// stream's `own` gets those that it has not. The error's first part is the key of the definition it is about.
    pub(crate) async fn ensure(
        &self,
        stream: &str,
        targets: &[Target],
        own: &BTreeSet<String>,
    ) -> Result<(), (String, Error)> {
        let snapshot = self
            .catalog
            .refresh()
            .await
            .map_err(|e| ("lake".to_owned(), e.into()))?;
        for target in targets {
            let schema_is_new = !snapshot
                .schemas()
                .any(|schema| schema == target.name.schema);
            let keyed = |error: drumline_lake::Error| (target.key.clone(), Error::from(error));
            if schema_is_new {
                let schema = target.name.schema.clone();
                let put = || {
                    vec![drumline_lake::Change::PutSchema {
                        schema: schema.clone(),
                    }]
                };
                self.catalog.change(|_| Ok(put())).await.map_err(keyed)?;
            }
            let new = NewTable {
                name: target.name.clone(),
                format: target.format,
                location: target.location.clone(),
                schema: Arc::clone(&target.schema),
                partition_columns: target.partition_by.clone(),
                properties: BTreeMap::new(),
                comment: None,
                column_comments: Default::default(),
                or_replace: false,
                created_by: None,
            };
            let table = Table::create(&self.catalog, new, true)
                .await
                .map_err(keyed)?;
            let held = table.snapshot().await.map_err(keyed)?;
            let may_grow = target.may_grow || own.contains(&target.text);
            if let Some(difference) = difference(target, &held, may_grow) {
                let table = target.name.to_string();
                return Err((
                    target.key.clone(),
                    Error::StreamTableDiffers { table, difference },
                ));
            }
            grow(&table, stream, target, &held).await.map_err(keyed)?;
        }
        Ok(())
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

    /// Has topics that nothing was read of yet begin where the definition says: the tables hold that as their
    /// offsets from now on, so that whoever reads, and whenever, begins there.
    pub(crate) async fn begin_at(
        &self,
        definition: &StreamDefinition,
        edges: &[PartitionEdges],
    ) -> Result<(), Error> {
        if edges.is_empty() {
            return Ok(());
        }
        let (held, _) = self.read(definition).await?;
        for (name, ranges) in beginnings(definition, &held, edges)? {
            let made_by = MadeBy::Stream {
                stream: definition.name.clone(),
                epoch: 0,
                ranges,
                definition: definition.revision,
                lookups: BTreeMap::new(),
            };
            let files = Vec::new();
            let table = self.table(&name).await?;
            table.commit(Commit::append(made_by, files)).await?;
        }
        Ok(())
    }

    /// Has tables that hold nothing of a partition begin where the others stand.
    pub(crate) async fn begin_beside(&self, definition: &StreamDefinition) -> Result<(), Error> {
        let (held, _) = self.read(definition).await?;
        let mut positions = BTreeMap::new();
        for (partition, offset) in held.0.values().flatten() {
            let least = positions.entry(partition.clone()).or_insert(*offset);
            *least = (*least).min(*offset);
        }
        positions.retain(|partition, _| {
            let mut topics = definition.topics.iter();
            topics.any(|topic| topic.reads(&partition.topic))
        });
        let edge = |(partition, offset): (Partition, i64)| PartitionEdges {
            topic: partition.topic,
            partition: partition.partition,
            first: offset,
            end: offset,
            start: offset,
            until: None,
        };
        let edges: Vec<_> = positions.into_iter().map(edge).collect();
        self.begin_at(definition, &edges).await
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

/// Empty ranges, by table, for the tables that have no offset yet: where the topic is to begin. One that begins with
/// the latest records does so once: where something of it was read, a table begins beside the topic's others, and of
/// a partition that the topic got later all is new.
fn beginnings(
    definition: &StreamDefinition,
    held: &TableOffsets,
    edges: &[PartitionEdges],
) -> Result<BTreeMap<String, Vec<OffsetRange>>, Error> {
    let mut beginnings: BTreeMap<String, Vec<OffsetRange>> = BTreeMap::new();
    for edge in edges {
        let partition = &Partition {
            topic: edge.topic.clone(),
            partition: edge.partition,
        };
        let own = held.of(partition);
        let targets = targets_of(definition, &partition.topic);
        let offsets = |table: &String| held.0.get(table).into_iter().flatten();
        let is_begun = targets
            .iter()
            .flat_map(offsets)
            .any(|(other, _)| other.topic == partition.topic);
        let others = targets.iter().filter_map(|table| own.get(table)).min();
        let is_latest = definition.start_of(&edge.topic).from() == StartFrom::Latest;
        let start = match (is_latest && is_begun, others, edge.until) {
            (false, _, _) => edge.start,
            (true, Some(other), _) => *other,
            (true, None, Some(_)) => edge.first,
            (true, None, None) => continue,
        };
        for table in targets.iter().filter(|table| !own.contains_key(*table)) {
            if !(edge.first..=edge.end).contains(&start) && others != Some(&start) {
                return Err(Error::StreamStart {
                    topic: edge.topic.clone(),
                    partition: edge.partition,
                    start,
                    first: edge.first,
                    end: edge.end,
                });
            }
            beginnings
                .entry(table.clone())
                .or_default()
                .push(OffsetRange {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    from: start,
                    to: start,
                    counts: Some(RangeCounts::default()),
                    topic_id: None,
                });
        }
    }
    Ok(beginnings)
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

/// Adds the columns that a table has not.
async fn grow(
    table: &Table,
    stream: &str,
    target: &Target,
    held: &drumline_lake::TableSnapshot,
) -> drumline_lake::Result<()> {
    let fields = target.schema.fields().iter();
    let more: Vec<FieldRef> = fields
        .filter(|field| held.schema.index_of(field.name()).is_err())
        .cloned()
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    // Each apply is a statement of its own: what is there already stays as it is.
    let statement = StatementId {
        application: format!("stream/{stream}/{}", Uuid::now_v7()),
        ordinal: 0,
        text_hash: 0,
    };
    table
        .add_columns(&Schema::new(more), true, statement)
        .await?;
    Ok(())
}

/// How an existing table is not what the stream would make, in words.
fn difference(
    target: &Target,
    held: &drumline_lake::TableSnapshot,
    may_grow: bool,
) -> Option<String> {
    if held.partition_columns != target.partition_by {
        return Some(format!(
            "it is partitioned by ({}), the stream by ({})",
            held.partition_columns.join(", "),
            target.partition_by.join(", ")
        ));
    }
    let mut fields = target.schema.fields().iter();
    fields.find_map(|field| {
        let name = field.name();
        match held.schema.field_with_name(name) {
            Err(_) if may_grow => None,
            Err(_) => Some(format!("it has no column `{name}`")),
            Ok(column) if fits(field.data_type(), column.data_type()) => None,
            Ok(column) if target.may_widen && is_wider(held.format, column, field) => None,
            Ok(column) => Some(format!(
                "its column `{name}` is {}, the stream yields {}",
                column.data_type(),
                field.data_type()
            )),
        }
    })
}

/// Whether what is wanted holds everything that the column does.
fn is_wider(format: Format, column: &Field, wanted: &Field) -> bool {
    drumline_lake::widens(format, column.data_type(), wanted.data_type()).is_some()
}

/// Whether a column can hold all values that a stream yields for it, or nearly all: the rest are dead letters.
fn fits(yielded: &DataType, column: &DataType) -> bool {
    use DataType::{Binary, Date32, Decimal128, Float32, Float64, Null, Timestamp, Utf8};
    match (yielded, column) {
        (Null, _) => true,
        (one, other) if one.is_integer() && other.is_integer() => true,
        (one, Float32 | Float64 | Decimal128(..)) if one.is_numeric() => true,
        (Timestamp(..), Timestamp(..)) | (Date32, Timestamp(..)) => true,
        (Utf8, DataType::LargeUtf8 | DataType::Utf8View) => true,
        (Binary, DataType::LargeBinary | DataType::BinaryView) => true,
        // Formats name the parts of nested columns each in its own way.
        (one, other) if one.is_nested() => other.is_nested(),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::TopicDefinition;

    use super::*;

    fn partition(partition: i32) -> Partition {
        Partition {
            topic: "t".to_owned(),
            partition,
        }
    }

    /// What tables `rows` and `letters` of a topic that begins with the latest records begin at, given what they
    /// hold; partitions end at 90.
    fn begun(
        rows: &[(i32, i64)],
        letters: &[(i32, i64)],
        partitions: i32,
    ) -> Vec<(String, i32, i64)> {
        let edges: Vec<_> = (0..partitions).map(|p| edge(p, 90, None)).collect();
        begun_at(StartFrom::Latest, rows, letters, &edges).unwrap()
    }

    fn edge(partition: i32, start: i64, until: Option<i64>) -> PartitionEdges {
        PartitionEdges {
            topic: "t".to_owned(),
            partition,
            first: 5,
            end: 90,
            start,
            until,
        }
    }

    fn begun_at(
        from: StartFrom,
        rows: &[(i32, i64)],
        letters: &[(i32, i64)],
        edges: &[PartitionEdges],
    ) -> Result<Vec<(String, i32, i64)>, Error> {
        let definition = StreamDefinition {
            start_from: from.into(),
            dead_letters: "letters".to_owned(),
            topics: vec![TopicDefinition {
                topic: "t".to_owned(),
                table: "rows".to_owned(),
                ..TopicDefinition::default()
            }],
            ..StreamDefinition::default()
        };
        let offsets = |held: &[(i32, i64)]| {
            held.iter()
                .map(|(p, next)| (partition(*p), *next))
                .collect()
        };
        let held = TableOffsets(BTreeMap::from([
            ("rows".to_owned(), offsets(rows)),
            ("letters".to_owned(), offsets(letters)),
        ]));
        let begun = beginnings(&definition, &held, edges)?.into_iter();
        let each = begun.flat_map(|(table, ranges)| {
            ranges.into_iter().map(move |range| {
                assert_eq!(range.from, range.to);
                (table.clone(), range.partition, range.to)
            })
        });
        Ok(each.collect())
    }

    fn at(table: &str, partition: i32, offset: i64) -> (String, i32, i64) {
        (table.to_owned(), partition, offset)
    }

    #[test]
    fn new_topic_begins_at_its_end_in_every_table() {
        assert_eq!(
            begun(&[], &[], 1),
            [at("letters", 0, 90), at("rows", 0, 90)]
        );
    }

    #[test]
    fn a_table_without_an_offset_begins_where_the_topic_does() {
        let begun = |start| begun_at(StartFrom::Offsets, &[(0, 40)], &[], &[edge(0, start, None)]);
        assert_eq!(begun(20).unwrap(), [at("letters", 0, 20)]);
        let error = begun(4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic t partition 0 has offsets 5 to 90, so it cannot begin at 4"
        );
        assert!(begun(91).is_err());
    }

    #[test]
    fn a_bounded_stream_takes_a_later_partition_from_its_first_record() {
        let edges = [edge(0, 90, Some(90)), edge(1, 90, Some(90))];
        let begun = begun_at(StartFrom::Latest, &[(0, 40)], &[(0, 40)], &edges).unwrap();
        assert_eq!(begun, [at("letters", 1, 5), at("rows", 1, 5)]);
    }

    #[test]
    fn table_that_was_left_out_begins_beside_the_other() {
        assert_eq!(begun(&[(0, 40)], &[], 1), [at("letters", 0, 40)]);
        assert_eq!(begun(&[(0, 40)], &[(0, 30)], 1), []);
    }

    #[test]
    fn partition_that_came_later_is_read_from_its_first_record() {
        assert_eq!(begun(&[(0, 40)], &[(0, 40)], 2), []);
    }
}
