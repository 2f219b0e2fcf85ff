//! Statistics of a file: from Parquet's metadata to the JSON that Delta logs carry, and on to DataFusion.
//!
//! Bounds are exact only where a reader may answer `min()` and `max()` from them: integers and dates. Text is
//! cut to a prefix, timestamps are rounded outwards to milliseconds. Floats have none, and none that others wrote
//! is believed: bounds leave NaN out, which is ordered beyond all other numbers.

use chrono::Datelike;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

/// How many leading columns get bounds, as in Delta.
const INDEXED_COLUMNS: usize = 32;

/// Delta's statistics of a file just written.
pub(crate) fn of_file(metadata: &ParquetMetaData, schema: &Schema) -> Value {
    let rows = metadata.file_metadata().num_rows();
    let (mut mins, mut maxs, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in schema.fields().iter().take(INDEXED_COLUMNS) {
        if field.data_type().is_nested() {
            continue;
        }
        let groups = metadata.row_groups();
        let parquet_schema = metadata.file_metadata().schema_descr();
        let Ok(column) = StatisticsConverter::try_new(field.name(), schema, parquet_schema) else {
            continue;
        };
        if let Ok(counts) = column.row_group_null_counts(groups)
            && counts.iter().all(|count| count.is_some())
        {
            let count: u64 = counts.iter().flatten().sum();
            nulls.insert(field.name().clone(), json!(count));
            if i64::try_from(count) == Ok(rows) {
                continue;
            }
        }
        let (Ok(low), Ok(high)) = (
            column.row_group_mins(groups),
            column.row_group_maxes(groups),
        ) else {
            continue;
        };
        let scalars = |array: &datafusion::arrow::array::ArrayRef| {
            (0..array.len())
                .map(|index| ScalarValue::try_from_array(array, index).ok())
                .collect::<Option<Vec<_>>>()
        };
        let (Some(low), Some(high)) = (scalars(&low), scalars(&high)) else {
            continue;
        };
        let bounds = fold(low, std::cmp::Ordering::Less)
            .and_then(|low| to_json(&low, false))
            .zip(fold(high, std::cmp::Ordering::Greater).and_then(|high| to_json(&high, true)));
        if let Some((low, high)) = bounds {
            mins.insert(field.name().clone(), low);
            maxs.insert(field.name().clone(), high);
        }
    }
    json!({ "numRecords": rows, "minValues": mins, "maxValues": maxs, "nullCount": nulls })
}

/// The smallest or largest; none if a row group (with values) does not tell.
fn fold(values: Vec<ScalarValue>, wanted: std::cmp::Ordering) -> Option<ScalarValue> {
    let mut best: Option<ScalarValue> = None;
    for value in values {
        if value.is_null() {
            return None;
        }
        best = match best {
            Some(known) if value.partial_cmp(&known)? != wanted => Some(known),
            _ => Some(value),
        };
    }
    best
}

fn to_json(value: &ScalarValue, round_up: bool) -> Option<Value> {
    match value {
        ScalarValue::Boolean(Some(v)) => Some(json!(v)),
        ScalarValue::Int8(Some(v)) => Some(json!(v)),
        ScalarValue::Int16(Some(v)) => Some(json!(v)),
        ScalarValue::Int32(Some(v)) => Some(json!(v)),
        ScalarValue::Int64(Some(v)) => Some(json!(v)),
        ScalarValue::Utf8(Some(v)) => Some(json!(v)),
        ScalarValue::Date32(Some(days)) => {
            let seconds = i64::from(*days) * 86_400;
            let at = told(chrono::DateTime::from_timestamp_secs(seconds)?)?;
            Some(json!(at.format("%Y-%m-%d").to_string()))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            let millis =
                micros.div_euclid(1000) + i64::from(round_up && micros.rem_euclid(1000) != 0);
            let at = told(chrono::DateTime::from_timestamp_millis(millis)?)?;
            let zone = zone.as_ref().map_or("", |_| "Z");
            Some(json!(format!(
                "{}{zone}",
                at.format("%Y-%m-%dT%H:%M:%S%.3f")
            )))
        }
        _ => None,
    }
}

/// A moment that every reader knows: with a bound beyond the years 1 to 9999 some could not open the table.
fn told(at: chrono::DateTime<chrono::Utc>) -> Option<chrono::DateTime<chrono::Utc>> {
    (1..=9999).contains(&at.year()).then_some(at)
}

fn from_json(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let scalar = match data_type {
        DataType::Boolean => ScalarValue::from(value.as_bool()?),
        data_type if data_type.is_integer() => ScalarValue::from(value.as_i64()?),
        DataType::Utf8 | DataType::Date32 | DataType::Timestamp(_, _) => {
            ScalarValue::from(value.as_str()?)
        }
        _ => return None,
    };
    scalar.cast_to(data_type).ok()
}

/// DataFusion's statistics of a file: `columns` in files, then one value per partition column.
pub(crate) fn for_scan(
    statistics: Option<&Value>,
    rows: u64,
    size: u64,
    columns: &Schema,
    partition_values: &[ScalarValue],
) -> Statistics {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut column_statistics: Vec<ColumnStatistics> = columns
        .fields()
        .iter()
        .map(|field| column_for_scan(statistics, field.name(), field.data_type()))
        .collect();
    for value in partition_values {
        let bound = || match value.is_null() {
            true => Precision::Absent,
            false => Precision::Exact(value.clone()),
        };
        column_statistics.push(ColumnStatistics {
            null_count: Precision::Exact(if value.is_null() { rows } else { 0 }),
            min_value: bound(),
            max_value: bound(),
            ..ColumnStatistics::new_unknown()
        });
    }
    Statistics {
        num_rows: Precision::Exact(rows),
        // Compressed; memory takes more.
        total_byte_size: Precision::Inexact(usize::try_from(size).unwrap_or(usize::MAX)),
        column_statistics,
    }
}

fn column_for_scan(statistics: Option<&Value>, name: &str, kind: &DataType) -> ColumnStatistics {
    let get = |group: &str| statistics.and_then(|s| s.get(group)?.get(name));
    let exact = kind.is_integer() || matches!(kind, DataType::Date32);
    // Bounds of floats pass over NaN, which is larger than any of them (or smaller, with a sign).
    let get = |group: &str| get(group).filter(|_| group == "nullCount" || !kind.is_floating());
    let bound = |value: Option<ScalarValue>| match value {
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    };
    let high = get("maxValues").and_then(|v| from_json(v, kind));
    // Other writers cut timestamps to milliseconds instead of rounding up.
    let high = match high {
        Some(ScalarValue::TimestampMicrosecond(Some(v), zone)) => Some(
            ScalarValue::TimestampMicrosecond(Some(v.saturating_add(999)), zone),
        ),
        other => other,
    };
    let nulls = get("nullCount")
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok());
    ColumnStatistics {
        null_count: nulls.map_or(Precision::Absent, Precision::Exact),
        min_value: bound(get("minValues").and_then(|v| from_json(v, kind))),
        max_value: bound(high),
        ..ColumnStatistics::new_unknown()
    }
}

#[cfg(test)]
mod tests;
