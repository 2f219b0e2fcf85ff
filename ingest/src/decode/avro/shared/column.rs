//! Growing columns, and the values that are read into them.

use std::mem::{replace, take};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, StringArray, make_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use uuid::Uuid;

use super::kind::{Absent, Field, Kind, Primitive, Shape};
use super::steps::{Read, Step, Version};

/// Why a value is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not understood here.
    Unknown,
    Branch,
    Boolean,
    Symbol,
    Digits,
    Null,
}

impl Refused {
    /// Why it is no value, where that is for certain.
    pub(super) fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::Unknown => return None,
            Self::Branch => "malformed avro: a union of two has a third branch",
            Self::Boolean => "malformed avro: a boolean is neither 0 nor 1",
            Self::Symbol => "malformed avro: an enum has a symbol that its schema does not name",
            Self::Digits => "a decimal has more digits than its column",
            Self::Null => "null where the columns' schema has no null",
        })
    }
}

pub(super) type Taken<T> = Result<T, Refused>;

/// Values of one field. Those that are null have a place among them.
#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    nulls: NullBufferBuilder,
    /// How many values, or their bytes, the batch before had: what comes next is likely to be as much. There is room
    /// for it when it comes; an idle topic holds nothing.
    room: usize,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// Where each ends, and their bytes.
    Bytes(Vec<i32>, Vec<u8>),
    Decimal(Vec<i128>),
    /// Of so many bytes each.
    Fixed(usize, Vec<u8>),
    /// Which symbol each is.
    Enum(Vec<i32>, ArrayRef),
    Struct(Vec<Column>),
    /// Where each ends, and all items.
    List(Vec<i32>, Box<Column>),
    /// The same, and the keys.
    Map(Vec<i32>, Box<Column>, Box<Column>),
}

/// Appends a record, field by field; where that ends early, some columns have a value too many.
pub(super) fn append(columns: &mut [Column], version: &Version, rest: &mut &[u8]) -> Taken<()> {
    for (step, column) in &version.steps {
        match column {
            Some(at) => columns[*at].read(step, rest)?,
            None => skip(step, rest)?,
        }
    }
    for (at, absent) in &version.absent {
        columns[*at].push(absent)?;
    }
    Ok(())
}

/// The arrays of so many rows. All columns are empty then, whether they fit their types or not.
pub(super) fn finish_all<'t>(
    columns: &mut [Column],
    types: impl Iterator<Item = &'t DataType>,
    rows: usize,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let arrays: Vec<Result<ArrayRef, ArrowError>> = columns
        .iter_mut()
        .zip(types)
        .map(|(column, data_type)| column.finish(data_type, rows))
        .collect();
    arrays.into_iter().collect()
}

/// Whether the value of a union is its null.
#[inline]
fn is_null(null: u8, rest: &mut &[u8]) -> Taken<bool> {
    match rest.split_first() {
        Some((branch @ (0 | 2), after)) => {
            *rest = after;
            Ok(*branch == null)
        }
        _ => match long(rest)? {
            branch @ (0 | 1) => Ok(2 * branch == i64::from(null)),
            _ => Err(Refused::Branch),
        },
    }
}

/// Where the last ends.
fn end(ends: &[i32]) -> usize {
    let end = ends.last().and_then(|end| usize::try_from(*end).ok());
    end.unwrap_or_default()
}

impl Column {
    pub(super) fn of_all(fields: &[Field]) -> Vec<Self> {
        let columns = fields.iter().map(|field| Self::new(&field.kind));
        columns.collect()
    }

    fn new(kind: &Kind) -> Self {
        let values = match &kind.shape {
            Shape::Primitive(primitive, _) => match primitive {
                Primitive::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
                Primitive::Int => Values::Int(Vec::new()),
                Primitive::Long => Values::Long(Vec::new()),
                Primitive::Float => Values::Float(Vec::new()),
                Primitive::Double => Values::Double(Vec::new()),
                Primitive::Bytes | Primitive::String => Values::Bytes(vec![0], Vec::new()),
            },
            Shape::Decimal(_) => Values::Decimal(Vec::new()),
            Shape::Uuid => Values::Fixed(16, Vec::new()),
            Shape::Fixed(size) => Values::Fixed(*size, Vec::new()),
            Shape::Enum(symbols, _) => {
                Values::Enum(Vec::new(), Arc::new(StringArray::from(symbols.clone())))
            }
            Shape::Record(fields) => Values::Struct(Self::of_all(fields)),
            Shape::Array(items) => Values::List(vec![0], Box::new(Self::new(items))),
            Shape::Map(values) => {
                let keys = Self::with(Values::Bytes(vec![0], Vec::new()));
                Values::Map(vec![0], Box::new(keys), Box::new(Self::new(values)))
            }
        };
        Self::with(values)
    }

