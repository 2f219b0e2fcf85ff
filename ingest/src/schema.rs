//! Declared fields: SQL type names to Arrow, and the schemas that tables get from them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use drumline_proto::v1::{FieldDefinition, TopicDefinition};

use crate::decode::headers;
use crate::{Error, Result};

/// Columns that say where a row came from; last, in this order.
pub(crate) const METADATA: [&str; 3] = ["_topic", "_partition", "_offset"];

/// A field as the decoder needs it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub name: String,
    /// The type as declared, for reasons that people read.
    pub sql_type: String,
    pub data_type: DataType,
    pub required: bool,
}

impl Declared {
    /// Whether it takes any JSON value, as its text.
    pub(crate) fn is_json(&self) -> bool {
        self.sql_type.trim().eq_ignore_ascii_case("json")
    }
}

/// The fields of `topic`, which stands at `index` of its stream; none where it declares none.
pub(crate) fn declared(index: usize, topic: &TopicDefinition) -> Result<Vec<Declared>> {
    let mut fields: Vec<Declared> = Vec::with_capacity(topic.schema.len());
    for (
        at,
        FieldDefinition {
            name,
            r#type,
            required,
        },
    ) in topic.schema.iter().enumerate()
    {
        let key = |part: &str| format!("topic[{index}].schema[{at}].{part}");
        if name.is_empty() {
            return Err(definition(
                key("name"),
                format!("a field of topic {} has no name", topic.topic),
            ));
        }
        if fields.iter().any(|field| field.name == *name) {
            return Err(definition(
                key("name"),
                format!("topic {} declares the field {name} twice", topic.topic),
            ));
        }
        let data_type = sql_type(r#type).ok_or_else(|| {
            definition(
                key("type"),
                format!(
                    "field {name} of topic {} has the type {type:?}; {ACCEPTED}",
                    topic.topic
                ),
            )
        })?;
        fields.push(Declared {
            name: name.clone(),
            sql_type: r#type.clone(),
            data_type,
            required: *required,
        });
    }
    Ok(fields)
}

const ACCEPTED: &str = "accepted are varchar, boolean, tinyint, smallint, integer, bigint, real, double, \
                        decimal(precision, scale), date, timestamp, timestamp with time zone, json, binary";

/// Arrow's type for a SQL type name. Times are in microseconds, which every reader of tables takes.
fn sql_type(name: &str) -> Option<DataType> {
    let name = name.trim().to_ascii_lowercase();
    let words = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let (base, arguments) = match words.split_once('(') {
        Some((base, rest)) => (base.trim_end(), Some(rest.strip_suffix(')')?)),
        None => (words.as_str(), None),
    };
    Some(match (base, arguments) {
        ("varchar" | "char" | "character varying", Some(length))
            if length.trim().parse::<u32>().is_ok() =>
        {
            DataType::Utf8
        }
        ("varchar" | "char" | "character varying" | "text" | "string" | "json", None) => {
            DataType::Utf8
        }
        ("binary" | "varbinary" | "bytea" | "bytes", None) => DataType::Binary,
        ("boolean" | "bool", None) => DataType::Boolean,
        ("tinyint", None) => DataType::Int8,
        ("smallint" | "int2", None) => DataType::Int16,
        ("integer" | "int" | "int4", None) => DataType::Int32,
        ("bigint" | "long" | "int8", None) => DataType::Int64,
        ("real" | "float" | "float4", None) => DataType::Float32,
        ("double" | "double precision" | "float8", None) => DataType::Float64,
        ("decimal" | "numeric", Some(arguments)) => {
            let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
            let (precision, scale) = (
                precision.trim().parse::<u8>().ok()?,
                scale.trim().parse::<u8>().ok()?,
            );
            if precision == 0 || precision > 38 || scale > precision {
                return None;
            }
            DataType::Decimal128(precision, i8::try_from(scale).ok()?)
        }
        ("date", None) => DataType::Date32,
        ("timestamp" | "datetime" | "timestamp without time zone", None) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        ("timestamptz" | "timestamp with time zone", None) => utc(),
        _ => return None,
    })
}

