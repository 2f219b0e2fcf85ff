//! Where rows lie in an order over several columns, of whatever types: `drumline_place(curve, a, b, …)`, and
//! `drumline_range(curve, place)`, which cuts that order into as many parts as there are writers.
//!
//! A column's values become ranks among a sample of them, so that a column of few or of far values weighs as much as
//! any other; text, decimals, nested values and nulls (which come last) are ranked by their sortable bytes. The bits
//! of the ranks are then interleaved (Z-order: rows that are near in any column come near each other) or put one
//! behind the other (the order of the columns). Planned by us alone, under `OPTIMIZE`.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

/// Columns that an order may have.
pub(crate) const MOST_COLUMNS: usize = 8;

/// Bits of a rank, where there is room for them.
const RANK_BITS: u32 = 10;

/// Bytes of a value that are looked at: what lies behind them tells no two values of a sample apart.
const LONGEST: usize = 128;

const PLACE: &str = "drumline_place";
const RANGE: &str = "drumline_range";

/// An order, as a sample of the rows has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Curve {
    interleaved: bool,
    /// Of each column, where its ranks begin.
    bounds: Vec<Vec<Vec<u8>>>,
    /// Where the parts begin, but for the first.
    splits: Vec<u64>,
}

impl Curve {
    /// The order of a sample: one array for each column. `parts` of it hold about as many rows each.
    pub(crate) fn of(sample: &[ArrayRef], interleaved: bool, parts: usize) -> Result<Self> {
        let bits = bits(sample.len());
        let mut curve = Self {
            interleaved,
            ..Self::default()
        };
        for column in sample {
            let rows = sortable(column)?;
            let mut values: Vec<&[u8]> = rows.iter().map(|row| short(row.data())).collect();
            values.sort_unstable();
            curve.bounds.push(bounds(&values, (1 << bits) - 1));
        }
        let mut places = curve.places(sample)?;
        places.sort_unstable();
        curve.splits = (1..parts)
            .filter_map(|part| places.get(part * places.len() / parts).copied())
            .collect();
        Ok(curve)
    }

    fn places(&self, columns: &[ArrayRef]) -> Result<Vec<u64>> {
        let bits = bits(columns.len());
        let rows = columns.first().map_or(0, |column| column.len());
        let mut ranks = Vec::with_capacity(columns.len());
        for (column, bounds) in columns.iter().zip(&self.bounds) {
            let values = sortable(column)?;
            // Few ranks take the high bits, as many ranks do.
            let needed = usize::BITS - bounds.len().leading_zeros();
            let shift = bits.saturating_sub(needed);
            let rank = |value: &[u8]| {
                let rank = bounds.partition_point(|bound| bound.as_slice() <= short(value));
                (rank as u64) << shift
            };
            ranks.push(
                values
                    .iter()
                    .map(|row| rank(row.data()))
                    .collect::<Vec<_>>(),
            );
        }
        let place = |row: usize| {
            let of_row = ranks.iter().map(|ranks| ranks[row]);
            match self.interleaved {
                true => (0..bits).rev().fold(0, |place: u64, bit| {
                    let bits = of_row.clone().map(|rank| rank >> bit & 1);
                    bits.fold(place, |place, bit| place << 1 | bit)
                }),
                false => of_row.fold(0, |place: u64, rank| place << bits | rank),
            }
        };
        Ok((0..rows).map(place).collect())
    }

