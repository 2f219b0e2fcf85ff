//! Slots to typed cells, and cells to Arrow columns.
//!
//! Two steps, so that a record goes into its columns whole or not at all. Accepted beside the exact
//! type: a number for a varchar (its text as written), a number without fraction for an integer
//! (`1540919166796.0`). A string is never a number.

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, string_to_datetime};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Date32Type, Decimal128Type, DecimalType, TimeUnit,
};
use chrono::Utc;

use super::json::{Range, Slot};
use crate::{Error, Result};

/// A checked value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Decimal(i128),
    /// Text of the record.
    Text(Range),
    /// Text of the scratch.
    Unescaped(Range),
    /// Text of the scratch, to be written as a JSON string.
    Quoted(Range),
}

/// What was found instead of the declared type.
pub(super) fn found(slot: Slot, declared: &DataType, text: &str) -> &'static str {
    let has_fraction =
        |range: Range| float(range.of(text)).is_some_and(|value| value.fract() != 0.0);
    match slot {
        Slot::Missing => "nothing",
        Slot::Null => "null",
        Slot::Bool(_) => "a boolean",
        Slot::Number(range) if declared.is_integer() && has_fraction(range) => {
            "a number with a fraction"
        }
        Slot::Number(_) if declared.is_numeric() => "a number that it cannot hold",
        Slot::Number(_) => "a number",
        Slot::Plain(_) | Slot::Unescaped(_) if declared.is_temporal() => "a string that is not one",
        Slot::Plain(_) | Slot::Unescaped(_) => "a string",
        Slot::Object(_) => "an object",
        Slot::Array(_) => "an array",
    }
}

/// Any value, as the text it has in JSON.
pub(super) fn json_text(slot: Slot) -> Cell {
    match slot {
        Slot::Missing | Slot::Null => Cell::Null,
        Slot::Bool(value) => Cell::Bool(value),
        Slot::Plain(range) => Cell::Text(range.quoted()),
        Slot::Unescaped(range) => Cell::Quoted(range),
        Slot::Number(range) | Slot::Object(range) | Slot::Array(range) => Cell::Text(range),
    }
}

/// A decimal of so many digits, so many of them behind the point: what follows these is rounded, half away from zero, as
/// by SQL's CAST.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let behind = text.split_once('.').map_or(0, |(_, digits)| digits.len());
    if usize::try_from(scale).is_ok_and(|scale| behind <= scale) && !text.contains(['e', 'E']) {
        return parse_decimal::<Decimal128Type>(text, precision, scale).ok();
    }
    // One digit more decides, whatever follows it.
    let finer = parse_decimal::<Decimal128Type>(text, DECIMAL128_MAX_PRECISION, scale + 1).ok()?;
    let (whole, last) = (finer / 10, finer % 10);
    let rounded = match last.abs() >= 5 {
        true => whole + last.signum(),
        false => whole,
    };
    Decimal128Type::is_valid_decimal_precision(rounded, precision).then_some(rounded)
}

/// The value of `slot` as `data_type`, or `None` where it is of another type or out of range.
pub(super) fn cell(slot: Slot, data_type: &DataType, text: &str, scratch: &str) -> Option<Cell> {
    let string = match slot {
        Slot::Missing | Slot::Null => return Some(Cell::Null),
        Slot::Plain(range) => Some(range.of(text)),
        Slot::Unescaped(range) => Some(range.of(scratch)),
        _ => None,
    };
    match (data_type, slot) {
        (DataType::Utf8, Slot::Plain(range) | Slot::Number(range)) => Some(Cell::Text(range)),
        (DataType::Utf8, Slot::Unescaped(range)) => Some(Cell::Unescaped(range)),
        (DataType::Boolean, Slot::Bool(value)) => Some(Cell::Bool(value)),
        (DataType::Float64, Slot::Number(range)) => float(range.of(text)).map(Cell::Float),
        (DataType::Float32, Slot::Number(range)) => float(range.of(text))
            .filter(|value| value.abs() <= f64::from(f32::MAX))
            .map(Cell::Float),
        (DataType::Decimal128(precision, scale), Slot::Number(range)) => {
            decimal(range.of(text), *precision, *scale).map(Cell::Decimal)
        }
        (DataType::Date32, _) => string
            .and_then(Date32Type::parse)
            .map(|day| Cell::Integer(day.into())),
        (DataType::Timestamp(..), _) => string.and_then(instant).map(Cell::Integer),
        (DataType::Int64, Slot::Number(range)) => integer(range.of(text)).map(Cell::Integer),
        (DataType::Int32, Slot::Number(range)) => {
            within(range.of(text), i32::MIN.into(), i32::MAX.into())
        }
        (DataType::Int16, Slot::Number(range)) => {
            within(range.of(text), i16::MIN.into(), i16::MAX.into())
        }
        (DataType::Int8, Slot::Number(range)) => {
            within(range.of(text), i8::MIN.into(), i8::MAX.into())
        }
        _ => None,
    }
}