    fn with(values: Values) -> Self {
        Self {
            values,
            nulls: NullBufferBuilder::new(0),
            room: 0,
        }
    }

    pub(super) fn make_room(&mut self) {
        let room = self.room;
        match &mut self.values {
            Values::Boolean(_) => {}
            Values::Int(values) | Values::Enum(values, _) => values.reserve_exact(room),
            Values::Long(values) => values.reserve_exact(room),
            Values::Float(values) => values.reserve_exact(room),
            Values::Double(values) => values.reserve_exact(room),
            Values::Bytes(_, values) | Values::Fixed(_, values) => values.reserve_exact(room),
            Values::Decimal(values) => values.reserve_exact(room),
            Values::Struct(columns) => columns.iter_mut().for_each(Self::make_room),
            Values::List(_, items) => items.make_room(),
            Values::Map(_, keys, values) => {
                keys.make_room();
                values.make_room();
            }
        }
    }

    #[inline]
    fn read(&mut self, step: &Step, rest: &mut &[u8]) -> Taken<()> {
        match step.null {
            Some(null) if is_null(null, rest)? => {
                if !step.may_be_null {
                    return Err(Refused::Null);
                }
                self.push_null();
                return Ok(());
            }
            _ => {}
        }
        match &step.read {
            Read::Primitive(primitive) => self.read_primitive(*primitive, rest)?,
            read => self.read_other(read, rest)?,
        }
        self.nulls.append_non_null();
        Ok(())
    }