    fn part(&self, place: u64) -> u32 {
        let part = self.splits.partition_point(|split| *split <= place);
        u32::try_from(part).unwrap_or(u32::MAX)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.interleaved)];
        let number = |bytes: &mut Vec<u8>, value: usize| {
            bytes.extend((value as u64).to_le_bytes());
        };
        number(&mut bytes, self.bounds.len());
        for column in &self.bounds {
            number(&mut bytes, column.len());
            for bound in column {
                number(&mut bytes, bound.len());
                bytes.extend(bound);
            }
        }
        number(&mut bytes, self.splits.len());
        bytes.extend(self.splits.iter().flat_map(|split| split.to_le_bytes()));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*first))
        }
        fn count(bytes: &mut &[u8]) -> Option<usize> {
            usize::try_from(number(bytes)?).ok()
        }
        let (interleaved, mut rest) = bytes.split_first()?;
        let mut curve = Self {
            interleaved: *interleaved == 1,
            ..Self::default()
        };
        for _ in 0..count(&mut rest)? {
            let mut column = Vec::new();
            for _ in 0..count(&mut rest)? {
                let length = count(&mut rest)?;
                let (bound, behind) = rest.split_at_checked(length)?;
                column.push(bound.to_vec());
                rest = behind;
            }
            curve.bounds.push(column);
        }
        for _ in 0..count(&mut rest)? {
            curve.splits.push(number(&mut rest)?);
        }
        Some(curve)
    }
}

fn bits(columns: usize) -> u32 {
    RANK_BITS.min(64 / u32::try_from(columns.max(1)).unwrap_or(64))
}

fn short(value: &[u8]) -> &[u8] {
    value.get(..LONGEST).unwrap_or(value)
}

fn sortable(column: &ArrayRef) -> Result<Rows> {
    let nulls_last = SortOptions {
        descending: false,
        nulls_first: false,
    };
    let field = SortField::new_with_options(column.data_type().clone(), nulls_last);
    Ok(RowConverter::new(vec![field])?.convert_columns(std::slice::from_ref(column))?)
}

/// Where ranks but the first begin: at every value, or where sorted values are cut into equal parts.
fn bounds(sorted: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
    let mut distinct = sorted.to_vec();
    distinct.dedup();
    if distinct.len() <= most {
        // As many ranks as values: one more would take a bit of its own, and parts would be cut off the halves.
        distinct = distinct.split_off(distinct.len().min(1));
    } else {
        let parts = most + 1;
        distinct = (1..parts)
            .filter_map(|part| sorted.get(part * sorted.len() / parts).copied())
            .collect();
        distinct.dedup();
    }
    distinct.into_iter().map(<[u8]>::to_vec).collect()
}

/// Where a row lies, once the order is known: see [`with_curve`].
pub(crate) fn place(columns: impl IntoIterator<Item = Expr>) -> Expr {
    let curve = Expr::Literal(ScalarValue::Binary(None), None);
    let arguments = std::iter::once(curve).chain(columns).collect();
    ScalarUDF::from(Place::new()).call(arguments)
}

/// The part in which a place is.
pub(crate) fn range(place: Expr) -> Expr {
    let curve = Expr::Literal(ScalarValue::Binary(None), None);
    ScalarUDF::from(Range::new()).call(vec![curve, place])
}

