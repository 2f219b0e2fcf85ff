//! Arrow columns as formats have them, to those that every table and reader knows.
//!
//! Dictionaries become their values, UUIDs and times of day text, unions structs with a member per
//! branch, decimals of more than 38 digits text, instants microseconds. What is nested is nullable.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, StringBuilder, StructArray, UInt32Array,
    UnionArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Fields, TimeUnit, UnionFields};
use arrow::error::ArrowError;

use crate::schema;

type Metadata = HashMap<String, String>;

fn is_uuid(metadata: &Metadata) -> bool {
    metadata.get("logicalType").map(String::as_str) == Some("uuid")
}

/// The field without what only its format knows.
pub(super) fn plain_field(field: &Field) -> Field {
    Field::new(
        field.name(),
        plain_type(field.data_type(), field.metadata()),
        true,
    )
}

fn plain_type(data_type: &DataType, metadata: &Metadata) -> DataType {
    let within = |field: &FieldRef| Arc::new(plain_field(field));
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value, metadata),
        DataType::FixedSizeBinary(16) if is_uuid(metadata) => DataType::Utf8,
        DataType::FixedSizeBinary(_) | DataType::LargeBinary => DataType::Binary,
        DataType::Null
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Interval(_)
        | DataType::Decimal256(..) => DataType::Utf8,
        DataType::Duration(_) => DataType::Int64,
        DataType::Timestamp(_, Some(_)) => schema::utc(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(within).collect()),
        DataType::List(item) => DataType::List(within(item)),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(plain_entries(entries)), *sorted),
        DataType::Union(branches, _) => DataType::Struct(members(branches)),
        other => other.clone(),
    }
}

/// A map's entries: the key is never null.
fn plain_entries(entries: &Field) -> Field {
    let DataType::Struct(fields) = entries.data_type() else {
        return entries.clone();
    };
    let fields: Fields = fields
        .iter()
        .enumerate()
        .map(|(at, field)| Arc::new(plain_field(field).with_nullable(at > 0)))
        .collect();
    Field::new("key_value", DataType::Struct(fields), false)
}

/// A member for each branch of a union but null.
fn members(branches: &UnionFields) -> Fields {
    branches
        .iter()
        .filter(|(_, field)| *field.data_type() != DataType::Null)
        .map(|(_, field)| {
            let name = field.name().replace('.', "_");
            Arc::new(plain_field(field).with_name(name))
        })
        .collect()
}

/// The column in its plain type.
pub(super) fn plain(column: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    let wanted = plain_type(field.data_type(), field.metadata());
    Ok(match (column.data_type(), &wanted) {
        (DataType::FixedSizeBinary(16), DataType::Utf8) => uuids(column),
        (DataType::Struct(fields), DataType::Struct(plain_fields)) => {
            let column = column.as_struct();
            let mut columns = plain_all(column.columns(), fields)?;
            if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
                for member in &mut columns {
                    *member = null_where(member, nulls)?;
                }
            }
            Arc::new(StructArray::try_new_with_length(
                plain_fields.clone(),
                columns,
                column.nulls().cloned(),
                column.len(),
            )?)
        }
        (DataType::List(item), DataType::List(plain_item)) => {
            let column = column.as_list::<i32>();
            let values = plain(column.values(), item)?;
            Arc::new(ListArray::try_new(
                Arc::clone(plain_item),
                column.offsets().clone(),
                values,
                column.nulls().cloned(),
            )?)
        }
        (DataType::Map(entries, _), DataType::Map(plain_entries, sorted)) => {
            let column = column.as_map();
            let (DataType::Struct(fields), DataType::Struct(plain_fields)) =
                (entries.data_type(), plain_entries.data_type())
            else {
                return Err(ArrowError::SchemaError("a map without entries".to_owned()));
            };
            let values = plain_all(column.entries().columns(), fields)?;
            let entries = StructArray::try_new(plain_fields.clone(), values, None)?;
            Arc::new(MapArray::try_new(
                Arc::clone(plain_entries),
                column.offsets().clone(),
                entries,
                column.nulls().cloned(),
                *sorted,
            )?)
        }
        (DataType::Union(branches, _), DataType::Struct(plain_fields)) => {
            Arc::new(member_columns(column.as_union(), branches, plain_fields)?)
        }
        (found, wanted) if found == wanted => Arc::clone(column),
        _ => strict(column, &wanted)?,
    })
}

/// A member of structs that are null is null there, too: expressions look at the member alone.
fn null_where(member: &ArrayRef, nulls: &NullBuffer) -> Result<ArrayRef, ArrowError> {
    let nulls = NullBuffer::union(member.nulls(), Some(nulls));
    if let (Some(column), Some(nulls)) = (member.as_struct_opt(), &nulls) {
        let members = column.columns().iter().map(|it| null_where(it, nulls));
        return Ok(Arc::new(StructArray::try_new_with_length(
            column.fields().clone(),
            members.collect::<Result<_, _>>()?,
            Some(nulls.clone()),
            column.len(),
        )?));
    }
    let data = member.to_data().into_builder().nulls(nulls).build()?;
    Ok(make_array(data))
}

/// Fails where a decimal has more digits than its type: other readers would find another number.
pub(super) fn within_precision(column: &ArrayRef) -> Result<(), ArrowError> {
    match column.data_type() {
        DataType::Decimal128(precision, _) => {
            let column = column.as_primitive::<Decimal128Type>();
            column.validate_decimal_precision(*precision)
        }
        DataType::Struct(_) => {
            let mut members = column.as_struct().columns().iter();
            members.try_for_each(within_precision)
        }
        DataType::List(_) => within_precision(column.as_list::<i32>().values()),
        DataType::Map(..) => within_precision(column.as_map().values()),
        _ => Ok(()),
    }
}

/// Casts; a value that does not fit is an error.
pub(super) fn strict(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions {
        safe: false,
        ..Default::default()
    };
    cast_with_options(column, to, &options)
}

fn plain_all(columns: &[ArrayRef], fields: &Fields) -> Result<Vec<ArrayRef>, ArrowError> {
    columns
        .iter()
        .zip(fields)
        .map(|(column, field)| plain(column, field))
        .collect()
}

fn uuids(column: &ArrayRef) -> ArrayRef {
    let column = column.as_fixed_size_binary();
    let mut text = StringBuilder::with_capacity(column.len(), column.len() * 36);
    for value in column {
        text.append_option(value.map(|bytes| {
            let mut uuid = String::with_capacity(36);
            for (at, byte) in bytes.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    uuid.push('-');
                }
                uuid.push_str(&format!("{byte:02x}"));
            }
            uuid
        }));
    }
    Arc::new(text.finish())
}

fn member_columns(
    column: &UnionArray,
    branches: &UnionFields,
    members: &Fields,
) -> Result<StructArray, ArrowError> {
    let mut columns = Vec::with_capacity(members.len());
    let mut valid = vec![false; column.len()];
    for (id, field) in branches.iter() {
        if *field.data_type() == DataType::Null {
            continue;
        }
        let places: UInt32Array = (0..column.len())
            .map(|row| {
                let own = column.type_id(row) == id;
                own.then(|| u32::try_from(column.value_offset(row)).ok())
                    .flatten()
            })
            .collect();
        let values = plain(&take(column.child(id), &places, None)?, field)?;
        for (row, valid) in valid.iter_mut().enumerate() {
            *valid |= column.type_id(row) == id && !values.is_null(row);
        }
        columns.push(values);
    }
    StructArray::try_new_with_length(members.clone(), columns, Some(valid.into()), column.len())
}
