//! What columns a table can hold, and how a schema is written down (as Delta writes it, for both formats).

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};

use crate::{Error, Format, Result};

/// Metadata of a column that was declared NOT NULL. What a query happens to yield without nulls was not.
pub const NOT_NULL: &str = "drumline.not_null";

/// What timestamps without a zone are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naive {
    /// As they are. In Delta that is a feature of the table's protocol.
    Kept,
    /// As instants in UTC.
    Utc,
}

impl Naive {
    /// What tables of a format do. Those who read folders of Parquet expect instants.
    pub(crate) fn of(format: Format) -> Self {
        match format {
            Format::Delta => Self::Kept,
            Format::Parquet => Self::Utc,
        }
    }
}

/// Whether a timestamp without a zone is among the columns, or in one of them.
pub(crate) fn has_naive(schema: &Schema) -> bool {
    fn is_naive(kind: &DataType) -> bool {
        match kind {
            DataType::Timestamp(_, None) => true,
            DataType::List(field) | DataType::Map(field, _) => is_naive(field.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| is_naive(field.data_type())),
            _ => false,
        }
    }
    let mut fields = schema.fields().iter();
    fields.any(|field| is_naive(field.data_type()))
}

/// The columns as a table holds them: microsecond timestamps, plain strings and binaries, signed
/// integers, all nullable but those that were declared [`NOT_NULL`]. Refuses names and types that Parquet or Delta readers trip over.
pub(crate) fn stored(table: &str, schema: &Schema, naive: Naive) -> Result<SchemaRef> {
    let mut seen = HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let refuse = |reason: String| Error::Column {
            table: table.to_owned(),
            column: field.name().clone(),
            reason,
        };
        check_name(field.name()).map_err(|reason| refuse(reason.to_owned()))?;
        if !seen.insert(field.name().to_lowercase()) {
            return Err(refuse(
                "another column has that name (upper and lower case are the same)".to_owned(),
            ));
        }
        let data_type = stored_type(field.data_type(), naive)
            .ok_or_else(|| refuse(format!("type {} is not supported", field.data_type())))?;
        let is_nullable = !field.metadata().contains_key(NOT_NULL);
        fields.push(Field::new(field.name(), data_type, is_nullable));
    }
    if fields.is_empty() {
        return Err(Error::Rows {
            table: table.to_owned(),
            reason: "a table needs at least one column".to_owned(),
        });
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Partition columns must be there, be plain, and leave something for the files.
pub(crate) fn check_partitions(table: &str, schema: &Schema, partitions: &[String]) -> Result<()> {
    for (index, column) in partitions.iter().enumerate() {
        let refuse = |reason: &str| Error::Column {
            table: table.to_owned(),
            column: column.clone(),
            reason: reason.to_owned(),
        };
        let Ok(field) = schema.field_with_name(column) else {
            return Err(refuse(
                "the table is to be partitioned by it but has no such column",
            ));
        };
        let plain = field.data_type().is_integer()
            || matches!(
                field.data_type(),
                DataType::Utf8 | DataType::Boolean | DataType::Date32
            );
        if !plain {
            return Err(refuse(
                "a partition column must be an integer, a string, a boolean or a date",
            ));
        }
        if partitions.iter().take(index).any(|other| other == column) {
            return Err(refuse("it is named twice as a partition column"));
        }
    }
    if partitions.len() == schema.fields().len() {
        return Err(Error::Rows {
            table: table.to_owned(),
            reason: "a table needs a column besides its partition columns".to_owned(),
        });
    }
    Ok(())
}

/// The columns that are in files, then the partition columns.
pub(crate) fn split(schema: &Schema, partitions: &[String]) -> (SchemaRef, Vec<FieldRef>) {
    let is_partition = |field: &&FieldRef| partitions.contains(field.name());
    let in_files: Vec<FieldRef> = schema
        .fields()
        .iter()
        .filter(|field| !is_partition(field))
        .cloned()
        .collect();
    let as_folders = partitions
        .iter()
        .filter_map(|name| schema.fields().find(name).map(|(_, field)| field.clone()))
        .collect();
    (Arc::new(Schema::new(in_files)), as_folders)
}

/// The type that a table holds where values of a column become those of another one; `None` where not every value
/// has one that is the same.
pub fn widens(format: Format, from: &DataType, to: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    let to = stored_type(to, Naive::of(format))?;
    let digits = |kind: &DataType| match kind {
        Int8 => Some(3),
        Int16 => Some(5),
        Int32 => Some(10),
        Int64 => Some(19),
        _ => None,
    };
    let is_wider = match (from, &to) {
        (Int8, Int16 | Int32 | Int64)
        | (Int16, Int32 | Int64)
        | (Int32, Int64)
        | (Float32 | Int8 | Int16 | Int32, Float64)
        | (Int8 | Int16, Float32)
        | (Date32, Timestamp(_, _)) => true,
        (Decimal128(p, s), Decimal128(wider, scale)) => {
            let whole = |precision: &u8, scale: &i8| i16::from(*precision) - i16::from(*scale);
            scale >= s && whole(wider, scale) >= whole(p, s) && (wider, scale) != (p, s)
        }
        (from, Decimal128(precision, scale)) => {
            digits(from).is_some_and(|digits| i16::from(*precision) - i16::from(*scale) >= digits)
        }
        _ => false,
    };
    is_wider.then_some(to)
}

/// A schema without metadata, as another writer's log may carry some.
pub(crate) fn plain(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), field.data_type().clone(), field.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub(crate) fn to_json(schema: &Schema) -> Result<String> {
    let delta: StructType = schema
        .try_into_kernel()
        .map_err(|error| Error::bug(format!("a schema cannot be written down: {error}")))?;
    serde_json::to_string(&delta)
        .map_err(|error| Error::bug(format!("a schema cannot be written down: {error}")))
}

pub(crate) fn from_json(json: &str) -> Result<SchemaRef> {
    let wrong = |reason: String| Error::Corrupt {
        path: "schema of a table".to_owned(),
        reason,
    };
    let delta: StructType = serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
    let schema: Schema = (&delta)
        .try_into_arrow()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(schema))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.len() > 300 {
        return Err("its name is longer than 300 bytes");
    }
    if name
        .chars()
        .any(|c| c.is_control() || " ,;{}()=\"`/".contains(c))
    {
        return Err(
            "its name holds a space or one of , ; { } ( ) = \" ` / : give it another with AS",
        );
    }
    Ok(())
}