/// A plan whose places are those of an order.
pub(crate) fn with_curve(plan: LogicalPlan, curve: &Curve) -> Result<LogicalPlan> {
    let known = Expr::Literal(ScalarValue::Binary(Some(curve.encode())), None);
    let told = plan.transform_down(|node| {
        node.map_expressions(|expression| {
            expression.transform_up(|expression| match expression {
                Expr::ScalarFunction(mut call) if [PLACE, RANGE].contains(&call.name()) => {
                    if let Some(first) = call.args.first_mut() {
                        first.clone_from(&known);
                    }
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(told.data)
}

fn curve_of(value: &ColumnarValue) -> Result<Curve> {
    let value = match value {
        ColumnarValue::Scalar(value) => value.clone(),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, 0)?,
    };
    let curve = match &value {
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes)) => Curve::decode(bytes),
        _ => None,
    };
    match curve {
        Some(curve) => Ok(curve),
        None => internal_err!("an order is not told"),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    signature: Signature,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Place {
    fn name(&self) -> &str {
        PLACE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let Some((curve, columns)) = arguments.args.split_first() else {
            return internal_err!("{PLACE} takes an order and columns");
        };
        let columns = columns
            .iter()
            .map(|column| column.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let places = curve_of(curve)?.places(&columns)?;
        Ok(ColumnarValue::Array(Arc::new(UInt64Array::from(places))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Range {
    signature: Signature,
}

impl Range {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Range {
    fn name(&self) -> &str {
        RANGE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt32)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [curve, place] = arguments.args.as_slice() else {
            return internal_err!("{RANGE} takes an order and a place");
        };
        let curve = curve_of(curve)?;
        let places = place.to_array(arguments.number_rows)?;
        let Some(places) = places.as_primitive_opt::<UInt64Type>() else {
            return internal_err!("a place is {}", places.data_type());
        };
        let parts: UInt32Array = places
            .iter()
            .map(|place| Some(curve.part(place?)))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(parts)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    }

    #[test]
    fn an_order_survives_the_way_to_a_worker() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a")]));
        let curve = Curve::of(&[names, numbers([3, 1, 2])], true, 2).unwrap();
        assert_eq!(curve.splits.len(), 1);
        assert_eq!(Curve::decode(&curve.encode()), Some(curve));
        assert_eq!(Curve::decode(&[1, 2]), None);
    }

    #[test]
    fn columns_one_behind_the_other_are_in_their_own_order_with_nulls_last() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![
            None,
            Some("b"),
            Some("a"),
            Some("b"),
        ]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, f64::NAN, 2.0, -1e300]));
        let columns = [names, floats];
        let curve = Curve::of(&columns, false, 1).unwrap();
        let places = curve.places(&columns).unwrap();
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by_key(|row| places[*row]);
        assert_eq!(order, [2, 3, 1, 0]);
    }

    /// A grid of 64 by 64 in four parts: each part is a square, whatever the columns' scales.
    #[test]
    fn parts_of_a_curve_are_narrow_in_every_column() {
        let grid = || (0..64_i64).flat_map(|a| (0..64_i64).map(move |b| (a, b)));
        let small = numbers(grid().map(|(a, _)| a));
        let text: ArrayRef = Arc::new(StringArray::from_iter(
            grid().map(|(_, b)| Some(format!("https://example.com/{b:09}"))),
        ));
        let columns = [small, text];
        let curve = Curve::of(&columns, true, 4).unwrap();
        let mut parts = vec![(i64::MAX, i64::MIN, i64::MAX, i64::MIN, 0); 4];
        for (place, (a, b)) in curve.places(&columns).unwrap().into_iter().zip(grid()) {
            let part = &mut parts[curve.part(place) as usize];
            *part = (
                part.0.min(a),
                part.1.max(a),
                part.2.min(b),
                part.3.max(b),
                part.4 + 1,
            );
        }
        for (a, to_a, b, to_b, rows) in parts {
            assert!(
                to_a - a < 40 && to_b - b < 40 && rows > 900,
                "{a}..{to_a} {b}..{to_b}: {rows}"
            );
        }
    }

    #[test]
    fn many_columns_and_many_values_fit() {
        let columns: Vec<ArrayRef> = (0..MOST_COLUMNS as i64)
            .map(|column| numbers((0..5000).map(move |row| (row * (column + 7)) % 4999)))
            .collect();
        for interleaved in [true, false] {
            let curve = Curve::of(&columns, interleaved, 16).unwrap();
            assert!(curve.bounds.iter().all(|bounds| bounds.len() <= 255));
            let places = curve.places(&columns).unwrap();
            let parts: std::collections::BTreeSet<u32> =
                places.into_iter().map(|place| curve.part(place)).collect();
            assert_eq!(parts.len(), 16);
        }
        assert!(
            Curve::of(&[numbers([])], true, 4)
                .unwrap()
                .splits
                .is_empty()
        );
    }
}