/// Instants, in UTC.
pub(crate) fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The relation `input` of a topic. Every column can be null: what is required was checked before.
pub(crate) fn input(fields: &[Declared]) -> SchemaRef {
    Arc::new(Schema::new(
        fields
            .iter()
            .map(|field| Field::new(&field.name, field.data_type.clone(), true))
            .collect::<Vec<_>>(),
    ))
}

/// The table that rows of `result` go to: types that every table format knows, and the columns that
/// say where a row came from, where they are wanted and not there already.
pub(crate) fn table(result: &Schema, metadata_columns: bool) -> SchemaRef {
    let mut fields: Vec<Field> = result
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), storable(field.data_type()), true))
        .collect();
    if metadata_columns {
        for (name, data_type) in
            METADATA
                .into_iter()
                .zip([DataType::Utf8, DataType::Int32, DataType::Int64])
        {
            if result.column_with_name(name).is_none() {
                fields.push(Field::new(name, data_type, true));
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// The nearest type that holds every value and that Delta, Spark and BigQuery can read.
fn storable(data_type: &DataType) -> DataType {
    let within = |field: &FieldRef| {
        Arc::new(
            field
                .as_ref()
                .clone()
                .with_data_type(storable(field.data_type())),
        )
    };
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(within).collect()),
        DataType::List(field) | DataType::LargeList(field) => DataType::List(within(field)),
        DataType::Map(entries, sorted) => DataType::Map(within(entries), *sorted),
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, value) => storable(value),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()))
        }
        other => other.clone(),
    }
}

/// Where records go that cannot become rows: one table per stream.
pub(crate) fn dead_letters() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("_topic", DataType::Utf8, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_timestamp", utc(), true),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("headers", headers::data_type(), true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("ingested_at", utc(), true),
    ]))
}

fn definition(key: String, reason: String) -> Error {
    Error::Definition { key, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_type_names_become_arrow_types() {
        let expected = [
            ("VARCHAR", Some(DataType::Utf8)),
            ("varchar(20)", Some(DataType::Utf8)),
            ("double  precision", Some(DataType::Float64)),
            ("BigInt", Some(DataType::Int64)),
            ("decimal(10, 2)", Some(DataType::Decimal128(10, 2))),
            ("numeric(5)", Some(DataType::Decimal128(5, 0))),
            (
                "timestamp",
                Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            ),
            ("timestamp with time zone", Some(utc())),
            ("decimal(2, 5)", None),
            ("decimal(39, 1)", None),
            ("varchar(x)", None),
            ("jsonb", None),
            ("", None),
        ];
        for (name, data_type) in expected {
            assert_eq!(sql_type(name), data_type, "{name}");
        }
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_key() {
        let field = |name: &str, r#type: &str| FieldDefinition {
            name: name.into(),
            r#type: r#type.into(),
            required: false,
        };
        let topic = TopicDefinition {
            topic: "t".into(),
            schema: vec![field("a", "bigint"), field("b", "jsonb")],
            ..Default::default()
        };
        let Err(Error::Definition { key, reason }) = declared(1, &topic) else {
            panic!("accepted")
        };
        assert_eq!(key, "topic[1].schema[1].type");
        assert!(
            reason.starts_with("field b of topic t has the type \"jsonb\"; accepted are varchar"),
            "{reason}"
        );
    }

    #[test]
    fn tables_get_types_every_reader_knows_and_metadata_once() {
        let result = Schema::new(vec![
            Field::new("_offset", DataType::Int64, false),
            Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Millisecond, None),
                false,
            ),
            Field::new("name", DataType::Utf8View, false),
        ]);
        let table = table(&result, true);
        let columns: Vec<_> = table
            .fields()
            .iter()
            .map(|field| (field.name().as_str(), field.data_type().clone()))
            .collect();
        assert_eq!(
            columns,
            [
                ("_offset", DataType::Int64),
                ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
                ("name", DataType::Utf8),
                ("_topic", DataType::Utf8),
                ("_partition", DataType::Int32),
            ]
        );
    }
}
