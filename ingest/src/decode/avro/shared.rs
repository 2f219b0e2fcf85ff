//! Records of every version of a schema, in the same columns.
//!
//! Versions that are decoded by `arrow-avro` have columns of their own each, which have to be put together; where
//! versions alternate, that and the cost of many open columns is what mixing them costs. Here a version is a list of
//! steps over one set of columns. Whether two schemas match is left to `arrow-avro`, and whatever is not understood is to
//! be decoded there, and gets its reason there. Refused here is only what it would take for another value.
//!
//! Encoding and schema resolution: <https://avro.apache.org/docs/1.12.0/specification/>.

mod column;
mod kind;
mod steps;

use std::mem::take;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use self::column::{Column, Refused};
use self::kind::Field;
pub(super) use self::steps::Version;

/// The columns of a batch so far.
#[derive(Debug)]
pub(super) struct Shared {
    schema: SchemaRef,
    fields: Vec<Field>,
    columns: Vec<Column>,
    /// Rows of the batch that are in the columns.
    rows: Vec<usize>,
}

impl Shared {
    /// Columns of this schema, as `arrow-avro` has them; none where it has a type that is not known here.
    pub(super) fn new(reader: &str, schema: &SchemaRef) -> Option<Self> {
        let fields = kind::fields(reader)?;
        let columns = kind::fit(&fields, schema.fields()).then(|| Column::of_all(&fields))?;
        Some(Self {
            schema: SchemaRef::clone(schema),
            fields,
            columns,
            rows: Vec::new(),
        })
    }

    /// How records of this version become rows; none where that is not for certain, and an error where they cannot.
    pub(super) fn version(&self, writer: &str) -> Result<Option<Version>, String> {
        let Some(fields) = kind::fields(writer) else {
            return Ok(None);
        };
        match Version::resolve(&fields, &self.fields) {
            Ok(version) => Ok(Some(version)),
            Err(None) => Ok(None),
            Err(Some(reason)) => Err(reason),
        }
    }

    /// Takes a record as this row of the batch, if it is understood; fails where it is none. Then nothing of it is kept.
    pub(super) fn take(
        &mut self,
        version: &Version,
        record: &[u8],
        row: usize,
    ) -> Result<bool, &'static str> {
        if self.rows.is_empty() {
            self.columns.iter_mut().for_each(Column::make_room);
        }
        let mut rest = record;
        let taken = column::append(&mut self.columns, version, &mut rest);
        if taken.is_ok() && rest.is_empty() {
            self.rows.push(row);
            return Ok(true);
        }
        for column in &mut self.columns {
            column.truncate(self.rows.len());
        }
        taken.err().and_then(Refused::reason).map_or(Ok(false), Err)
    }

    /// Rows of the batch so far, and their columns unless a value turns out to be none (text that is no UTF-8).
    pub(super) fn finish(&mut self) -> (Vec<usize>, Result<RecordBatch, ArrowError>) {
        let rows = take(&mut self.rows);
        let types = self.schema.fields().iter().map(|field| field.data_type());
        let columns = column::finish_all(&mut self.columns, types, rows.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = SchemaRef::clone(&self.schema);
        let batch = columns
            .and_then(|columns| RecordBatch::try_new_with_options(schema, columns, &options));
        (rows, batch)
    }
}

#[cfg(test)]
mod tests;
