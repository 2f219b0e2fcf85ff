//! Whether two results are the same answer.
//!
//! Rows are a multiset; where a statement orders them, its key columns must also come in the same
//! order (rows that tie may swap). Floats agree within 1e-9 relative, because the order in which
//! parallel tasks add them up is free; all else is exact, nulls included. A decimal may stand where a float is
//! expected: beside a decimal, a number with a point is a decimal to us and a float to DataFusion.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How far two floats may lie apart, relative to the larger.
const TOLERANCE: f64 = 1e-9;

/// Fails, naming the first difference, unless `actual` is the same answer as `expected`.
///
/// `order_by`: the columns (by index) that the statement orders by; empty: any order.
pub fn same_answer(
    expected: &[RecordBatch],
    actual: &[RecordBatch],
    order_by: &[usize],
) -> Result<()> {
    let actual = &as_floats(expected, actual)?[..];
    let (expected_shape, actual_shape) = (shape(expected), shape(actual));
    if let (Some(expected), Some(actual)) = (&expected_shape, &actual_shape) {
        ensure!(
            expected == actual,
            "columns: expected {expected:?}, got {actual:?}"
        );
    }
    let (mut expected, mut actual) = (cells(expected)?, cells(actual)?);
    ensure!(
        expected.len() == actual.len(),
        "rows: expected {}, got {}",
        expected.len(),
        actual.len()
    );
    same_keys(&expected, &actual, order_by)?;
    expected.sort_by(|one, other| compare_rows(one, other));
    actual.sort_by(|one, other| compare_rows(one, other));
    for (expected, actual) in expected.iter().zip(&actual) {
        let same = expected
            .iter()
            .zip(actual)
            .all(|(one, other)| one.agrees(other));
        ensure!(
            same,
            "row: expected {}, got {}",
            show(expected),
            show(actual)
        );
    }
    Ok(())
}

/// Fails unless `actual` can be what a limit let through: as many rows as `expected` with the same keys in the same
/// order, and each of them one of `all`, where that is known.
pub fn first_rows_of(
    expected: &[RecordBatch],
    all: Option<&[RecordBatch]>,
    actual: &[RecordBatch],
    order_by: &[usize],
) -> Result<()> {
    let actual = &as_floats(expected, actual)?[..];
    let (expected, mut actual) = (cells(expected)?, cells(actual)?);
    ensure!(
        expected.len() == actual.len(),
        "rows: expected {}, got {}",
        expected.len(),
        actual.len()
    );
    same_keys(&expected, &actual, order_by)?;
    let Some(all) = all else { return Ok(()) };
    let mut all = cells(all)?;
    all.sort_by(|one, other| compare_rows(one, other));
    actual.sort_by(|one, other| compare_rows(one, other));
    let mut rest = all.iter();
    for row in &actual {
        let there = rest.any(|one| one.iter().zip(row).all(|(one, other)| one.agrees(other)));
        ensure!(
            there,
            "row: {} is none of the answer without a limit",
            show(row)
        );
    }
    Ok(())
}

fn same_keys(expected: &[Vec<Cell>], actual: &[Vec<Cell>], order_by: &[usize]) -> Result<()> {
    for (number, (expected, actual)) in expected.iter().zip(actual).enumerate() {
        for &key in order_by {
            let (expected, actual) = (&expected[key], &actual[key]);
            ensure!(
                expected.agrees(actual),
                "order: row {number} has {actual} in column {key}, expected {expected}"
            );
        }
    }
    Ok(())
}

