//! Records to Arrow columns. A record that does not fit becomes a dead letter, alone: the records
//! around it are untouched.
//!
//! [`Decoder`] is what all formats share: positions, limits, null values, the columns that a record has
//! beside its value, dead letters. A [`Format`] makes the columns of the value; [`plan`] says which, from
//! the topic's definition. JSON by declared schema (`json`, `value`) is the fast path.

mod avro;
mod beside;
mod csv;
mod debezium;
mod flat;
pub(crate) mod found;
pub(crate) mod headers;
pub(crate) mod json;
pub(crate) mod letters;
mod nested;
pub(crate) mod plan;
mod protobuf;
mod raw;
mod value;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};

use self::beside::Beside;
use self::found::Found;
pub(crate) use self::headers::Headers;
pub(crate) use self::letters::Letters;
pub(crate) use self::plan::{Decoding, registry};
use crate::places::Places;
use crate::{Error, Result};

/// A record as Kafka has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its place: the partition, where a source reads one topic only.
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// Decoded records, and those that could not be.
#[derive(Debug)]
pub(crate) struct Batch {
    pub rows: RecordBatch,
    /// Where each row came from, with its bytes: a transform may still refuse it.
    pub origins: Origins,
    pub dead: Letters,
    /// Places and offsets of null values that were left out.
    pub skipped: Vec<(i32, i64)>,
    /// Next position per place after this batch: beyond its records, or beyond control records.
    pub next: BTreeMap<i32, i64>,
}

/// The records behind rows, one after another in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    rows: Vec<Origin>,
    bytes: Vec<u8>,
    /// How many rows and bytes to make room for when the first row comes.
    room: (usize, usize),
}

#[derive(Debug, Clone, Copy)]
struct Origin {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    headers: (usize, usize),
}

impl Origins {
    fn push(&mut self, record: Record<'_>) {
        if self.rows.is_empty() {
            self.rows.reserve_exact(self.room.0);
            self.bytes.reserve_exact(self.room.1);
        }
        let mut keep = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            (start, self.bytes.len())
        };
        let (key, value) = (record.key.map(&mut keep), record.value.map(&mut keep));
        let headers = keep(record.headers.bytes());
        let Record {
            partition,
            offset,
            timestamp,
            ..
        } = record;
        self.rows.push(Origin {
            partition,
            offset,
            timestamp,
            key,
            value,
            headers,
        });
    }

    /// Everything so far. What comes next is likely to be as much, so that there will be room for it at once; only
    /// when it comes: an idle topic holds nothing.
    fn take(&mut self) -> Self {
        let room = (self.rows.len(), self.bytes.len());
        let next = Self {
            room,
            ..Self::default()
        };
        std::mem::replace(self, next)
    }

    /// The record behind a row.
    pub(crate) fn record(&self, row: usize) -> Option<Record<'_>> {
        let Origin {
            partition,
            offset,
            timestamp,
            key,
            value,
            headers,
        } = self.rows.get(row)?;
        let bytes = |(start, end): (usize, usize)| self.bytes.get(start..end);
        Some(Record {
            partition: *partition,
            offset: *offset,
            timestamp: *timestamp,
            key: key.and_then(bytes),
            value: value.and_then(bytes),
            headers: Headers::from_bytes(bytes(*headers)?),
        })
    }

    /// Place and offset of every row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        let rows = self.rows.iter();
        rows.map(|origin| (origin.partition, origin.offset))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Keeps these rows, in this order.
    fn arrange(&mut self, order: &[usize]) {
        let rows = order.iter().filter_map(|row| self.rows.get(*row).copied());
        self.rows = rows.collect();
    }

    /// Place and offset of a row.
    pub(crate) fn position(&self, row: usize) -> Option<(i32, i64)> {
        self.rows
            .get(row)
            .map(|origin| (origin.partition, origin.offset))
    }
}

/// What makes columns of values.
pub(crate) trait Format: std::fmt::Debug + Send {
    /// Takes a value as the next row, or says why it cannot be one; then nothing of it is kept.
    fn take(&mut self, value: &[u8]) -> Result<(), String>;

    /// The same, where the record's key may say what the value leaves open.
    fn take_keyed(&mut self, value: &[u8], _key: Option<&[u8]>) -> Result<(), String> {
        self.take(value)
    }

    /// Takes a row without any value.
    fn take_null(&mut self);

    /// The row that was taken is the last of `origins` now.
    fn kept(&mut self, _origins: &Origins) {}

    /// The columns of the rows taken since the last time, which are those of `origins`.
    fn finish(&mut self, origins: &Origins) -> Result<Rows>;

    /// Fields of this value that need a column, or a wider one.
    fn found(&mut self, _value: &[u8]) -> Found {
        Found::new()
    }

    /// Why this value has to wait (its schema is not at hand), if it has to. Asked again and again.
    fn waits(&mut self, _value: &[u8]) -> Option<String> {
        None
    }
}

/// What a format made of its values.
#[derive(Debug)]
pub(crate) struct Rows {
    pub schema: SchemaRef,
    pub columns: Vec<ArrayRef>,
    /// Rows that turned out to be none, in order, and why; the columns are without them.
    pub refused: Vec<(usize, String)>,
    /// Which of the batch's rows each row of the columns is, where they are not in the batch's order.
    pub order: Option<Vec<usize>>,
}

/// What becomes of a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tombstones {
    DeadLetter,
    Skip,
    Row,
}

/// Decodes the records of one source.
#[derive(Debug)]
pub(crate) struct Decoder {
    places: Places,
    max_record_bytes: usize,
    tombstones: Tombstones,
    format: Box<dyn Format>,
    // Of the batch at hand.
    beside: Beside,
    origins: Origins,
    dead: Letters,
    skipped: Vec<(i32, i64)>,
    next: BTreeMap<i32, i64>,
    bytes: usize,
}

