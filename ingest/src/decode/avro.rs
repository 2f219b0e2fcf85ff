//! Avro records with the id of the schema they were written in.
//!
//! Every record is resolved from its writer's schema to one reader's schema, so any number of versions in one topic makes
//! one batch and the same files: nearly all go into the same columns ([`shared`]).
//!
//! Where that is not possible, a version has a decoder and columns of its own until the batch ends, so its rows stand
//! together in it: to put them back among the others would cost more than to copy whole columns. Where such versions
//! alternate, values wait among the batch's records until there are some of each: a decoder that takes a few in a row
//! finds itself in the processor's cache, and its branches foreseen.

mod references;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{concat, filter_record_batch, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};

use self::shared::{Shared, Version};
use super::nested::{plain, plain_field, strict, within_precision};
use super::wire::{Framing, split};
use super::{Format, Origins, Rows};
use crate::registry::Registered;
use crate::schema::{self, Declared};
use crate::{Error, Result};

/// More rows than a batch ever has: a decoder that is full would not take the next one.
const ROWS: usize = 1 << 20;

/// How many bytes of values wait for others of their version.
const WINDOW: usize = 128 << 10;

/// The schema that every record is read in, and what of it is wanted.
#[derive(Debug)]
pub(crate) struct AvroPlan {
    reader: String,
    /// As the decoder has it.
    own: SchemaRef,
    natural: Arc<Schema>,
    declared: Vec<Declared>,
}

impl AvroPlan {
    /// Fails with the key of the topic that is to blame, and why.
    pub(super) fn new(
        registered: &Registered,
        declared: Vec<Declared>,
        envelope: bool,
    ) -> Result<Self, (String, String)> {
        let unusable = |reason: String| {
            let reason = format!("schema {} cannot be used: {reason}", registered.id);
            ("decode.format".to_owned(), reason)
        };
        let reader = references::inlined(registered).map_err(unusable)?;
        let decoder = decoder(registered.id, &reader, &reader).map_err(unusable)?;
        let own = decoder.schema();
        let fields = own.fields().iter().map(|field| plain_field(field));
        let natural = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        if envelope && !declared.is_empty() {
            let reason = "the columns come from the registered schema; leave schema out".to_owned();
            return Err(("schema".to_owned(), reason));
        }
        if let Some(field) = declared
            .iter()
            .find(|field| natural.column_with_name(&field.name).is_none())
        {
            let names: Vec<&str> = natural
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            let reason = format!(
                "field {} is not in schema {}; it has {}",
                field.name,
                registered.id,
                names.join(", ")
            );
            return Err(("schema".to_owned(), reason));
        }
        Ok(Self {
            reader,
            own,
            natural,
            declared,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        match self.declared.as_slice() {
            [] => Arc::clone(&self.natural),
            declared => schema::input(declared),
        }
    }
}

fn decoder(id: i32, writer: &str, reader: &str) -> std::result::Result<Decoder, String> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let fingerprint = Fingerprint::Id(id.cast_unsigned());
    store
        .set(fingerprint, AvroSchema::new(writer.to_owned()))
        .and_then(|_| {
            ReaderBuilder::new()
                .with_batch_size(ROWS)
                .with_reader_schema(AvroSchema::new(reader.to_owned()))
                .with_writer_schema_store(store)
                .with_active_fingerprint(fingerprint)
                .build_decoder()
        })
        .map_err(|error| words(&error))
}

fn words(error: &ArrowError) -> String {
    let text = error.to_string();
    let text = text.split_once("error: ").map_or(text.as_str(), |it| it.1);
    text.trim().to_owned()
}

/// One version that records were written in.
#[derive(Debug)]
struct Writer {
    id: i32,
    text: String,
    /// How its records become rows of the columns that all versions share, if they do.
    shared: Option<Version>,
    /// None behind a record that left half a row in it.
    decoder: Option<Decoder>,
    /// Rows of the batch so far.
    rows: Vec<usize>,
    /// So many of them, the first, are not in the decoder: they were in one with a record that left half a row.
    again: usize,
    /// Rows of the batch whose values wait.
    waiting: Vec<usize>,
}

/// Takes one record as a row.
fn take(decoder: &mut Decoder, value: &[u8]) -> std::result::Result<(), String> {
    let room = decoder.capacity();
    let decoded = decoder.decode(value);
    // A second record in one value would be a row that no offset stands for.
    match (room - decoder.capacity(), decoded) {
        (1, Ok(taken)) if taken == value.len() => Ok(()),
        (0, Ok(_)) => Err("malformed avro: the record ends too early".to_owned()),
        (0, Err(error)) => Err(format!("malformed avro: {error}")),
        _ => Err("malformed avro: more follows after the record".to_owned()),
    }
}

impl Writer {
    fn new(
        id: i32,
        text: String,
        reader: &str,
        shared: Option<&Shared>,
    ) -> std::result::Result<Self, String> {
        Ok(Self {
            decoder: Some(decoder(id, &text, reader)?),
            shared: shared.map_or(Ok(None), |shared| shared.version(&text))?,
            id,
            text,
            rows: Vec::new(),
            again: 0,
            waiting: Vec::new(),
        })
    }

