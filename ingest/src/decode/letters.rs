//! Dead letters: records that could not become rows, with their bytes and the reason.

use std::sync::Arc;

use arrow::array::{
    BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};

use super::Record;
use crate::places::Places;
use crate::schema;
use crate::{Error, Result};

/// Dead letters of one source that are not written yet.
#[derive(Debug)]
pub(crate) struct Letters {
    places: Places,
    positions: Vec<(i32, i64)>,
    timestamps: TimestampMicrosecondBuilder,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    reasons: StringBuilder,
}

impl Letters {
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            positions: Vec::new(),
            timestamps: TimestampMicrosecondBuilder::new().with_data_type(schema::utc()),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            reasons: StringBuilder::new(),
        }
    }

    pub(crate) fn push(&mut self, record: Record<'_>, reason: &str) {
        self.positions.push((record.partition, record.offset));
        self.timestamps
            .append_option(record.timestamp.and_then(|millis| millis.checked_mul(1000)));
        self.keys.append_option(record.key);
        self.values.append_option(record.value);
        self.reasons.append_value(reason);
    }

    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn positions(&self) -> &[(i32, i64)] {
        &self.positions
    }

    pub(crate) fn position(&self, row: usize) -> Option<(i32, i64)> {
        self.positions.get(row).copied()
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
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(topics),
            Arc::new(partitions.finish()),
            Arc::new(offsets.finish()),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
            Arc::new(self.reasons.finish()),
            Arc::new(ingested.finish()),
        ];
        RecordBatch::try_new(schema::dead_letters(), columns).map_err(|error| Error::Bug {
            context: format!("dead letters do not fit their schema: {error}"),
        })
    }
}