fn stored_type(data_type: &DataType, naive: Naive) -> Option<DataType> {
    let nested = |field: &FieldRef| {
        Some(Arc::new(Field::new(
            field.name(),
            stored_type(field.data_type(), naive)?,
            true,
        )))
    };
    Some(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) if naive == Naive::Kept => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(_, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
        }
        // A column of nothing but nulls: text can hold whatever comes later.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            DataType::Utf8
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) if *precision <= 38 && *scale >= 0 => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => stored_type(value, naive)?,
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) => {
            // The name that Parquet's own list layout gives the element.
            let element = stored_type(field.data_type(), naive)?;
            DataType::List(Arc::new(Field::new("element", element, true)))
        }
        DataType::Struct(fields) => {
            let fields: Option<Vec<_>> = fields.iter().map(nested).collect();
            DataType::Struct(fields?.into())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return None;
            };
            let [key, value] = fields.as_ref() else {
                return None;
            };
            // The names that Parquet's own map layout and Delta give the parts.
            let key = Field::new("key", stored_type(key.data_type(), naive)?, false);
            let value = Field::new("value", stored_type(value.data_type(), naive)?, true);
            let entries = DataType::Struct(vec![key, value].into());
            DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, data_type: DataType) -> Schema {
        Schema::new(vec![Field::new(name, data_type, false)])
    }

    #[test]
    fn a_stored_schema_survives_being_written_down() {
        let utc = Some(Arc::from("UTC"));
        let schema = Schema::new(vec![
            Field::new("a", DataType::UInt64, false),
            Field::new("b", DataType::Utf8View, false),
            Field::new("c", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("d", DataType::Decimal128(12, 2), true),
            Field::new("e", DataType::new_list(DataType::Utf8View, true), true),
            Field::new("f", DataType::Timestamp(TimeUnit::Millisecond, utc), true),
            Field::new_map(
                "g",
                "entries",
                Field::new("keys", DataType::Utf8View, false),
                Field::new("values", DataType::UInt32, true),
                false,
                true,
            ),
        ]);
        let stored = stored("t", &schema, Naive::Kept).unwrap();
        assert_eq!(stored.field(0).data_type(), &DataType::Int64);
        let naive = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(stored.field(2).data_type(), &naive);
        assert!(has_naive(&stored));
        let instants = super::stored("t", &schema, Naive::Utc).unwrap();
        assert!(!has_naive(&instants));
        assert_eq!(from_json(&to_json(&stored).unwrap()).unwrap(), stored);
    }

    #[test]
    fn names_that_delta_readers_trip_over_are_refused() {
        for name in ["count(*)", "a b", "", "a=b"] {
            let error = stored("t", &field(name, DataType::Int64), Naive::Kept).unwrap_err();
            assert!(matches!(error, Error::Column { .. }), "{name}");
        }
    }

    #[test]
    fn two_names_that_differ_in_case_only_are_refused() {
        let schema = Schema::new(vec![
            Field::new("Song", DataType::Utf8, true),
            Field::new("song", DataType::Utf8, true),
        ]);
        assert!(stored("t", &schema, Naive::Kept).is_err());
    }

    #[test]
    fn a_type_is_wider_when_it_holds_every_value() {
        use DataType::{Date32, Decimal128, Float32, Float64, Int32, Int64, UInt64, Utf8};
        for (from, to) in [
            (Int32, Int64),
            (Int32, UInt64),
            (Int32, Float64),
            (Float32, Float64),
            (Decimal128(10, 2), Decimal128(12, 3)),
            (Int64, Decimal128(20, 1)),
            (Date32, DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ] {
            assert!(
                widens(Format::Delta, &from, &to).is_some(),
                "{from} to {to}"
            );
        }
        for (from, to) in [
            (Int64, Int32),
            (Int64, Int64),
            (Int64, Float64),
            (Float64, Float32),
            (Int64, Decimal128(20, 2)),
            (Decimal128(10, 2), Decimal128(10, 3)),
            (Decimal128(10, 2), Decimal128(10, 2)),
            (Int32, Utf8),
        ] {
            assert!(
                widens(Format::Delta, &from, &to).is_none(),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn a_type_without_a_place_is_refused_by_name() {
        let error = stored(
            "t",
            &field("x", DataType::Duration(TimeUnit::Second)),
            Naive::Kept,
        )
        .unwrap_err();
        assert!(error.to_string().contains("'x'"), "{error}");
    }
}