    /// Takes a record as a row. Of one that is none nothing stays.
    fn take(&mut self, row: usize, value: &[u8], reader: &str) -> std::result::Result<(), String> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(decoder(self.id, &self.text, reader)?),
        };
        let taken = take(decoder, value);
        match taken {
            Ok(()) => self.rows.push(row),
            Err(_) => {
                self.decoder = None;
                self.again = self.rows.len();
            }
        }
        taken
    }

    /// Whether none of the batch's records is of this version.
    fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.waiting.is_empty()
    }

    /// Takes what waits; adds what is no row to those refused.
    fn catch_up(&mut self, origins: &Origins, reader: &str, refused: &mut Vec<(usize, String)>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for row in waiting.drain(..) {
            let value = origins.record(row).and_then(|record| record.value);
            if let Err(reason) = self.take(row, value.unwrap_or_default(), reader) {
                refused.push((row, reason));
            }
        }
        self.waiting = waiting;
    }

    /// The columns of the batch's rows of this version, and which they are; adds what is no row to those refused.
    fn finish(
        &mut self,
        origins: &Origins,
        reader: &str,
        refused: &mut Vec<(usize, String)>,
    ) -> Result<Vec<(RecordBatch, Vec<usize>)>> {
        let mut again = std::mem::take(&mut self.rows);
        let rest = again.split_off(std::mem::take(&mut self.again).min(again.len()));
        let mut batches = Vec::new();
        if !again.is_empty() {
            self.decode_again(origins, reader, again, &mut batches, refused)?;
        }
        if !rest.is_empty() {
            let decoder = self.decoder.as_mut();
            match decoder.map_or(Ok(None), Decoder::flush) {
                Ok(Some(batch)) => batches.push((batch, rest)),
                Ok(None) => return Err(self.bug("rows were taken, and there are none")),
                // A value that could be read and means nothing, such as the seventh symbol of an enum of two, fails all
                // rows at once.
                Err(_) => {
                    self.decoder = None;
                    self.decode_again(origins, reader, rest, &mut batches, refused)?;
                }
            }
        }
        Ok(batches)
    }

    /// Decodes rows in a decoder of their own, and where they fail in halves, until each that fails stands alone.
    fn decode_again(
        &self,
        origins: &Origins,
        reader: &str,
        rows: Vec<usize>,
        batches: &mut Vec<(RecordBatch, Vec<usize>)>,
        refused: &mut Vec<(usize, String)>,
    ) -> Result<()> {
        let mut own = decoder(self.id, &self.text, reader).map_err(|error| self.bug(&error))?;
        for row in &rows {
            let value = origins.record(*row).and_then(|record| record.value);
            take(&mut own, value.unwrap_or_default()).map_err(|error| self.bug(&error))?;
        }
        match own.flush() {
            Ok(Some(batch)) => batches.push((batch, rows)),
            Ok(None) => return Err(self.bug("rows were taken, and there are none")),
            Err(error) if rows.len() == 1 => {
                refused.push((rows[0], format!("malformed avro: {error}")));
            }
            Err(_) => {
                let mut first = rows;
                let second = first.split_off(first.len() / 2);
                self.decode_again(origins, reader, first, batches, refused)?;
                self.decode_again(origins, reader, second, batches, refused)?;
            }
        }
        Ok(())
    }

    fn bug(&self, reason: &str) -> Error {
        Error::Bug {
            context: format!("avro decoder of schema {}: {reason}", self.id),
        }
    }
}

