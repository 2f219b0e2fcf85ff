//! Records to Arrow columns by declared schema. A record that does not fit becomes a dead letter,
//! alone: the records around it are untouched.

pub(crate) mod json;
mod letters;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::json::{Names, Slot};
pub(crate) use self::letters::Letters;
use self::value::{Cell, Column};
use crate::places::Places;
use crate::schema::{self, Declared};
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
}

/// Decoded records, and those that could not be.
#[derive(Debug)]
pub(crate) struct Batch {
    pub rows: RecordBatch,
    /// Where each row came from, with its bytes: a transform may still refuse it.
    pub origins: Origins,
    pub dead: Letters,
    /// Next position per place after this batch: beyond its records, or beyond control records.
    pub next: BTreeMap<i32, i64>,
}

/// The records behind rows, one after another in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    rows: Vec<Origin>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Origin {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<(usize, usize)>,
    value: (usize, usize),
}

impl Origins {
    fn push(&mut self, record: Record<'_>, value: &[u8]) {
        let mut keep = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            (start, self.bytes.len())
        };
        let (key, value) = (record.key.map(&mut keep), keep(value));
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
        });
    }

    /// The record behind a row.
    pub(crate) fn record(&self, row: usize) -> Option<Record<'_>> {
        let Origin {
            partition,
            offset,
            timestamp,
            key,
            value,
        } = self.rows.get(row)?;
        let bytes = |(start, end): (usize, usize)| self.bytes.get(start..end);
        Some(Record {
            partition: *partition,
            offset: *offset,
            timestamp: *timestamp,
            key: key.and_then(bytes),
            value: bytes(*value),
        })
    }

    /// Place and offset of every row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        let rows = self.rows.iter();
        rows.map(|origin| (origin.partition, origin.offset))
    }

    /// Place and offset of a row.
    pub(crate) fn position(&self, row: usize) -> Option<(i32, i64)> {
        self.rows
            .get(row)
            .map(|origin| (origin.partition, origin.offset))
    }
}

/// Decodes the records of one source.
#[derive(Debug)]
pub(crate) struct Decoder {
    places: Places,
    fields: Vec<Declared>,
    schema: SchemaRef,
    max_record_bytes: usize,
    names: Names,
    // Of the record at hand.
    slots: Vec<Slot>,
    cells: Vec<Cell>,
    scratch: String,
    // Of the batch at hand.
    columns: Vec<Column>,
    origins: Origins,
    dead: Letters,
    next: BTreeMap<i32, i64>,
    bytes: usize,
}

impl Decoder {
    pub(crate) fn new(topic: &str, fields: Vec<Declared>, max_record_bytes: usize) -> Result<Self> {
        Ok(Self {
            places: Places::one(topic),
            schema: schema::input(&fields),
            names: Names::new(fields.iter().map(|field| field.name.clone())),
            slots: vec![Slot::Missing; fields.len()],
            cells: vec![Cell::Null; fields.len()],
            columns: fields
                .iter()
                .map(|field| Column::new(&field.data_type))
                .collect::<Result<_>>()?,
            fields,
            max_record_bytes,
            scratch: String::new(),
            origins: Origins::default(),
            dead: Letters::new(Places::one(topic)),
            next: BTreeMap::new(),
            bytes: 0,
        })
    }

    /// Has records come from these topics.
    pub(crate) fn reading(mut self, places: &Places) -> Self {
        self.places = places.clone();
        self.dead = Letters::new(places.clone());
        self
    }

    /// Takes one record: as a row, or as a dead letter.
    pub(crate) fn push(&mut self, record: Record<'_>) {
        self.bytes += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
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
        self.origins.rows.len() + self.dead.len()
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
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| {
            Error::Bug {
                context: format!("decoded columns do not fit: {error}"),
            }
        })?;
        self.bytes = 0;
        Ok(Batch {
            rows,
            origins: std::mem::take(&mut self.origins),
            dead: std::mem::replace(&mut self.dead, Letters::new(self.places.clone())),
            next: std::mem::take(&mut self.next),
        })
    }

    /// Appends the record, or says why it cannot be.
    fn decode(&mut self, record: Record<'_>) -> Result<(), String> {
        let Some(value) = record.value else {
            return Err("null value".to_owned());
        };
        if value.len() > self.max_record_bytes {
            return Err(format!(
                "record of {} bytes is over the limit of {} bytes",
                value.len(),
                self.max_record_bytes
            ));
        }
        self.decode_value(record, value)
    }

    fn decode_value(&mut self, record: Record<'_>, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value)
            .map_err(|error| format!("invalid utf-8 at byte {}", error.valid_up_to()))?;
        json::scan(text, &mut self.names, &mut self.slots, &mut self.scratch).map_err(
            |malformed| {
                format!(
                    "malformed json at byte {}: {}",
                    malformed.at, malformed.what
                )
            },
        )?;
        for ((field, slot), cell) in self.fields.iter().zip(&self.slots).zip(&mut self.cells) {
            if field.required && matches!(slot, Slot::Missing | Slot::Null) {
                let what = if *slot == Slot::Null {
                    "null"
                } else {
                    "missing"
                };
                return Err(format!("required field {:?} is {what}", field.name));
            }
            *cell = value::cell(*slot, &field.data_type, text, &self.scratch)
                .ok_or_else(|| wrong_type(field, *slot))?;
        }
        for (column, cell) in self.columns.iter_mut().zip(&self.cells) {
            column.append(*cell, text, &self.scratch);
        }
        self.origins.push(record, value);
        Ok(())
    }
}

fn wrong_type(field: &Declared, slot: Slot) -> String {
    format!(
        "field {:?}: expected {}, found {}",
        field.name,
        field.sql_type,
        value::found(slot)
    )
}
