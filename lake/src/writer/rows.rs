//! Rows before they are written: cast to the table's columns, split by partition values.

use std::collections::HashMap;

use datafusion::arrow::array::{
    Array, ArrayRef, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{
    CastOptions, cast_with_options, nullif, partition, take, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;

use super::WriteTarget;
use crate::{Error, Result, hive};

/// Partition values of a row, as text.
type Key = Vec<Option<String>>;

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
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<Vec<(Key, RecordBatch)>> {
        let batch = self.cast(batch)?;
        let rows = batch
            .project(&self.file_columns)
            .map_err(|error| self.misfit(&error))?;
        if self.partition_columns.is_empty() {
            return Ok(vec![(Key::new(), rows)]);
        }
        let columns = self.partition_columns.iter();
        let columns: Vec<ArrayRef> = columns.map(|&at| batch.column(at).clone()).collect();
        let groups = group(&columns).map_err(|error| self.misfit(&error))?;
        let fields = self.partition_columns.iter();
        let names: Vec<&str> = fields
            .map(|at| self.schema.field(*at).name().as_str())
            .collect();
        for (key, _) in &groups {
            let mut values = names.iter().zip(key);
            let long = values.find_map(|(name, value)| hive::too_long(name, value.as_deref()?));
            if let Some(reason) = long {
                let table = self.table.clone();
                return Err(Error::Rows { table, reason });
            }
        }
        if let [(key, _)] = groups.as_slice() {
            return Ok(vec![(key.clone(), rows)]);
        }
        groups
            .into_iter()
            .map(|(key, indices)| {
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

/// Row numbers of each distinct combination of values, in the order of first appearance. Events come mostly in runs
/// of one hour: values are made text once for each run.
fn group(columns: &[ArrayRef]) -> Result<Vec<(Key, Vec<u32>)>, ArrowError> {
    let runs = partition(columns)?.ranges();
    let number = |row: usize| {
        u32::try_from(row)
            .map_err(|_| ArrowError::InvalidArgumentError("a batch of too many rows".to_owned()))
    };
    let firsts = runs.iter().map(|run| number(run.start));
    let firsts = UInt32Array::from(firsts.collect::<Result<Vec<_>, _>>()?);
    let values = columns
        .iter()
        .map(|column| text(&take(column, &firsts, None)?))
        .collect::<Result<Vec<_>, _>>()?;
    let mut known: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<(Key, Vec<u32>)> = Vec::new();
    for (at, run) in runs.into_iter().enumerate() {
        let key: Key = values.iter().map(|column| value(column, at)).collect();
        let index = *known.entry(key).or_insert_with_key(|key| {
            groups.push((key.clone(), Vec::new()));
            groups.len() - 1
        });
        if let Some((_, rows)) = groups.get_mut(index) {
            rows.extend(number(run.start)?..number(run.end)?);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, Int32Array, StringArray};

    use super::*;

    fn groups(columns: &[ArrayRef]) -> Vec<(String, Vec<u32>)> {
        let groups = group(columns).unwrap().into_iter();
        let name = |key: Key| {
            let values = key.into_iter().map(|value| value.unwrap_or("-".to_owned()));
            values.collect::<Vec<_>>().join("/")
        };
        groups.map(|(key, rows)| (name(key), rows)).collect()
    }

    #[test]
    fn a_value_that_is_too_long_for_a_folder_is_named() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ok".to_owned(), "y".repeat(300)]));
        let rows = RecordBatch::try_from_iter([("s", text)]).unwrap();
        let folders = vec!["s".to_owned()];
        let format = crate::Format::Parquet;
        let target = WriteTarget::unwritten("t", format, &rows.schema(), folders).unwrap();
        let splitter = Splitter::new(&target, target.schema().unwrap()).unwrap();
        assert_eq!(splitter.split(&rows.slice(0, 1)).unwrap().len(), 1);
        let said = splitter.split(&rows).unwrap_err().to_string();
        assert!(said.contains("would be a name of 302 bytes"), "{said}");
    }

    #[test]
    fn runs_of_the_same_values_are_one_group() {
        let hour: ArrayRef = Arc::new(Int32Array::from(vec![
            Some(7),
            Some(7),
            None,
            Some(7),
            Some(8),
            None,
        ]));
        let zone: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a"),
            Some("a"),
            Some(""),
            Some("a"),
            Some("a"),
            None,
        ]));
        let expected = [
            ("7/a".to_owned(), vec![0, 1, 3]),
            // An empty text is null.
            ("-/-".to_owned(), vec![2, 5]),
            ("8/a".to_owned(), vec![4]),
        ];
        assert_eq!(groups(&[hour, zone]), expected);
    }

    #[test]
    fn what_reads_alike_is_one_group() {
        let values = vec![0.5, f64::NAN, -0.0, f64::NAN, 0.0];
        let column: ArrayRef = Arc::new(Float64Array::from(values));
        let expected = [
            ("0.5".to_owned(), vec![0]),
            ("NaN".to_owned(), vec![1, 3]),
            ("-0.0".to_owned(), vec![2]),
            ("0.0".to_owned(), vec![4]),
        ];
        assert_eq!(groups(&[column]), expected);
    }
}
