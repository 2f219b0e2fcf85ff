//! Growing columns of a message's fields.
//!
//! | field | column |
//! |---|---|
//! | `bool`, `string`, `bytes`, `float`, `double` | the same |
//! | `int32`, `sint32`, `sfixed32` / the same in 64 | integer / bigint |
//! | `uint32`, `fixed32` / the same in 64 | bigint / decimal(20, 0) |
//! | enum | its name as text; its number where it has none |
//! | message, `repeated`, `map` | struct, list, map |
//! | `google.protobuf.Timestamp`, `Duration` | timestamp in UTC, bigint of microseconds |
//! | `google.protobuf.StringValue` and the other wrappers | what they wrap, or null |
//! | `google.protobuf.Struct`, `Value`, `ListValue` | JSON text |
//! | a message within itself | its bytes |
//!
//! A field that can be absent (`optional`, of a `oneof`, a message) is null where it is; others have
//! their default, as Protobuf says.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder,
    Int32Builder, Int64Builder, ListArray, MapArray, StringBuilder, StructArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};

use crate::schema;
use crate::{Error, Result};

/// One field's column.
#[derive(Debug)]
pub(super) struct Column {
    field: FieldDescriptor,
    values: Values,
}

/// What a message becomes.
enum Special {
    Timestamp,
    Duration,
    Wrapper(FieldDescriptor),
    Json,
}

fn special(message: &MessageDescriptor) -> Option<Special> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => Special::Timestamp,
        "google.protobuf.Duration" => Special::Duration,
        "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => {
            Special::Json
        }
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => Special::Wrapper(message.get_field(1)?),
        _ => return None,
    })
}

/// The column that a field becomes.
pub(super) fn arrow_field(field: &FieldDescriptor) -> Field {
    let data_type = Column::of_field(field).values.data_type();
    Field::new(field.name(), data_type, true)
}

impl Column {
    pub(super) fn of_field(field: &FieldDescriptor) -> Self {
        let mut within = vec![field.parent_message().full_name().to_owned()];
        Self {
            field: field.clone(),
            values: Values::of_field(field, &mut within),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.field.name()
    }

    /// Whether the column gets a value.
    pub(super) fn is_present(&self, message: &DynamicMessage) -> bool {
        !self.field.supports_presence() || message.has_field(&self.field)
    }

    /// Says what of the message has no place in the column, before anything is taken.
    pub(super) fn check(&self, message: &DynamicMessage) -> std::result::Result<(), String> {
        if !self.values.can_refuse() || !message.has_field(&self.field) {
            return Ok(());
        }
        match self.values.holds(&message.get_field(&self.field)) {
            true => Ok(()),
            false => Err(format!(
                "field {:?}: the moment is beyond what a timestamp holds",
                self.name()
            )),
        }
    }

    pub(super) fn take(&mut self, message: &DynamicMessage) {
        match self.is_present(message) {
            true => self.values.take(&message.get_field(&self.field)),
            false => self.values.take_null(),
        }
    }

    pub(super) fn take_null(&mut self) {
        self.values.take_null();
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        self.values.finish().map_err(|error| Error::Bug {
            context: format!("protobuf field {}: {error}", self.field.full_name()),
        })
    }
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt64(Decimal128Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Enum(EnumDescriptor, StringBuilder),
    Bytes(BinaryBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Duration(Int64Builder),
    Json(StringBuilder),
    // A message that holds itself.
    Encoded(BinaryBuilder),
    Wrapped(FieldDescriptor, Box<Values>),
    Struct(Vec<Column>, Vec<bool>),
    List(Box<Values>, Lengths),
    Map(Box<Values>, Box<Values>, Lengths),
}

/// Where lists begin and end.
#[derive(Debug, Default)]
struct Lengths {
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Lengths {
    fn push(&mut self, length: Option<usize>) {
        self.lengths.push(length.unwrap_or_default());
        self.valid.push(length.is_some());
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let valid = std::mem::take(&mut self.valid);
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        (offsets, nulls)
    }
}

impl Values {
    /// `within` are the messages that this field is in.
    fn of_field(field: &FieldDescriptor, within: &mut Vec<String>) -> Self {
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let key = Self::of_kind(&entry.map_entry_key_field().kind(), within);
            let value = Self::of_kind(&entry.map_entry_value_field().kind(), within);
            Self::Map(Box::new(key), Box::new(value), Lengths::default())
        } else if field.is_list() {
            Self::List(
                Box::new(Self::of_kind(&field.kind(), within)),
                Lengths::default(),
            )
        } else {
            Self::of_kind(&field.kind(), within)
        }
    }

    fn of_kind(kind: &Kind, within: &mut Vec<String>) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Self::Int32(Int32Builder::new()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => {
                Self::Int64(Int64Builder::new())
            }
            Kind::Uint64 | Kind::Fixed64 => {
                Self::UInt64(Decimal128Builder::new().with_data_type(DataType::Decimal128(20, 0)))
            }
            Kind::Float => Self::Float(Float32Builder::new()),
            Kind::Double => Self::Double(Float64Builder::new()),
            Kind::String => Self::Text(StringBuilder::new()),
            Kind::Enum(names) => Self::Enum(names.clone(), StringBuilder::new()),
            Kind::Bytes => Self::Bytes(BinaryBuilder::new()),
            Kind::Message(message) => Self::of_message(message, within),
        }
    }

    fn of_message(message: &MessageDescriptor, within: &mut Vec<String>) -> Self {
        match special(message) {
            Some(Special::Timestamp) => {
                let column = TimestampMicrosecondBuilder::new().with_data_type(schema::utc());
                return Self::Timestamp(column);
            }
            Some(Special::Duration) => return Self::Duration(Int64Builder::new()),
            Some(Special::Json) => return Self::Json(StringBuilder::new()),
            Some(Special::Wrapper(field)) => {
                let values = Self::of_kind(&field.kind(), within);
                return Self::Wrapped(field, Box::new(values));
            }
            None => {}
        }
        // A struct without fields is nothing that files can hold.
        if message.fields().len() == 0 || within.iter().any(|name| name == message.full_name()) {
            return Self::Encoded(BinaryBuilder::new());
        }
        within.push(message.full_name().to_owned());
        let columns = message
            .fields()
            .map(|field| Column {
                values: Self::of_field(&field, within),
                field,
            })
            .collect();
        within.pop();
        Self::Struct(columns, Vec::new())
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Boolean,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) | Self::Duration(_) => DataType::Int64,
            Self::UInt64(_) => DataType::Decimal128(20, 0),
            Self::Float(_) => DataType::Float32,
            Self::Double(_) => DataType::Float64,
            Self::Text(_) | Self::Json(_) | Self::Enum(..) => DataType::Utf8,
            Self::Bytes(_) | Self::Encoded(_) => DataType::Binary,
            Self::Timestamp(_) => schema::utc(),
            Self::Wrapped(_, values) => values.data_type(),
            Self::Struct(columns, _) => DataType::Struct(fields_of(columns)),
            Self::List(item, _) => DataType::List(Arc::new(item_field(item))),
            Self::Map(key, value, _) => DataType::Map(Arc::new(entries_field(key, value)), false),
        }
    }