/// Batches with floats for decimals, where floats are expected.
fn as_floats(expected: &[RecordBatch], actual: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(expected) = expected.first().map(RecordBatch::schema) else {
        return Ok(actual.to_vec());
    };
    let batch = |batch: &RecordBatch| {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (at, field) in batch.schema().fields().iter().enumerate() {
            let wanted = expected.fields().get(at).map(|field| field.data_type());
            let is_decimal = matches!(field.data_type(), DataType::Decimal128(..));
            let kind = match wanted {
                Some(DataType::Float64) if is_decimal => DataType::Float64,
                _ => field.data_type().clone(),
            };
            columns.push(cast(batch.column(at), &kind)?);
            fields.push(field.as_ref().clone().with_data_type(kind));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = Arc::new(Schema::new(fields));
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    };
    actual.iter().map(batch).collect()
}

/// Names and types of the columns; how strings are laid out in memory is no difference.
fn shape(batches: &[RecordBatch]) -> Option<Vec<(String, DataType)>> {
    let schema = batches.first()?.schema();
    let fields = schema.fields().iter();
    Some(
        fields
            .map(|field| (field.name().clone(), logical(field.data_type())))
            .collect(),
    )
}

fn logical(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => logical(values),
        other => other.clone(),
    }
}

#[derive(Debug)]
enum Cell {
    Null,
    Exact(String),
    Float(f64),
}

impl Cell {
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Float(one), Self::Float(other)) => {
                one == other
                    || (one.is_nan() && other.is_nan())
                    || (one - other).abs() <= TOLERANCE * one.abs().max(other.abs())
            }
            _ => false,
        }
    }

    // Exact cells decide before floats do, so that near-equal floats do not tear rows apart.
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Exact(_) => 1,
            Self::Float(_) => 2,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("NULL"),
            Self::Exact(text) => formatter.write_str(text),
            Self::Float(value) => write!(formatter, "{value:?}"),
        }
    }
}

fn show(row: &[Cell]) -> String {
    let cells: Vec<String> = row.iter().map(Cell::to_string).collect();
    format!("({})", cells.join(", "))
}