/// Columns of some of a batch's rows.
struct Part {
    rows: Vec<usize>,
    columns: Vec<ArrayRef>,
}

#[derive(Debug)]
pub(super) struct Avro {
    plan: AvroPlan,
    schema: SchemaRef,
    framing: Framing,
    shared: Option<Shared>,
    writers: BTreeMap<i32, std::result::Result<Writer, String>>,
    // Of the batch at hand: how many rows there are, which have no value, and which turned out to be none.
    rows: usize,
    nulls: Vec<usize>,
    refused: Vec<(usize, String)>,
    /// Bytes that wait.
    waiting: usize,
}

impl Avro {
    pub(super) fn new(plan: AvroPlan, framing: Framing) -> Self {
        Self {
            schema: plan.schema(),
            shared: Shared::new(&plan.reader, &plan.own),
            plan,
            framing,
            writers: BTreeMap::new(),
            rows: 0,
            nulls: Vec::new(),
            refused: Vec::new(),
            waiting: 0,
        }
    }

    /// Takes all that waits.
    fn catch_up(&mut self, origins: &Origins) {
        for writer in self.writers.values_mut().flatten() {
            writer.catch_up(origins, &self.plan.reader, &mut self.refused);
        }
        self.waiting = 0;
    }

    /// The rows that stand in the columns that all versions share; where one of them is none, all are left to wait.
    fn finish_shared(&mut self, origins: &Origins) -> Option<(RecordBatch, Vec<usize>)> {
        let (rows, batch) = self.shared.as_mut()?.finish();
        if let Ok(batch) = batch {
            return (!rows.is_empty()).then_some((batch, rows));
        }
        for row in rows {
            let value = origins.record(row).and_then(|record| record.value);
            let id = value.and_then(|value| split(value).ok()).map(|(id, _)| id);
            if let Some(Ok(writer)) = id.and_then(|id| self.writers.get_mut(&id)) {
                writer.waiting.push(row);
            }
        }
        None
    }

    /// Puts the columns into the wanted types; where a value does not fit, its row is refused alone.
    fn fit(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        parts: &mut Vec<Part>,
        refused: &mut Vec<(usize, String)>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.fitted(batch) {
            Ok(columns) => {
                let rows = rows.to_vec();
                parts.push(self.required(Part { rows, columns }, refused));
            }
            Err(reason) if rows.len() == 1 => refused.push((rows[0], reason)),
            Err(_) => {
                let half = rows.len() / 2;
                for part in [0..half, half..rows.len()] {
                    // Copied: lists that are sliced keep the items of the others, and one of those would refuse them.
                    let places: UInt64Array = part.clone().map(|row| row as u64).collect();
                    let own = take_record_batch(batch, &places).map_err(|error| Error::Bug {
                        context: format!("taking avro rows apart: {error}"),
                    })?;
                    self.fit(&own, &rows[part], parts, refused)?;
                }
            }
        }
        Ok(())
    }

    fn fitted(&self, batch: &RecordBatch) -> std::result::Result<Vec<ArrayRef>, String> {
        let schema = batch.schema();
        let column = |field: &Field| {
            let (at, own) = schema
                .column_with_name(field.name())
                .ok_or_else(|| format!("field {:?} is missing", field.name()))?;
            plain(batch.column(at), own)
                .and_then(|column| match column.data_type() == field.data_type() {
                    true => Ok(column),
                    false => strict(&column, field.data_type()),
                })
                .and_then(|column| within_precision(&column).map(|()| column))
                .map_err(|error| format!("field {:?}: {}", field.name(), words(&error)))
        };
        self.schema
            .fields()
            .iter()
            .map(|field| column(field))
            .collect()
    }

    /// Refuses rows without a required value.
    fn required(&self, part: Part, refused: &mut Vec<(usize, String)>) -> Part {
        let Part { rows, columns } = part;
        let mut keep = vec![true; rows.len()];
        for (field, column) in self.plan.declared.iter().zip(&columns) {
            if !field.required || column.null_count() == 0 {
                continue;
            }
            for (at, row) in rows.iter().enumerate() {
                if keep[at] && column.is_null(at) {
                    keep[at] = false;
                    refused.push((*row, format!("required field {:?} is null", field.name)));
                }
            }
        }
        if keep.iter().all(|keep| *keep) {
            return Part { rows, columns };
        }
        let mask = BooleanArray::from(keep.clone());
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .and_then(|batch| filter_record_batch(&batch, &mask));
        let mut kept = keep.iter();
        let rows = rows
            .into_iter()
            .filter(|_| kept.next().copied().unwrap_or(false));
        Part {
            rows: rows.collect(),
            columns: batch.map_or_else(|_| Vec::new(), |batch| batch.columns().to_vec()),
        }
    }