    fn can_refuse(&self) -> bool {
        match self {
            Self::Timestamp(_) | Self::Duration(_) => true,
            Self::List(values, _) | Self::Map(_, values, _) => values.can_refuse(),
            Self::Struct(columns, _) => columns.iter().any(|column| column.values.can_refuse()),
            _ => false,
        }
    }

    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Timestamp(_) | Self::Duration(_), Value::Message(message)) => {
                micros(message).is_some()
            }
            (Self::List(item, _), Value::List(items)) => items.iter().all(|it| item.holds(it)),
            (Self::Map(_, values, _), Value::Map(map)) => map.values().all(|it| values.holds(it)),
            (Self::Struct(columns, _), Value::Message(message)) => columns.iter().all(|column| {
                !message.has_field(&column.field)
                    || column.values.holds(&message.get_field(&column.field))
            }),
            _ => true,
        }
    }

    fn take(&mut self, value: &Value) {
        match (self, value) {
            (Self::Bool(column), Value::Bool(value)) => column.append_value(*value),
            (Self::Int32(column), Value::I32(value)) => column.append_value(*value),
            (Self::Int64(column), Value::I64(value)) => column.append_value(*value),
            (Self::Int64(column), Value::U32(value)) => column.append_value((*value).into()),
            (Self::UInt64(column), Value::U64(value)) => column.append_value((*value).into()),
            (Self::Float(column), Value::F32(value)) => column.append_value(*value),
            (Self::Double(column), Value::F64(value)) => column.append_value(*value),
            (Self::Text(column), Value::String(value)) => column.append_value(value),
            (Self::Enum(names, column), Value::EnumNumber(number)) => {
                match names.get_value(*number) {
                    Some(value) => column.append_value(value.name()),
                    None => column.append_value(number.to_string()),
                }
            }
            (Self::Bytes(column), Value::Bytes(value)) => column.append_value(value),
            (Self::Timestamp(column), Value::Message(message)) => {
                column.append_option(micros(message));
            }
            (Self::Duration(column), Value::Message(message)) => {
                column.append_option(micros(message));
            }
            (Self::Json(column), Value::Message(message)) => {
                column.append_value(json(message).to_string());
            }
            (Self::Encoded(column), Value::Message(message)) => {
                column.append_value(prost::Message::encode_to_vec(message));
            }
            (Self::Wrapped(field, values), Value::Message(message)) => {
                values.take(&message.get_field(field));
            }
            (Self::Struct(columns, valid), Value::Message(message)) => {
                for column in columns {
                    column.take(message);
                }
                valid.push(true);
            }
            (Self::List(item, lengths), Value::List(items)) => {
                for value in items {
                    item.take(value);
                }
                lengths.push(Some(items.len()));
            }
            (Self::Map(keys, values, lengths), Value::Map(map)) => {
                // In the order of the keys: the same message gives the same row.
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(one, _)| *one);
                for (key, value) in &entries {
                    keys.take(&key_value(key));
                    values.take(value);
                }
                lengths.push(Some(entries.len()));
            }
            (column, _) => column.take_null(),
        }
    }

    fn take_null(&mut self) {
        match self {
            Self::Bool(column) => column.append_null(),
            Self::Int32(column) => column.append_null(),
            Self::Int64(column) | Self::Duration(column) => column.append_null(),
            Self::UInt64(column) => column.append_null(),
            Self::Float(column) => column.append_null(),
            Self::Double(column) => column.append_null(),
            Self::Text(column) | Self::Json(column) | Self::Enum(_, column) => {
                column.append_null();
            }
            Self::Bytes(column) | Self::Encoded(column) => column.append_null(),
            Self::Timestamp(column) => column.append_null(),
            Self::Wrapped(_, values) => values.take_null(),
            Self::Struct(columns, valid) => {
                for column in columns {
                    column.take_null();
                }
                valid.push(false);
            }
            Self::List(_, lengths) | Self::Map(_, _, lengths) => lengths.push(None),
        }
    }

    fn finish(&mut self) -> arrow::error::Result<ArrayRef> {
        Ok(match self {
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Int32(column) => Arc::new(column.finish()),
            Self::Int64(column) | Self::Duration(column) => Arc::new(column.finish()),
            Self::UInt64(column) => Arc::new(column.finish()),
            Self::Float(column) => Arc::new(column.finish()),
            Self::Double(column) => Arc::new(column.finish()),
            Self::Text(column) | Self::Json(column) | Self::Enum(_, column) => {
                Arc::new(column.finish())
            }
            Self::Bytes(column) | Self::Encoded(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish()),
            Self::Wrapped(_, values) => values.finish()?,
            Self::Struct(columns, valid) => {
                let fields = fields_of(columns);
                let columns = columns
                    .iter_mut()
                    .map(|column| column.values.finish())
                    .collect::<arrow::error::Result<Vec<_>>>()?;
                let valid = std::mem::take(valid);
                let count = valid.len();
                let nulls = Some(NullBuffer::from(valid));
                Arc::new(StructArray::try_new_with_length(
                    fields, columns, nulls, count,
                )?)
            }
            Self::List(item, lengths) => {
                let field = Arc::new(item_field(item));
                let (offsets, nulls) = lengths.finish();
                Arc::new(ListArray::try_new(field, offsets, item.finish()?, nulls)?)
            }
            Self::Map(keys, values, lengths) => {
                let field = Arc::new(entries_field(keys, values));
                let DataType::Struct(fields) = field.data_type().clone() else {
                    return Err(arrow::error::ArrowError::SchemaError(
                        "a map without entries".to_owned(),
                    ));
                };
                let (offsets, nulls) = lengths.finish();
                let entries =
                    StructArray::try_new(fields, vec![keys.finish()?, values.finish()?], None)?;
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, false)?)
            }
        })
    }
}