impl Decoder {
    pub(crate) fn new(
        topic: &str,
        format: Box<dyn Format>,
        beside: Beside,
        tombstones: Tombstones,
        max_record_bytes: usize,
    ) -> Self {
        Self {
            places: Places::one(topic),
            max_record_bytes,
            tombstones,
            format,
            beside,
            origins: Origins::default(),
            dead: Letters::new(Places::one(topic)),
            skipped: Vec::new(),
            next: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// JSON objects by these fields, and nothing beside.
    #[cfg(test)]
    pub(crate) fn json(
        topic: &str,
        fields: Vec<crate::schema::Declared>,
        max_record_bytes: usize,
    ) -> Self {
        let format = Box::new(flat::Json::new(fields).unwrap());
        let beside = Beside::new(beside::Wanted::default());
        Self::new(
            topic,
            format,
            beside,
            Tombstones::DeadLetter,
            max_record_bytes,
        )
    }

    /// Takes values, of partition 0 from this offset on.
    #[cfg(test)]
    pub(crate) fn push_values(&mut self, first: i64, values: &[String]) {
        for (offset, value) in (first..).zip(values) {
            self.push(Record {
                partition: 0,
                offset,
                timestamp: None,
                key: None,
                value: Some(value.as_bytes()),
                headers: Headers::default(),
            });
        }
    }

    /// Whether headers become a column.
    pub(crate) fn wants_headers(&self) -> bool {
        self.beside.wants_headers()
    }

    /// Why the record cannot be taken yet, if it cannot: nothing is lost while a registry is away.
    pub(crate) fn waits(&mut self, record: Record<'_>) -> Option<String> {
        let value = record
            .value
            .filter(|value| value.len() <= self.max_record_bytes)?;
        self.format.waits(value)
    }

    /// Fields of the record that need a column, or a wider one, before it can be taken.
    pub(crate) fn found(&mut self, value: Option<&[u8]>) -> Found {
        let value = value.filter(|value| value.len() <= self.max_record_bytes);
        value.map_or_else(Found::new, |value| self.format.found(value))
    }

    /// Has records come from these topics.
    pub(crate) fn reading(mut self, places: &Places) -> Self {
        self.places = places.clone();
        self.dead = Letters::new(places.clone());
        self
    }

    /// Takes one record: as a row, or as a dead letter.
    pub(crate) fn push(&mut self, record: Record<'_>) {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        self.bytes += length(record.value) + length(record.key) + record.headers.bytes().len();
        self.advance(record.partition, record.offset + 1);
        if let Err(reason) = self.decode(record) {
            self.dead.push(record, &reason);
        }
    }

    /// Moves a partition's position without a record.
    pub(crate) fn advance(&mut self, partition: i32, next: i64) {
        let position = self.next.entry(partition).or_insert(next);
        *position = next.max(*position);
    }

    /// Records taken since the last batch.
    pub(crate) fn records(&self) -> usize {
        self.origins.rows.len() + self.dead.len() + self.skipped.len()
    }

    /// Bytes of those records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Everything since the last batch.
    pub(crate) fn finish(&mut self) -> Result<Batch> {
        let bug = |error: arrow::error::ArrowError| Error::Bug {
            context: format!("decoded columns do not fit: {error}"),
        };
        let Rows {
            schema,
            mut columns,
            refused,
            order,
        } = self.format.finish(&self.origins)?;
        let mut beside = self.beside.finish();
        for (row, reason) in &refused {
            if let Some(record) = self.origins.record(*row) {
                self.dead.push(record, reason);
            }
        }
        let order = order.or_else(|| {
            let gone: BTreeSet<usize> = refused.iter().map(|(row, _)| *row).collect();
            let rows = 0..self.origins.len();
            (!gone.is_empty()).then(|| rows.filter(|row| !gone.contains(row)).collect())
        });
        let is_other = |order: &Vec<usize>| !order.iter().copied().eq(0..self.origins.len());
        if let Some(order) = order.filter(is_other) {
            self.origins.arrange(&order);
            let order: UInt64Array = order.iter().map(|row| *row as u64).collect();
            for column in &mut beside {
                *column = take(column, &order, None).map_err(bug)?;
            }
        }
        columns.extend(beside);
        let fields = schema.fields().iter().cloned();
        let fields: Vec<_> = fields.chain(self.beside.fields()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.origins.len()));
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options).map_err(bug)?;
        self.bytes = 0;
        Ok(Batch {
            rows,
            origins: self.origins.take(),
            dead: std::mem::replace(&mut self.dead, Letters::new(self.places.clone())),
            skipped: std::mem::take(&mut self.skipped),
            next: std::mem::take(&mut self.next),
        })
    }

    /// Appends the record, or says why it cannot be.
    fn decode(&mut self, record: Record<'_>) -> Result<(), String> {
        self.beside.check(record)?;
        match (record.value, self.tombstones) {
            (None, Tombstones::DeadLetter) => return Err("null value".to_owned()),
            (None, Tombstones::Skip) => {
                self.skipped.push((record.partition, record.offset));
                return Ok(());
            }
            (None, Tombstones::Row) => self.format.take_null(),
            (Some(value), _) if value.len() > self.max_record_bytes => {
                return Err(format!(
                    "record of {} bytes is over the limit of {} bytes",
                    value.len(),
                    self.max_record_bytes
                ));
            }
            (Some(value), _) => self.format.take_keyed(value, record.key)?,
        }
        self.beside.take(record);
        self.origins.push(record);
        self.format.kept(&self.origins);
        Ok(())
    }
}