fn compare_rows(one: &[Cell], other: &[Cell]) -> Ordering {
    let exact = one.iter().zip(other).map(|pair| match pair {
        (Cell::Exact(one), Cell::Exact(other)) => one.cmp(other),
        (one, other) => one.rank().cmp(&other.rank()),
    });
    let floats = one.iter().zip(other).map(|pair| match pair {
        (Cell::Float(one), Cell::Float(other)) => one.total_cmp(other),
        _ => Ordering::Equal,
    });
    exact
        .chain(floats)
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn cells(batches: &[RecordBatch]) -> Result<Vec<Vec<Cell>>> {
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let first = rows.len();
        rows.resize_with(first + batch.num_rows(), || {
            Vec::with_capacity(batch.num_columns())
        });
        for column in batch.columns() {
            let float = matches!(
                column.data_type(),
                DataType::Float16 | DataType::Float32 | DataType::Float64
            );
            let floats = match float {
                true => Some(cast(column, &DataType::Float64)?),
                false => None,
            };
            let text = ArrayFormatter::try_new(column, &options)?;
            for (at, row) in rows[first..].iter_mut().enumerate() {
                let cell = match &floats {
                    _ if column.is_null(at) => Cell::Null,
                    Some(floats) => Cell::Float(floats.as_primitive::<Float64Type>().value(at)),
                    None => Cell::Exact(text.value(at).try_to_string().context("a cell")?),
                };
                row.push(cell);
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, StringViewArray};

    use super::*;

    fn batch(names: Vec<Option<&str>>, values: Vec<f64>) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(names));
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        RecordBatch::try_from_iter_with_nullable([("name", names, true), ("value", values, true)])
            .unwrap()
    }

    fn differs(one: &[RecordBatch], other: &[RecordBatch], order_by: &[usize]) -> String {
        same_answer(one, other, order_by).unwrap_err().to_string()
    }

    #[test]
    fn rows_in_another_order_and_other_batches_are_the_same_answer() {
        let one = batch(vec![Some("a"), None, Some("b")], vec![1.0, 2.0, 3.0]);
        let other = [
            batch(vec![Some("b")], vec![3.0]),
            batch(vec![Some("a"), None], vec![1.0, 2.0]),
        ];
        same_answer(&[one], &other, &[]).unwrap();
    }

    #[test]
    fn an_ordered_answer_must_keep_its_keys_in_order() {
        let one = [batch(vec![Some("a"), Some("b")], vec![1.0, 2.0])];
        let other = [batch(vec![Some("b"), Some("a")], vec![2.0, 1.0])];
        assert!(differs(&one, &other, &[1]).starts_with("order: row 0"));
    }

    #[test]
    fn rows_that_tie_in_the_key_may_swap() {
        let one = [batch(vec![Some("a"), Some("b")], vec![1.0, 1.0])];
        let other = [batch(vec![Some("b"), Some("a")], vec![1.0, 1.0])];
        same_answer(&one, &other, &[1]).unwrap();
    }

    #[test]
    fn floats_agree_within_a_billionth() {
        let one = [batch(vec![Some("a")], vec![1e9])];
        same_answer(&one, &[batch(vec![Some("a")], vec![1e9 + 0.5])], &[]).unwrap();
        let far = [batch(vec![Some("a")], vec![1e9 + 2.0])];
        assert!(differs(&one, &far, &[]).starts_with("row: expected (a, 1000000000.0)"));
    }

    #[test]
    fn near_floats_do_not_pair_rows_of_other_names() {
        let one = [batch(vec![Some("a"), Some("b")], vec![1.0, 1.0 + 1e-12])];
        let other = [batch(vec![Some("a"), Some("b")], vec![1.0 + 1e-12, 1.0])];
        same_answer(&one, &other, &[]).unwrap();
    }

    #[test]
    fn a_null_is_not_an_empty_text_nor_a_missing_row() {
        let one = [batch(vec![None], vec![1.0])];
        assert!(differs(&one, &[batch(vec![Some("")], vec![1.0])], &[]).starts_with("row:"));
        assert!(differs(&one, &[], &[]).starts_with("rows: expected 1, got 0"));
    }

    #[test]
    fn a_row_twice_is_not_a_row_once() {
        let one = [batch(
            vec![Some("a"), Some("a"), Some("b")],
            vec![1.0, 1.0, 1.0],
        )];
        let other = [batch(
            vec![Some("a"), Some("b"), Some("b")],
            vec![1.0, 1.0, 1.0],
        )];
        assert!(differs(&one, &other, &[]).starts_with("row:"));
    }

    #[test]
    fn a_limit_may_let_any_of_the_rows_through_that_tie() {
        let all = [batch(
            vec![Some("a"), Some("b"), Some("c")],
            vec![1.0, 2.0, 2.0],
        )];
        let one = [batch(vec![Some("a"), Some("b")], vec![1.0, 2.0])];
        let other = [batch(vec![Some("a"), Some("c")], vec![1.0, 2.0])];
        first_rows_of(&one, Some(&all), &other, &[1]).unwrap();
        let foreign = [batch(vec![Some("a"), Some("d")], vec![1.0, 2.0])];
        assert!(first_rows_of(&one, Some(&all), &foreign, &[1]).is_err());
        let twice = [batch(vec![Some("b"), Some("b")], vec![2.0, 2.0])];
        assert!(first_rows_of(&one, Some(&all), &twice, &[]).is_err());
        let later = [batch(vec![Some("b"), Some("c")], vec![2.0, 2.0])];
        assert!(first_rows_of(&one, Some(&all), &later, &[1]).is_err());
    }

    #[test]
    fn string_layouts_are_alike_but_types_are_not() {
        let column = |array: ArrayRef| [RecordBatch::try_from_iter([("x", array)]).unwrap()];
        let text = column(Arc::new(StringArray::from(vec!["1"])));
        same_answer(
            &text,
            &column(Arc::new(StringViewArray::from(vec!["1"]))),
            &[],
        )
        .unwrap();
        let number = column(Arc::new(Int64Array::from(vec![1])));
        assert!(differs(&text, &number, &[]).starts_with("columns:"));
    }
}
