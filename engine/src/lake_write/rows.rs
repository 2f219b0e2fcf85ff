//! Staged files as rows, on their way from workers to the master.

use super::action::Counts;
use crate::{Error, Result};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::Result as PlanResult;
use drumline_lake::StagedFile;
use std::sync::{Arc, LazyLock};

/// `path`, `size`, `rows`, `partition_values` and `statistics` (both JSON), `definition`.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("size", DataType::UInt64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("partition_values", DataType::Utf8, false),
        Field::new("statistics", DataType::Utf8, true),
        Field::new("definition", DataType::UInt64, false),
    ]))
});

/// One row per file; and one with an empty path for what became of the rows, where that is counted.
pub(super) fn to_rows(files: &[StagedFile], counts: Option<Counts>) -> PlanResult<RecordBatch> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| {
            Error::bug(format!("a staged file cannot be written as JSON: {error}"))
        })
    };
    let mut values = Vec::with_capacity(files.len());
    let mut statistics = Vec::with_capacity(files.len());
    for file in files {
        values.push(json(serde_json::to_string(&file.partition_values))?);
        statistics.push(match &file.statistics {
            Some(found) => Some(json(serde_json::to_string(found))?),
            None => None,
        });
    }
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut sizes: Vec<u64> = files.iter().map(|file| file.size).collect();
    let mut rows: Vec<u64> = files.iter().map(|file| file.rows).collect();
    let mut definitions: Vec<u64> = files.iter().map(|file| file.definition).collect();
    if let Some(counts) = counts {
        paths.push("");
        sizes.push(0);
        rows.push(0);
        definitions.push(0);
        values.push("[]".to_owned());
        statistics.push(Some(json(serde_json::to_string(&counts))?));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(paths)),
        Arc::new(UInt64Array::from_iter_values(sizes)),
        Arc::new(UInt64Array::from_iter_values(rows)),
        Arc::new(StringArray::from(values)),
        Arc::new(StringArray::from(statistics)),
        Arc::new(UInt64Array::from_iter_values(definitions)),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}

/// What became of the rows of a finished write, all its tasks together.
///
/// # Errors
/// A bug, if the rows are not those of a `LakeWriteExec`.
pub fn staged_counts(rows: &[RecordBatch]) -> Result<Counts> {
    let mut counts = Counts::default();
    for batch in rows {
        let path = cast(column(batch, "path")?, &DataType::Utf8).map_err(broken)?;
        let told = cast(column(batch, "statistics")?, &DataType::Utf8).map_err(broken)?;
        let (path, told) = (path.as_string::<i32>(), told.as_string::<i32>());
        for row in (0..batch.num_rows()).filter(|row| path.value(*row).is_empty()) {
            counts += serde_json::from_str(told.value(row)).map_err(broken)?;
        }
    }
    Ok(counts)
}

/// The staged files that a finished write's rows describe.
///
/// # Errors
/// A bug, if the rows are not those of a `LakeWriteExec`.
pub fn staged_files(rows: &[RecordBatch]) -> Result<Vec<StagedFile>> {
    let mut files = Vec::new();
    for batch in rows {
        let text = |name: &str| -> Result<ArrayRef> {
            cast(column(batch, name)?, &DataType::Utf8).map_err(broken)
        };
        let number = |name: &str| -> Result<ArrayRef> {
            cast(column(batch, name)?, &DataType::UInt64).map_err(broken)
        };
        let (path, values, statistics) = (
            text("path")?,
            text("partition_values")?,
            text("statistics")?,
        );
        let (size, count) = (number("size")?, number("rows")?);
        let definition = number("definition")?;
        let definition = definition.as_primitive::<UInt64Type>();
        let (path, values) = (path.as_string::<i32>(), values.as_string::<i32>());
        let statistics = statistics.as_string::<i32>();
        let (size, count) = (
            size.as_primitive::<UInt64Type>(),
            count.as_primitive::<UInt64Type>(),
        );
        for row in (0..batch.num_rows()).filter(|row| !path.value(*row).is_empty()) {
            files.push(StagedFile {
                path: path.value(row).to_owned(),
                size: size.value(row),
                rows: count.value(row),
                partition_values: serde_json::from_str(values.value(row)).map_err(broken)?,
                statistics: match statistics.is_valid(row) {
                    true => Some(serde_json::from_str(statistics.value(row)).map_err(broken)?),
                    false => None,
                },
                definition: definition.value(row),
            });
        }
    }
    Ok(files)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::bug(format!("a write answered without `{name}`")))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::bug(format!("a write's answer cannot be read: {error}"))
}