pub(super) fn float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

fn within(text: &str, low: i64, high: i64) -> Option<Cell> {
    integer(text)
        .filter(|value| (low..=high).contains(value))
        .map(Cell::Integer)
}

/// An integer, or a number without fraction that a double holds exactly.
pub(super) fn integer(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    if let Some((whole, fraction)) = text.split_once('.')
        && fraction.bytes().all(|digit| digit == b'0')
    {
        return whole.parse().ok();
    }
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = float(text).filter(|value| value.fract() == 0.0 && value.abs() <= EXACT)?;
    Some(value as i64)
}

fn instant(text: &str) -> Option<i64> {
    string_to_datetime(&Utc, text)
        .ok()
        .map(|time| time.timestamp_micros())
}

/// The growing column of one field.
#[derive(Debug)]
pub(super) enum Column {
    Utf8(StringBuilder),
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Column {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 => Self::Utf8(StringBuilder::new()),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(..) => {
                Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()),
            ),
            other => {
                return Err(Error::Bug {
                    context: format!("no decoder for declared type {other}"),
                });
            }
        })
    }

    /// Appends a cell that [`cell`] made for this very type.
    pub(super) fn append(&mut self, cell: Cell, text: &str, scratch: &str) {
        match (self, cell) {
            (Self::Utf8(column), Cell::Text(range)) => column.append_value(range.of(text)),
            (Self::Utf8(column), Cell::Unescaped(range)) => column.append_value(range.of(scratch)),
            (Self::Utf8(column), Cell::Quoted(range)) => {
                let text = serde_json::Value::from(range.of(scratch));
                column.append_value(text.to_string());
            }
            (Self::Utf8(column), Cell::Bool(value)) => {
                column.append_value(if value { "true" } else { "false" });
            }
            (Self::Utf8(column), _) => column.append_null(),
            (Self::Boolean(column), cell) => {
                column.append_option(if let Cell::Bool(value) = cell {
                    Some(value)
                } else {
                    None
                })
            }
            (Self::Int8(column), cell) => {
                column.append_option(whole(cell).and_then(|value| value.try_into().ok()))
            }
            (Self::Int16(column), cell) => {
                column.append_option(whole(cell).and_then(|value| value.try_into().ok()))
            }
            (Self::Int32(column), cell) => {
                column.append_option(whole(cell).and_then(|value| value.try_into().ok()))
            }
            (Self::Date(column), cell) => {
                column.append_option(whole(cell).and_then(|value| value.try_into().ok()))
            }
            (Self::Int64(column), cell) => column.append_option(whole(cell)),
            (Self::Timestamp(column), cell) => column.append_option(whole(cell)),
            (Self::Float32(column), cell) => {
                column.append_option(fraction(cell).map(|value| value as f32))
            }
            (Self::Float64(column), cell) => column.append_option(fraction(cell)),
            (Self::Decimal(column), cell) => {
                column.append_option(if let Cell::Decimal(value) = cell {
                    Some(value)
                } else {
                    None
                })
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Utf8(column) => std::sync::Arc::new(column.finish()),
            Self::Boolean(column) => std::sync::Arc::new(column.finish()),
            Self::Int8(column) => std::sync::Arc::new(column.finish()),
            Self::Int16(column) => std::sync::Arc::new(column.finish()),
            Self::Int32(column) => std::sync::Arc::new(column.finish()),
            Self::Int64(column) => std::sync::Arc::new(column.finish()),
            Self::Float32(column) => std::sync::Arc::new(column.finish()),
            Self::Float64(column) => std::sync::Arc::new(column.finish()),
            Self::Decimal(column) => std::sync::Arc::new(column.finish()),
            Self::Date(column) => std::sync::Arc::new(column.finish()),
            Self::Timestamp(column) => std::sync::Arc::new(column.finish()),
        }
    }
}

fn whole(cell: Cell) -> Option<i64> {
    if let Cell::Integer(value) = cell {
        Some(value)
    } else {
        None
    }
}

fn fraction(cell: Cell) -> Option<f64> {
    if let Cell::Float(value) = cell {
        Some(value)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn digits_beyond_the_scale_are_rounded() {
        let cents = |text: &str| decimal(text, 10, 2);
        for (text, expected) in [
            ("12.34", 1234),
            ("12.345", 1235),
            ("12.346", 1235),
            ("12.34499999999999999999999999", 1234),
            ("-0.015", -2),
            ("-0.0149", -1),
            ("1e2", 10_000),
            ("1.2345e1", 1235),
            ("99999999.994", 9_999_999_999),
        ] {
            assert_eq!(cents(text), Some(expected), "{text}");
        }
        // Rounded, it has a digit too many.
        assert_eq!(cents("99999999.995"), None);
        assert_eq!(cents("123456789"), None);
        assert_eq!(
            decimal("12345678901234567890123456789012345678", 38, 0).unwrap() % 10,
            8
        );
        assert_eq!(decimal("2.5", 38, 0), Some(3));
    }
}