    #[inline]
    fn read_primitive(&mut self, primitive: Primitive, rest: &mut &[u8]) -> Taken<()> {
        match (&mut self.values, primitive) {
            (Values::Boolean(values), Primitive::Boolean) => values.append(boolean(rest)?),
            (Values::Int(values), Primitive::Int) => values.push(int(rest)?),
            (Values::Long(values), Primitive::Long) => values.push(long(rest)?),
            (Values::Long(values), Primitive::Int) => values.push(int(rest)?.into()),
            (Values::Float(values), Primitive::Float) => values.push(float(rest)?),
            (Values::Float(values), Primitive::Int) => values.push(int(rest)? as f32),
            (Values::Float(values), Primitive::Long) => values.push(long(rest)? as f32),
            (Values::Double(values), Primitive::Double) => {
                values.push(f64::from_le_bytes(take_array(rest)?));
            }
            (Values::Double(values), Primitive::Float) => values.push(float(rest)?.into()),
            (Values::Double(values), Primitive::Int) => values.push(int(rest)?.into()),
            (Values::Double(values), Primitive::Long) => values.push(long(rest)? as f64),
            (Values::Bytes(ends, values), Primitive::Bytes | Primitive::String) => {
                values.extend_from_slice(bytes(rest)?);
                ends.push(i32::try_from(values.len()).or(Err(Refused::Unknown))?);
            }
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    fn read_other(&mut self, read: &Read, rest: &mut &[u8]) -> Taken<()> {
        match (&mut self.values, read) {
            (Values::Decimal(values), Read::Decimal(size, factor)) => {
                let value = decimal(*size, rest)?.checked_mul(*factor);
                values.push(value.ok_or(Refused::Digits)?);
            }
            (Values::Fixed(_, values), Read::Fixed(size)) => {
                values.extend_from_slice(take_slice(*size, rest)?);
            }
            (Values::Fixed(_, values), Read::Uuid) => {
                values.extend_from_slice(
                    Uuid::try_parse_ascii(bytes(rest)?)
                        .or(Err(Refused::Unknown))?
                        .as_bytes(),
                );
            }
            (Values::Enum(values, _), Read::Enum(places)) => {
                let symbol = usize::try_from(int(rest)?).or(Err(Refused::Unknown))?;
                let place = places.get(symbol).ok_or(Refused::Symbol)?;
                values.push(place.ok_or(Refused::Unknown)?);
            }
            (Values::Struct(columns), Read::Record(version)) => append(columns, version, rest)?,
            (Values::List(ends, items), Read::Array(step)) => {
                let count = blocks(rest, |rest| items.read(step, rest))?;
                ends.push(i32::try_from(end(ends) + count).or(Err(Refused::Unknown))?);
            }
            (Values::Map(ends, keys, values), Read::Map(step)) => {
                let count = blocks(rest, |rest| {
                    keys.read_primitive(Primitive::String, rest)?;
                    keys.nulls.append_non_null();
                    values.read(step, rest)
                })?;
                ends.push(i32::try_from(end(ends) + count).or(Err(Refused::Unknown))?);
            }
            _ => return Err(Refused::Unknown),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int(values) | Values::Enum(values, _) => values.push(0),
            Values::Long(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Fixed(size, values) => values.resize(values.len() + *size, 0),
            Values::Struct(columns) => columns.iter_mut().for_each(Self::push_null),
            Values::Bytes(ends, _) | Values::List(ends, _) | Values::Map(ends, ..) => {
                ends.push(ends.last().copied().unwrap_or_default());
            }
        }
        self.nulls.append_null();
    }

    fn push(&mut self, absent: &Absent) -> Taken<()> {
        match (&mut self.values, absent) {
            (_, Absent::Null) => {
                self.push_null();
                return Ok(());
            }
            (Values::Boolean(values), Absent::Boolean(value)) => values.append(*value),
            (Values::Int(values) | Values::Enum(values, _), Absent::Integer(value)) => {
                values.push(i32::try_from(*value).or(Err(Refused::Unknown))?);
            }
            (Values::Long(values), Absent::Integer(value)) => values.push(*value),
            (Values::Float(values), Absent::Number(value)) => values.push(*value as f32),
            (Values::Double(values), Absent::Number(value)) => values.push(*value),
            (Values::Bytes(ends, values), Absent::Text(value)) => {
                values.extend_from_slice(value.as_bytes());
                ends.push(i32::try_from(values.len()).or(Err(Refused::Unknown))?);
            }
            (Values::List(ends, _) | Values::Map(ends, ..), Absent::Empty) => {
                ends.push(ends.last().copied().unwrap_or_default());
            }
            _ => return Err(Refused::Unknown),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int(values) | Values::Enum(values, _) => values.truncate(rows),
            Values::Long(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Decimal(values) => values.truncate(rows),
            Values::Fixed(size, values) => values.truncate(rows * *size),
            Values::Struct(columns) => {
                for column in columns {
                    column.truncate(rows);
                }
            }
            Values::Bytes(ends, values) => {
                ends.truncate(rows + 1);
                values.truncate(end(ends));
            }
            Values::List(ends, items) => {
                ends.truncate(rows + 1);
                items.truncate(end(ends));
            }
            Values::Map(ends, keys, values) => {
                ends.truncate(rows + 1);
                keys.truncate(end(ends));
                values.truncate(end(ends));
            }
        }
        self.nulls.truncate(rows);
    }

    fn finish(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.room = match &self.values {
            Values::Bytes(_, values) | Values::Fixed(_, values) => values.len(),
            _ => rows,
        };
        let array = ArrayData::builder(data_type.clone())
            .len(rows)
            .nulls(self.nulls.finish());
        let array = match &mut self.values {
            Values::Boolean(values) => array.add_buffer(values.finish().into_inner()),
            Values::Int(values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Long(values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Float(values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Double(values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Decimal(values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Fixed(_, values) => array.add_buffer(Buffer::from_vec(take(values))),
            Values::Bytes(ends, values) => array
                .add_buffer(Buffer::from_vec(replace(ends, vec![0])))
                .add_buffer(Buffer::from_vec(take(values))),
            Values::Enum(values, symbols) => array
                .add_buffer(Buffer::from_vec(take(values)))
                .add_child_data(symbols.to_data()),
            Values::Struct(columns) => {
                let DataType::Struct(fields) = data_type else {
                    return Err(other(data_type));
                };
                let types = fields.iter().map(|field| field.data_type());
                let columns = finish_all(columns, types, rows)?;
                array.child_data(columns.iter().map(|column| column.to_data()).collect())
            }
            Values::List(ends, items) => {
                let DataType::List(item) = data_type else {
                    return Err(other(data_type));
                };
                let ends = replace(ends, vec![0]);
                let items = items.finish(item.data_type(), end(&ends))?;
                array
                    .add_buffer(Buffer::from_vec(ends))
                    .add_child_data(items.to_data())
            }
            Values::Map(ends, keys, values) => {
                let DataType::Map(entries, _) = data_type else {
                    return Err(other(data_type));
                };
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(other(data_type));
                };
                let ends = replace(ends, vec![0]);
                let (keys, values) = (
                    keys.finish(fields[0].data_type(), end(&ends)),
                    values.finish(fields[1].data_type(), end(&ends)),
                );
                let entries = ArrayData::builder(entries.data_type().clone())
                    .len(end(&ends))
                    .child_data(vec![keys?.to_data(), values?.to_data()])
                    .build()?;
                array
                    .add_buffer(Buffer::from_vec(ends))
                    .add_child_data(entries)
            }
        };
        array.build().map(make_array)
    }
}

fn other(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("the column is no {data_type}"))
}

/// Reads past a value.
fn skip(step: &Step, rest: &mut &[u8]) -> Taken<()> {
    match step.null {
        Some(null) if is_null(null, rest)? => return Ok(()),
        _ => {}
    }
    match &step.read {
        Read::Primitive(Primitive::Boolean) => boolean(rest).map(|_| ()),
        Read::Primitive(Primitive::Int) | Read::Enum(_) => int(rest).map(|_| ()),
        Read::Primitive(Primitive::Long) => long(rest).map(|_| ()),
        Read::Primitive(Primitive::Float) => take_slice(4, rest).map(|_| ()),
        Read::Primitive(Primitive::Double) => take_slice(8, rest).map(|_| ()),
        Read::Primitive(Primitive::Bytes | Primitive::String)
        | Read::Decimal(None, _)
        | Read::Uuid => bytes(rest).map(|_| ()),
        Read::Decimal(Some(size), _) | Read::Fixed(size) => take_slice(*size, rest).map(|_| ()),
        Read::Record(version) => {
            let mut steps = version.steps.iter();
            steps.try_for_each(|(step, _)| skip(step, rest))
        }
        Read::Array(step) => blocks(rest, |rest| skip(step, rest)).map(|_| ()),
        Read::Map(step) => blocks(rest, |rest| {
            bytes(rest)?;
            skip(step, rest)
        })
        .map(|_| ()),
    }
}

/// Reads the items of an array or a map, block by block; says how many there are.
fn blocks(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Taken<()>) -> Taken<usize> {
    let mut all = 0_usize;
    loop {
        let count = long(rest)?;
        if count == 0 {
            return Ok(all);
        }
        let size = match count < 0 {
            true => Some(usize::try_from(long(rest)?).or(Err(Refused::Unknown))?),
            false => None,
        };
        let count = usize::try_from(count.unsigned_abs()).or(Err(Refused::Unknown))?;
        let before = rest.len();
        // Each has a byte at least.
        if count > before {
            return Err(Refused::Unknown);
        }
        for _ in 0..count {
            item(rest)?;
        }
        // Who goes by the block's size would be elsewhere.
        if size.is_some_and(|size| size != before - rest.len()) {
            return Err(Refused::Unknown);
        }
        all += count;
    }
}

#[inline]
fn take_byte(rest: &mut &[u8]) -> Taken<u8> {
    let (first, after) = rest.split_first().ok_or(Refused::Unknown)?;
    *rest = after;
    Ok(*first)
}

#[inline]
fn take_array<const N: usize>(rest: &mut &[u8]) -> Taken<[u8; N]> {
    let (first, after) = rest.split_first_chunk().ok_or(Refused::Unknown)?;
    *rest = after;
    Ok(*first)
}

#[inline]
fn take_slice<'r>(size: usize, rest: &mut &'r [u8]) -> Taken<&'r [u8]> {
    let (first, after) = rest.split_at_checked(size).ok_or(Refused::Unknown)?;
    *rest = after;
    Ok(first)
}

fn boolean(rest: &mut &[u8]) -> Taken<bool> {
    match take_byte(rest)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Refused::Boolean),
    }
}

#[inline]
fn int(rest: &mut &[u8]) -> Taken<i32> {
    i32::try_from(long(rest)?).or(Err(Refused::Unknown))
}

/// Seven bits a byte, the lowest first, zigzag.
#[inline]
fn long(rest: &mut &[u8]) -> Taken<i64> {
    let first = take_byte(rest)?;
    let mut value = u64::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let byte = take_byte(rest)?;
            // The tenth has one bit left.
            if shift == 63 && byte > 1 {
                return Err(Refused::Unknown);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
    }
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[inline]
fn float(rest: &mut &[u8]) -> Taken<f32> {
    take_array(rest).map(f32::from_le_bytes)
}

#[inline]
fn bytes<'r>(rest: &mut &'r [u8]) -> Taken<&'r [u8]> {
    let length = usize::try_from(long(rest)?).or(Err(Refused::Unknown))?;
    take_slice(length, rest)
}

/// Digits without their point: two's complement, the highest byte first.
fn decimal(size: Option<usize>, rest: &mut &[u8]) -> Taken<i128> {
    let digits = match size {
        Some(size) => take_slice(size, rest)?,
        None => bytes(rest)?,
    };
    let first = *digits.first().ok_or(Refused::Unknown)?;
    let filled = 16_usize.checked_sub(digits.len()).ok_or(Refused::Unknown)?;
    let sign = if first >= 0x80 { 0xff } else { 0 };
    let mut whole = [sign; 16];
    whole[filled..].copy_from_slice(digits);
    Ok(i128::from_be_bytes(whole))
}
