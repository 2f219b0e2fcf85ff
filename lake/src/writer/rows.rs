//! Rows before they are written: cast to the table's columns, split by partition values.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{CastOptions, cast_with_options, nullif, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};

use super::WriteTarget;
use crate::{Error, Result};

/// Brings rows into the shape of a table's files.
#[derive(Debug)]
pub(super) struct Splitter {
    table: String,
    schema: SchemaRef,
    file_columns: Vec<usize>,
    partition_columns: Vec<usize>,
}

impl Splitter {
    pub(super) fn new(target: &WriteTarget, schema: SchemaRef) -> Result<Self> {
        let partition_columns = target
            .partition_columns
            .iter()
            .map(|name| schema.index_of(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::bug(format!("write target of '{}': {error}", target.table)))?;
        let file_columns = (0..schema.fields().len())
            .filter(|index| !partition_columns.contains(index))
            .collect();
        Ok(Self {
            table: target.table.clone(),
            schema,
            file_columns,
            partition_columns,
        })
    }

    /// Partition values, and the rows (without partition columns) that have them.
    pub(super) fn split(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<(Vec<Option<String>>, RecordBatch)>> {
        let batch = self.cast(batch)?;
        let rows = batch
            .project(&self.file_columns)
            .map_err(|error| self.misfit(&error))?;
        if self.partition_columns.is_empty() {
            return Ok(vec![(Vec::new(), rows)]);
        }
        let values = self
            .partition_columns
            .iter()
            .map(|&index| text(batch.column(index)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.misfit(&error))?;
        let groups = group(&values).map_err(|error| self.misfit(&error))?;
        let single = groups.len() == 1;
        groups
            .into_iter()
            .map(|indices| {
                let first = indices.first().copied().unwrap_or_default() as usize;
                let key = values.iter().map(|column| value(column, first)).collect();
                if single {
                    return Ok((key, rows.clone()));
                }
                let part = take_record_batch(&rows, &UInt32Array::from(indices))
                    .map_err(|error| self.misfit(&error))?;
                Ok((key, part))
            })
            .collect()
    }

    fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let given = batch.schema();
        for field in given.fields() {
            if self.schema.index_of(field.name()).is_err() {
                return Err(Error::Rows {
                    table: self.table.clone(),
                    reason: format!("it has no column '{}'", field.name()),
                });
            }
        }
        // A value that does not fit is an error, never a silent null.
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match given.index_of(field.name()) {
                Err(_) => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Ok(index) if batch.column(index).data_type() == field.data_type() => {
                    Ok(batch.column(index).clone())
                }
                Ok(index) => cast_with_options(batch.column(index), field.data_type(), &strict)
                    .map_err(|error| Error::Rows {
                        table: self.table.clone(),
                        reason: format!("column '{}': {error}", field.name()),
                    }),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut columns = columns;
        for index in &self.partition_columns {
            if let Some(column) = columns.get_mut(*index)
                && *column.data_type() == DataType::Utf8
            {
                *column = without_empty(column).map_err(|error| self.misfit(&error))?;
            }
        }
        for (at, (field, column)) in self.schema.fields().iter().zip(&columns).enumerate() {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(Error::Rows {
                    table: self.table.clone(),
                    reason: match self.partition_columns.contains(&at) {
                        false => {
                            format!("column '{}' is NOT NULL, and a row has none", field.name())
                        }
                        true => format!(
                            "column '{}' is NOT NULL, and a row has none (an empty text is null where it names a partition)",
                            field.name()
                        ),
                    },
                });
            }
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| self.misfit(&error))
    }

    fn misfit(&self, error: &ArrowError) -> Error {
        Error::Rows {
            table: self.table.clone(),
            reason: error.to_string(),
        }
    }
}

fn text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    let text = cast_with_options(column, &DataType::Utf8, &CastOptions::default())?;
    Ok(StringArray::from(text.to_data()))
}

/// An empty text is null to Hive and Delta alike, so it is before anything is asked of the rows.
fn without_empty(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let is_empty = eq(column, &StringArray::new_scalar(""))?;
    nullif(column, &is_empty)
}

/// Empty where a value of another type is written as nothing: null too.
fn value(column: &StringArray, row: usize) -> Option<String> {
    (column.is_valid(row) && !column.value(row).is_empty()).then(|| column.value(row).to_owned())
}

/// Row numbers of each distinct combination, in the order of first appearance.
fn group(values: &[StringArray]) -> Result<Vec<Vec<u32>>, ArrowError> {
    let nulled: Vec<ArrayRef> = values
        .iter()
        .map(|column| {
            let values = column.iter().map(|v| v.filter(|v| !v.is_empty()));
            Arc::new(values.collect::<StringArray>()) as ArrayRef
        })
        .collect();
    let fields = values.iter().map(|_| SortField::new(DataType::Utf8));
    let converter = RowConverter::new(fields.collect())?;
    let rows = converter.convert_columns(&nulled)?;
    let mut known: HashMap<OwnedRow, usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    for (number, row) in rows.iter().enumerate() {
        // Events come mostly in runs of one hour: compare before hashing.
        let index = match last {
            Some((previous, index)) if rows.row(previous) == row => index,
            _ => *known.entry(row.owned()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            }),
        };
        last = Some((number, index));
        if let (Some(group), Ok(number)) = (groups.get_mut(index), u32::try_from(number)) {
            group.push(number);
        }
    }
    Ok(groups)
}
