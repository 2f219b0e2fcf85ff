//! What a record has beside its value, as columns: `_key`, `_headers`, `_timestamp`,
//! and `_op` where a null value deletes.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef};

use super::Record;
use crate::schema;

/// Whether bytes are taken as they are or must be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    Binary,
    Text,
}

impl Bytes {
    fn data_type(self) -> DataType {
        match self {
            Self::Binary => DataType::Binary,
            Self::Text => DataType::Utf8,
        }
    }
}

/// Which of the columns are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub key: Option<Bytes>,
    pub headers: Option<Bytes>,
    pub timestamp: bool,
    /// Whether the record deletes its key (its value is null) or says what it is: `d` or `u`.
    pub op: bool,
}

impl Wanted {
    pub(crate) fn fields(self) -> Vec<FieldRef> {
        let key = self
            .key
            .map(|bytes| Field::new("_key", bytes.data_type(), true));
        let headers = self
            .headers
            .map(|bytes| Field::new("_headers", headers_type(bytes), true));
        let timestamp = self
            .timestamp
            .then(|| Field::new("_timestamp", schema::utc(), true));
        let op = self.op.then(|| Field::new("_op", DataType::Utf8, true));
        [key, headers, timestamp, op]
            .into_iter()
            .flatten()
            .map(Arc::new)
            .collect()
    }
}

fn names() -> MapFieldNames {
    MapFieldNames {
        entry: "key_value".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    }
}

fn headers_type(bytes: Bytes) -> DataType {
    let entries = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", bytes.data_type(), true),
    ];
    let entries = Field::new("key_value", DataType::Struct(entries.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// The growing columns.
#[derive(Debug)]
pub(crate) struct Beside {
    wanted: Wanted,
    key: Values,
    headers: MapBuilder<StringBuilder, Values>,
    timestamp: TimestampMicrosecondBuilder,
    op: StringBuilder,
}

impl Beside {
    pub(crate) fn new(wanted: Wanted) -> Self {
        let header = wanted.headers.unwrap_or(Bytes::Binary);
        Self {
            wanted,
            key: Values::new(wanted.key.unwrap_or(Bytes::Binary)),
            headers: MapBuilder::new(Some(names()), StringBuilder::new(), Values::new(header)),
            timestamp: TimestampMicrosecondBuilder::new().with_data_type(schema::utc()),
            op: StringBuilder::new(),
        }
    }

    pub(super) fn wants_headers(&self) -> bool {
        self.wanted.headers.is_some()
    }

    pub(super) fn fields(&self) -> Vec<FieldRef> {
        self.wanted.fields()
    }

    /// Says what cannot be a column of text, before anything is taken.
    pub(super) fn check(&self, record: Record<'_>) -> Result<(), String> {
        let is_text = |bytes: Option<&[u8]>| bytes.is_none_or(|it| std::str::from_utf8(it).is_ok());
        if self.wanted.key == Some(Bytes::Text) && !is_text(record.key) {
            return Err("the key is no utf-8".to_owned());
        }
        if self.wanted.headers == Some(Bytes::Text)
            && let Some((name, _)) = record.headers.iter().find(|(_, value)| !is_text(*value))
        {
            return Err(format!("the value of header {name:?} is no utf-8"));
        }
        Ok(())
    }

    pub(super) fn take(&mut self, record: Record<'_>) {
        if self.wanted.key.is_some() {
            self.key.append(record.key);
        }
        if self.wanted.headers.is_some() {
            let mut headers = record.headers.iter();
            while let Some((name, value)) = headers.next() {
                // A name stands once in a map: its last value counts.
                if headers.clone().all(|(later, _)| later != name) {
                    self.headers.keys().append_value(name);
                    self.headers.values().append(value);
                }
            }
            // The lengths of keys and values are equal: both were appended together.
            let _ = self.headers.append(true);
        }
        if self.wanted.timestamp {
            self.timestamp
                .append_option(record.timestamp.and_then(|millis| millis.checked_mul(1000)));
        }
        if self.wanted.op {
            self.op.append_value(record.value.map_or("d", |_| "u"));
        }
    }

    pub(super) fn finish(&mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.wanted.key.is_some() {
            columns.push(ArrayBuilder::finish(&mut self.key));
        }
        if self.wanted.headers.is_some() {
            columns.push(Arc::new(self.headers.finish()));
        }
        if self.wanted.timestamp {
            columns.push(Arc::new(self.timestamp.finish()));
        }
        if self.wanted.op {
            columns.push(Arc::new(self.op.finish()));
        }
        columns
    }
}

/// Bytes, or text that was checked to be.
#[derive(Debug)]
enum Values {
    Binary(BinaryBuilder),
    Text(StringBuilder),
}

impl Values {
    fn new(bytes: Bytes) -> Self {
        match bytes {
            Bytes::Binary => Self::Binary(BinaryBuilder::new()),
            Bytes::Text => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, value: Option<&[u8]>) {
        match self {
            Self::Binary(column) => column.append_option(value),
            Self::Text(column) => {
                column.append_option(value.and_then(|value| std::str::from_utf8(value).ok()));
            }
        }
    }
}

impl ArrayBuilder for Values {
    fn len(&self) -> usize {
        match self {
            Self::Binary(column) => column.len(),
            Self::Text(column) => column.len(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Binary(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
        }
    }

    fn finish_cloned(&self) -> ArrayRef {
        match self {
            Self::Binary(column) => Arc::new(column.finish_cloned()),
            Self::Text(column) => Arc::new(column.finish_cloned()),
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn into_box_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}
