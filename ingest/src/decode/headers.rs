//! The headers of a record: names and values in its order, a name more than once if it likes.
//!
//! They lie one after another in one piece of bytes, each as two lengths (that of a null value is -1), name and value:
//! so they are kept beside a record's key and value, whatever becomes of it, without an allocation for each.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, ListArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use rdkafka::message::BorrowedMessage;

use crate::kafka;

/// A record's headers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// The headers of a message, kept in `buffer`.
    pub(crate) fn of(message: &BorrowedMessage<'_>, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        kafka::headers::each(message, |name, value| push(buffer, name, value));
        Self(buffer)
    }

    /// As [`Self::bytes`] gave them.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, value) = (length(&mut rest)?, length(&mut rest)?);
            let name = rest.split_off(..usize::try_from(name).ok()?)?;
            let value = match usize::try_from(value) {
                Ok(value) => Some(rest.split_off(..value)?),
                Err(_) => None,
            };
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Appends a header.
pub(crate) fn push(buffer: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    // Kafka's own lengths of them are 32-bit.
    let length = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes();
    buffer.extend(length(name.as_bytes()));
    buffer.extend(value.map_or((-1_i32).to_le_bytes(), length));
    buffer.extend(name.as_bytes());
    buffer.extend(value.unwrap_or_default());
}

fn length(rest: &mut &[u8]) -> Option<i32> {
    let bytes = rest.split_off(..4)?;
    Some(i32::from_le_bytes(bytes.try_into().ok()?))
}

/// What a column of headers is, in full: every one of them, in order.
pub(crate) fn data_type() -> DataType {
    DataType::List(item())
}

fn fields() -> Fields {
    let name = Field::new("key", DataType::Utf8, true);
    Fields::from(vec![name, Field::new("value", DataType::Binary, true)])
}

fn item() -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(fields()), true))
}

/// A growing column of headers; null where a record has none.
#[derive(Debug, Default)]
pub(crate) struct HeadersBuilder {
    names: StringBuilder,
    values: BinaryBuilder,
    lengths: Vec<usize>,
}

impl HeadersBuilder {
    pub(crate) fn append(&mut self, headers: Headers<'_>) {
        let mut length = 0;
        for (name, value) in headers.iter() {
            self.names.append_value(name);
            self.values.append_option(value);
            length += 1;
        }
        self.lengths.push(length);
    }

    pub(crate) fn finish(&mut self) -> Result<ArrayRef, arrow::error::ArrowError> {
        let lengths = std::mem::take(&mut self.lengths);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.names.finish()),
            Arc::new(self.values.finish()),
        ];
        let pairs = StructArray::try_new(fields(), columns, None)?;
        let nulls = NullBuffer::from_iter(lengths.iter().map(|length| *length > 0));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list = ListArray::try_new(item(), offsets, Arc::new(pairs), Some(nulls))?;
        Ok(Arc::new(list))
    }
}

/// The headers of a row of such a column, kept in `buffer`.
pub(crate) fn read<'a>(column: &ListArray, row: usize, buffer: &'a mut Vec<u8>) -> Headers<'a> {
    buffer.clear();
    if column.is_valid(row) {
        let pairs = column.value(row);
        let pairs = pairs.as_struct();
        let (names, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1));
        for (name, value) in names.iter().zip(values.as_binary::<i32>()) {
            push(buffer, name.unwrap_or_default(), value);
        }
    }
    Headers(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_in_order_and_with_their_nulls() {
        let all: [(&str, Option<&[u8]>); 4] = [
            ("a", Some(b"1")),
            ("b", None),
            ("a", Some(b"")),
            ("é", Some(&[0xff])),
        ];
        let mut bytes = Vec::new();
        for (name, value) in all {
            push(&mut bytes, name, value);
        }
        let headers = Headers::from_bytes(&bytes);
        assert_eq!(headers.iter().collect::<Vec<_>>(), all);
        assert_eq!(Headers::default().iter().count(), 0);
        // Cut anywhere, what is whole is read and nothing else.
        for cut in 0..bytes.len() {
            let some: Vec<_> = Headers::from_bytes(&bytes[..cut]).iter().collect();
            assert_eq!(some, all[..some.len()]);
        }

        let mut column = HeadersBuilder::default();
        for headers in [Headers::default(), headers, Headers::default()] {
            column.append(headers);
        }
        let column = column.finish().unwrap();
        assert_eq!((column.data_type(), column.null_count()), (&data_type(), 2));
        let mut buffer = Vec::new();
        let back = read(column.as_list(), 1, &mut buffer);
        assert_eq!(back.iter().collect::<Vec<_>>(), all);
        assert_eq!(read(column.as_list(), 2, &mut buffer).iter().count(), 0);
    }
}