fn fields_of(columns: &[Column]) -> Fields {
    columns
        .iter()
        .map(|column| Field::new(column.name(), column.values.data_type(), true))
        .collect()
}

fn item_field(item: &Values) -> Field {
    Field::new(Field::LIST_FIELD_DEFAULT_NAME, item.data_type(), true)
}

fn entries_field(key: &Values, value: &Values) -> Field {
    let fields = vec![
        Field::new("key", key.data_type(), false),
        Field::new("value", value.data_type(), true),
    ];
    Field::new("key_value", DataType::Struct(fields.into()), false)
}

fn key_value(key: &MapKey) -> Value {
    key.clone().into()
}

/// Seconds and nanoseconds of a moment or a time span, in microseconds.
fn micros(message: &DynamicMessage) -> Option<i64> {
    let seconds = message.get_field_by_number(1)?.as_i64()?;
    let nanos = message.get_field_by_number(2)?.as_i32()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(i64::from(nanos).div_euclid(1000))
}

/// `google.protobuf.Struct` and its kin, as the JSON they stand for.
fn json(message: &DynamicMessage) -> serde_json::Value {
    fn of(value: &Value) -> serde_json::Value {
        match value {
            Value::Bool(value) => (*value).into(),
            Value::F64(value) => (*value).into(),
            Value::String(value) => value.clone().into(),
            Value::Message(message) => json(message),
            Value::List(values) => values.iter().map(of).collect(),
            Value::Map(map) => named(map),
            _ => serde_json::Value::Null,
        }
    }
    fn named(map: &HashMap<MapKey, Value>) -> serde_json::Value {
        let entries = map.iter().map(|(key, value)| {
            let key = key.as_str().unwrap_or_default().to_owned();
            (key, of(value))
        });
        serde_json::Value::Object(entries.collect())
    }
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Value" => {
            let set = message.fields().next();
            set.map_or(serde_json::Value::Null, |(_, value)| of(value))
        }
        _ => descriptor
            .fields()
            .next()
            .map_or(serde_json::Value::Null, |field| {
                of(&message.get_field(&field))
            }),
    }
}
