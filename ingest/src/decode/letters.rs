//! Dead letters: records that could not become rows, with their bytes and the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};

use drumline_lake::WriteTarget;

use super::Record;
use super::headers::HeadersBuilder;
use crate::places::Places;
use crate::schema;
use crate::{Error, Result};

/// Kinds of reasons that are counted apart.
const KINDS: usize = 32;

/// Dead letters of one source that are not written yet.
#[derive(Debug)]
pub(crate) struct Letters {
    places: Places,
    positions: Vec<(i32, i64)>,
    timestamps: TimestampMicrosecondBuilder,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    headers: HeadersBuilder,
    reasons: StringBuilder,
    kinds: BTreeMap<String, u64>,
}

impl Letters {
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            positions: Vec::new(),
            timestamps: TimestampMicrosecondBuilder::new().with_data_type(schema::utc()),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            headers: HeadersBuilder::default(),
            reasons: StringBuilder::new(),
            kinds: BTreeMap::new(),
        }
    }

    pub(crate) fn push(&mut self, record: Record<'_>, reason: &str) {
        self.positions.push((record.partition, record.offset));
        self.timestamps
            .append_option(record.timestamp.and_then(|millis| millis.checked_mul(1000)));
        self.keys.append_option(record.key);
        self.values.append_option(record.value);
        self.headers.append(record.headers);
        self.reasons.append_value(reason);
        let kind = match kind(reason) {
            kind if self.kinds.len() < KINDS || self.kinds.contains_key(&kind) => kind,
            _ => "others".to_owned(),
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn positions(&self) -> &[(i32, i64)] {
        &self.positions
    }

    /// Why a letter is dead.
    pub(crate) fn reason(&self, row: usize) -> Option<&str> {
        let offsets = self.reasons.offsets_slice();
        let start = usize::try_from(*offsets.get(row)?).ok()?;
        let end = usize::try_from(*offsets.get(row + 1)?).ok()?;
        std::str::from_utf8(self.reasons.values_slice().get(start..end)?).ok()
    }

    pub(crate) fn position(&self, row: usize) -> Option<(i32, i64)> {
        self.positions.get(row).copied()
    }

    /// How many there are of each kind: reasons without what differs from record to record.
    pub(crate) fn reasons(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.kinds)
    }

    /// The rows of the dead-letter table, as of `now` (microseconds since the epoch).
    pub(crate) fn finish(mut self, now: i64) -> Result<RecordBatch> {
        let count = self.positions.len();
        let (mut partitions, mut offsets) = (
            Int32Builder::with_capacity(count),
            Int64Builder::with_capacity(count),
        );
        let mut ingested =
            TimestampMicrosecondBuilder::with_capacity(count).with_data_type(schema::utc());
        for (place, offset) in &self.positions {
            partitions.append_value(self.places.partition(*place));
            offsets.append_value(*offset);
            ingested.append_value(now);
        }
        let topics = self
            .positions
            .iter()
            .map(|(place, _)| Some(self.places.topic(*place)))
            .collect::<StringArray>();
        let bug = |error: arrow::error::ArrowError| Error::Bug {
            context: format!("dead letters do not fit their schema: {error}"),
        };
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(topics),
            Arc::new(partitions.finish()),
            Arc::new(offsets.finish()),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
            self.headers.finish().map_err(bug)?,
            Arc::new(self.reasons.finish()),
            Arc::new(ingested.finish()),
        ];
        RecordBatch::try_new(schema::dead_letters(), columns).map_err(bug)
    }
}

/// Dead letters with the columns that their table has: one that was made before a column of ours goes on without it.
pub(crate) fn fitted(rows: RecordBatch, table: &WriteTarget) -> Result<RecordBatch> {
    let columns = table.schema().map_err(|source| Error::Stage {
        table: table.table.clone(),
        source: Box::new(source),
    })?;
    let given = rows.schema();
    let held: Vec<usize> = (0..given.fields().len())
        .filter(|at| columns.index_of(given.field(*at).name()).is_ok())
        .collect();
    rows.project(&held).map_err(|error| Error::Bug {
        context: format!("columns of dead letters: {error}"),
    })
}

/// A reason without what differs from record to record: numbers are `N`.
fn kind(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len().min(120));
    let mut in_number = false;
    for char in reason.chars().take(120) {
        let is_digit = char.is_ascii_digit();
        match (is_digit, in_number) {
            (true, true) => {}
            (true, false) => kind.push('N'),
            (false, _) => kind.push(char),
        }
        in_number = is_digit;
    }
    kind
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use drumline_lake::Format;

    use super::super::Headers;
    use super::*;

    #[test]
    fn a_table_without_one_of_the_columns_gets_the_others() {
        let mut letters = Letters::new(Places::one("t"));
        let mut bytes = Vec::new();
        super::super::headers::push(&mut bytes, "trace", Some(b"1"));
        letters.push(
            Record {
                partition: 0,
                offset: 7,
                timestamp: None,
                key: None,
                value: Some(b"{"),
                headers: Headers::from_bytes(&bytes),
            },
            "malformed",
        );
        let rows = letters.finish(0).unwrap();
        let whole = schema::dead_letters();
        let older = whole.fields().iter().filter(|it| it.name() != "headers");
        let older = Schema::new(older.cloned().collect::<Vec<_>>());
        for (columns, expected) in [(whole.as_ref(), 9), (&older, 8)] {
            let table = WriteTarget::unwritten("t", Format::Delta, columns, Vec::new()).unwrap();
            let rows = fitted(rows.clone(), &table).unwrap();
            assert_eq!(rows.num_columns(), expected);
            assert_eq!(rows.column_by_name("headers").is_some(), expected == 9);
        }
    }

    #[test]
    fn reasons_are_counted_without_what_differs() {
        let mut letters = Letters::new(Places::one("t"));
        let record = Record {
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: Headers::default(),
        };
        for byte in 5..20 {
            letters.push(record, &format!("malformed json at byte {byte}: no value"));
        }
        letters.push(record, "null value");
        let expected = [
            ("malformed json at byte N: no value", 15),
            ("null value", 1),
        ];
        let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
        assert_eq!(letters.reasons(), BTreeMap::from(expected));
        for letter in 'a'..='z' {
            letters.push(record, &format!("field {letter}{letter}"));
            letters.push(record, &format!("field {letter}"));
        }
        let reasons = letters.reasons();
        assert_eq!(
            (reasons.len(), reasons["others"]),
            (KINDS + 1, 52 - KINDS as u64)
        );
    }
}