    /// The parts one after another, and which row each of theirs is.
    fn together(&self, mut parts: Vec<Part>) -> Result<(Vec<ArrayRef>, Vec<usize>)> {
        if let [part] = parts.as_mut_slice() {
            return Ok((
                std::mem::take(&mut part.columns),
                std::mem::take(&mut part.rows),
            ));
        }
        let column = |(at, field): (usize, &Arc<Field>)| {
            let columns: Vec<&dyn Array> = parts
                .iter()
                .filter_map(|part| part.columns.get(at))
                .map(AsRef::as_ref)
                .collect();
            match columns.is_empty() {
                true => Ok(arrow::array::new_empty_array(field.data_type())),
                false => concat(&columns).map_err(|error| Error::Bug {
                    context: format!("putting avro rows together: {error}"),
                }),
            }
        };
        let fields = self.schema.fields().iter().enumerate();
        let columns: Vec<ArrayRef> = fields.map(column).collect::<Result<_>>()?;
        let rows = parts.into_iter().flat_map(|part| part.rows).collect();
        Ok((columns, rows))
    }
}

impl Format for Avro {
    fn waits(&mut self, value: &[u8]) -> Option<String> {
        self.framing.waits(value)
    }

    fn take(&mut self, value: &[u8]) -> std::result::Result<(), String> {
        let (registered, record) = self.framing.find(value)?;
        let reader = &self.plan.reader;
        let id = registered.id;
        let writer = self.writers.entry(id).or_insert_with(|| {
            let unusable = |reason| format!("schema {id} does not become the table's: {reason}");
            let text = references::inlined(registered).map_err(unusable)?;
            Writer::new(id, text, reader, self.shared.as_ref()).map_err(unusable)
        });
        let writer = writer.as_mut().map_err(|reason| reason.clone())?;
        if let Some((shared, version)) = self.shared.as_mut().zip(writer.shared.as_ref())
            && shared.take(version, record, self.rows)?
        {
            self.rows += 1;
            return Ok(());
        }
        let is_alone = self
            .writers
            .iter()
            .all(|(other, writer)| *other == id || writer.as_ref().map_or(true, Writer::is_idle));
        if let Some(Ok(writer)) = self.writers.get_mut(&id) {
            if is_alone {
                writer.take(self.rows, value, reader)?;
            } else {
                writer.waiting.push(self.rows);
                self.waiting += value.len();
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn take_null(&mut self) {
        self.nulls.push(self.rows);
        self.rows += 1;
    }

    fn kept(&mut self, origins: &Origins) {
        if self.waiting >= WINDOW {
            self.catch_up(origins);
        }
    }

    fn finish(&mut self, origins: &Origins) -> Result<Rows> {
        let shared = self.finish_shared(origins);
        self.catch_up(origins);
        self.rows = 0;
        let (mut parts, mut refused) = (Vec::new(), std::mem::take(&mut self.refused));
        let nulls = std::mem::take(&mut self.nulls);
        if !nulls.is_empty() {
            let fields = self.schema.fields().iter();
            let columns = fields.map(|field| new_null_array(field.data_type(), nulls.len()));
            parts.push(Part {
                columns: columns.collect(),
                rows: nulls,
            });
        }
        let mut decoded = Vec::from_iter(shared);
        for writer in self.writers.values_mut().flatten() {
            decoded.extend(writer.finish(origins, &self.plan.reader, &mut refused)?);
        }
        for (batch, rows) in decoded {
            self.fit(&batch, &rows, &mut parts, &mut refused)?;
        }
        refused.sort_unstable();
        let (columns, order) = self.together(parts)?;
        Ok(Rows {
            schema: Arc::clone(&self.schema),
            columns,
            refused,
            order: Some(order),
        })
    }
}

#[cfg(test)]
mod tests;
