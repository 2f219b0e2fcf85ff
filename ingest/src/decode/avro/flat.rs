//! Records of primitive fields, in the same columns whatever version they were written in.
//!
//! Versions that are decoded by `arrow-avro` have columns of their own each, which have to be put together; where
//! versions alternate, that and the cost of many open columns is what mixing them costs. Here a version is a list of
//! steps over one set of columns. Only what needs no judgement is taken: whether two schemas match, and why a value is
//! none, is left to `arrow-avro`, so whatever is not understood is to be decoded there, and gets its reason there.
//!
//! Encoding and schema resolution: <https://avro.apache.org/docs/1.12.0/specification/>.

use std::mem::take;

use arrow::array::{
    ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, RecordBatch, RecordBatchOptions,
    make_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use serde_json::Value;

/// What a field is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Primitive {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

impl Primitive {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// Whether every value of this is one of the other.
    fn becomes(self, other: Self) -> bool {
        match self {
            Self::Int => matches!(other, Self::Long | Self::Float | Self::Double),
            Self::Long => matches!(other, Self::Float | Self::Double),
            Self::Float => other == Self::Double,
            Self::Boolean | Self::Double | Self::Bytes | Self::String => false,
        }
    }
}

/// A primitive, which may have a meaning, and may be absent.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    primitive: Primitive,
    logical: Option<String>,
    /// The branch of a union that stands for no value, as it is written.
    null: Option<u8>,
}

impl Kind {
    fn of(schema: &Value) -> Option<Self> {
        match schema {
            Value::String(name) => Some(Self {
                primitive: Primitive::named(name)?,
                logical: None,
                null: None,
            }),
            Value::Object(schema) => {
                let name = schema.get("type")?.as_str()?;
                let logical = schema.get("logicalType").map(Value::to_string);
                Some(Self {
                    primitive: Primitive::named(name)?,
                    logical,
                    null: None,
                })
            }
            Value::Array(branches) => {
                let is_null = |branch: &Value| branch.as_str() == Some("null");
                // Zero and one, zigzag.
                let (null, other) = match branches.as_slice() {
                    [null, other] if is_null(null) => (0, other),
                    [other, null] if is_null(null) => (2, other),
                    _ => return None,
                };
                let kind = Self::of(other).filter(|kind| kind.null.is_none())?;
                Some(Self {
                    null: Some(null),
                    ..kind
                })
            }
            _ => None,
        }
    }
}

/// A field of a record.
#[derive(Debug)]
struct Field {
    name: String,
    kind: Kind,
    /// What stands for it in records of a version that does not have it. None where those cannot be read.
    absent: Option<Absent>,
    has_aliases: bool,
}

/// The fields of a record; none where one of them is no primitive.
fn fields(schema: &str) -> Option<Vec<Field>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    if schema.get("type")?.as_str() != Some("record") {
        return None;
    }
    let fields = schema.get("fields")?.as_array()?.iter().map(|field| {
        let kind = Kind::of(field.get("type")?)?;
        let default = field.get("default");
        Some(Field {
            name: field.get("name")?.as_str()?.to_owned(),
            absent: default.and_then(|default| Absent::of(&kind, default)),
            has_aliases: field.get("aliases").is_some(),
            kind,
        })
    });
    fields.collect()
}

/// The value of a field that a version does not have.
#[derive(Debug, Clone, PartialEq)]
enum Absent {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Absent {
    fn of(kind: &Kind, default: &Value) -> Option<Self> {
        // A union's default is one of its first branch.
        match (kind.null, default) {
            (Some(0), Value::Null) => return Some(Self::Null),
            (Some(0), _) => return None,
            _ => {}
        }
        Some(match (kind.primitive, default) {
            (Primitive::Boolean, Value::Bool(value)) => Self::Boolean(*value),
            (Primitive::Int, value) => Self::Integer(i32::try_from(value.as_i64()?).ok()?.into()),
            (Primitive::Long, value) => Self::Integer(value.as_i64()?),
            (Primitive::Float | Primitive::Double, Value::Number(value)) => {
                Self::Number(value.as_f64()?)
            }
            (Primitive::String, Value::String(value)) => Self::Text(value.clone()),
            _ => return None,
        })
    }
}

/// How a version's records become rows.
#[derive(Debug)]
pub(super) struct Version {
    steps: Vec<Step>,
    /// Columns of fields that the version does not have.
    absent: Vec<(usize, Absent)>,
}

/// What is done with the next field.
#[derive(Debug)]
struct Step {
    primitive: Primitive,
    null: Option<u8>,
    /// The column; none for a field that is not wanted.
    column: Option<usize>,
}

/// The columns of a batch so far.
#[derive(Debug)]
pub(super) struct Flat {
    schema: SchemaRef,
    fields: Vec<Field>,
    columns: Vec<Column>,
    /// Rows of the batch that are in the columns.
    rows: Vec<usize>,
}

impl Flat {
    /// Columns of this schema, as `arrow-avro` has them; none where one of its fields is not a primitive.
    pub(super) fn new(reader: &str, schema: &SchemaRef) -> Option<Self> {
        let fields = fields(reader)?;
        // By an alias another field may be meant: which, is not decided here.
        if fields.iter().any(|field| field.has_aliases) {
            return None;
        }
        let is_known = fields.len() == schema.fields().len()
            && fields.iter().zip(schema.fields()).all(|(field, own)| {
                field.name == *own.name() && Values::fits(field.kind.primitive, own.data_type())
            });
        is_known.then(|| Self {
            columns: fields
                .iter()
                .map(|field| Column::new(&field.kind))
                .collect(),
            schema: SchemaRef::clone(schema),
            fields,
            rows: Vec::new(),
        })
    }

    /// How records of this version become rows; none where that is not for certain.
    pub(super) fn version(&self, writer: &str) -> Option<Version> {
        let mut absent: Vec<bool> = vec![true; self.fields.len()];
        let steps = fields(writer)?.into_iter().map(|Field { name, kind, .. }| {
            let column = self.fields.iter().position(|field| field.name == name);
            if let Some(at) = column {
                let wanted = &self.fields[at].kind;
                let is_same = kind.primitive == wanted.primitive && kind.logical == wanted.logical;
                let is_wider = kind.primitive.becomes(wanted.primitive)
                    && kind.logical.is_none()
                    && wanted.logical.is_none();
                let can_be_held = kind.null.is_none() || wanted.null.is_some();
                // A field that there is twice is no schema.
                if !(is_same || is_wider) || !can_be_held || !take(&mut absent[at]) {
                    return None;
                }
            }
            Some(Step {
                primitive: kind.primitive,
                null: kind.null,
                column,
            })
        });
        let steps = steps.collect::<Option<Vec<Step>>>()?;
        let fields = self.fields.iter().enumerate().zip(absent);
        let absent = fields
            .filter(|(_, is_absent)| *is_absent)
            .map(|((at, field), _)| Some((at, field.absent.clone()?)));
        Some(Version {
            steps,
            absent: absent.collect::<Option<_>>()?,
        })
    }

    /// Takes a record as this row of the batch. Of one that is not understood nothing is kept.
    pub(super) fn take(&mut self, version: &Version, record: &[u8], row: usize) -> bool {
        if self.rows.is_empty() {
            for column in &mut self.columns {
                column.make_room();
            }
        }
        let taken = append(&mut self.columns, version, record).is_some();
        match taken {
            true => self.rows.push(row),
            false => {
                for column in &mut self.columns {
                    column.truncate(self.rows.len());
                }
            }
        }
        taken
    }

    /// Rows of the batch so far, and their columns unless a value turns out to be none (text that is no UTF-8).
    pub(super) fn finish(&mut self) -> (Vec<usize>, Result<RecordBatch, ArrowError>) {
        let rows = take(&mut self.rows);
        let columns = self.columns.iter_mut().zip(self.schema.fields());
        // All of them, so that nothing stays for the next batch.
        let columns: Vec<Result<ArrayRef, ArrowError>> = columns
            .map(|(column, field)| column.finish(field.data_type(), rows.len()))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = columns
            .into_iter()
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()
            .and_then(|columns| {
                let schema = SchemaRef::clone(&self.schema);
                RecordBatch::try_new_with_options(schema, columns, &options)
            });
        (rows, batch)
    }
}

/// Appends a whole record, or some columns have a value too many.
fn append(columns: &mut [Column], version: &Version, record: &[u8]) -> Option<()> {
    let mut rest = record;
    for step in &version.steps {
        let is_null = match step.null {
            Some(null) => match take_byte(&mut rest)? {
                branch if branch == null => true,
                0 | 2 => false,
                _ => return None,
            },
            None => false,
        };
        match step.column {
            Some(at) if is_null => columns[at].push_null(),
            Some(at) => columns[at].read(step.primitive, &mut rest)?,
            None if is_null => {}
            None => skip(step.primitive, &mut rest)?,
        }
    }
    for (at, absent) in &version.absent {
        columns[*at].push(absent)?;
    }
    rest.is_empty().then_some(())
}

/// Values of one field. Those that are null have a place there.
#[derive(Debug)]
struct Column {
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
}

impl Values {
    fn new(primitive: Primitive) -> Self {
        match primitive {
            Primitive::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            Primitive::Int => Self::Int(Vec::new()),
            Primitive::Long => Self::Long(Vec::new()),
            Primitive::Float => Self::Float(Vec::new()),
            Primitive::Double => Self::Double(Vec::new()),
            Primitive::Bytes | Primitive::String => Self::Bytes(vec![0], Vec::new()),
        }
    }

    /// Whether values that are written so stand in an array of this type as they are.
    fn fits(primitive: Primitive, data_type: &DataType) -> bool {
        match primitive {
            Primitive::Boolean => *data_type == DataType::Boolean,
            Primitive::Int => matches!(
                data_type,
                DataType::Int32 | DataType::Date32 | DataType::Time32(_)
            ),
            Primitive::Long => matches!(
                data_type,
                DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..)
            ),
            Primitive::Float => *data_type == DataType::Float32,
            Primitive::Double => *data_type == DataType::Float64,
            Primitive::Bytes => *data_type == DataType::Binary,
            Primitive::String => *data_type == DataType::Utf8,
        }
    }
}

impl Column {
    fn new(kind: &Kind) -> Self {
        Self {
            values: Values::new(kind.primitive),
            nulls: NullBufferBuilder::new(0),
            room: 0,
        }
    }

    fn make_room(&mut self) {
        match &mut self.values {
            Values::Boolean(_) => {}
            Values::Int(values) => values.reserve_exact(self.room),
            Values::Long(values) => values.reserve_exact(self.room),
            Values::Float(values) => values.reserve_exact(self.room),
            Values::Double(values) => values.reserve_exact(self.room),
            Values::Bytes(_, values) => values.reserve_exact(self.room),
        }
    }

    #[inline]
    fn read(&mut self, primitive: Primitive, rest: &mut &[u8]) -> Option<()> {
        match (&mut self.values, primitive) {
            (Values::Boolean(values), Primitive::Boolean) => values.append(boolean(rest)?),
            (Values::Int(values), Primitive::Int) => values.push(int(rest)?),
            (Values::Long(values), Primitive::Long) => values.push(long(rest)?),
            (Values::Long(values), Primitive::Int) => values.push(int(rest)?.into()),
            (Values::Float(values), Primitive::Float) => {
                values.push(f32::from_le_bytes(take_array(rest)?));
            }
            (Values::Float(values), Primitive::Int) => values.push(int(rest)? as f32),
            (Values::Float(values), Primitive::Long) => values.push(long(rest)? as f32),
            (Values::Double(values), Primitive::Double) => {
                values.push(f64::from_le_bytes(take_array(rest)?));
            }
            (Values::Double(values), Primitive::Float) => {
                values.push(f32::from_le_bytes(take_array(rest)?).into());
            }
            (Values::Double(values), Primitive::Int) => values.push(int(rest)?.into()),
            (Values::Double(values), Primitive::Long) => values.push(long(rest)? as f64),
            (Values::Bytes(ends, values), Primitive::Bytes | Primitive::String) => {
                values.extend_from_slice(bytes(rest)?);
                ends.push(i32::try_from(values.len()).ok()?);
            }
            _ => return None,
        }
        self.nulls.append_non_null();
        Some(())
    }

    #[inline]
    fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int(values) => values.push(0),
            Values::Long(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Bytes(ends, _) => ends.push(ends.last().copied().unwrap_or_default()),
        }
        self.nulls.append_null();
    }

    fn push(&mut self, absent: &Absent) -> Option<()> {
        match (&mut self.values, absent) {
            (_, Absent::Null) => {
                self.push_null();
                return Some(());
            }
            (Values::Boolean(values), Absent::Boolean(value)) => values.append(*value),
            (Values::Int(values), Absent::Integer(value)) => {
                values.push(i32::try_from(*value).ok()?);
            }
            (Values::Long(values), Absent::Integer(value)) => values.push(*value),
            (Values::Float(values), Absent::Number(value)) => values.push(*value as f32),
            (Values::Double(values), Absent::Number(value)) => values.push(*value),
            (Values::Bytes(ends, values), Absent::Text(value)) => {
                values.extend_from_slice(value.as_bytes());
                ends.push(i32::try_from(values.len()).ok()?);
            }
            _ => return None,
        }
        self.nulls.append_non_null();
        Some(())
    }

    fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int(values) => values.truncate(rows),
            Values::Long(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Bytes(ends, values) => {
                ends.truncate(rows + 1);
                let end = ends.last().copied().unwrap_or_default();
                values.truncate(usize::try_from(end).unwrap_or_default());
            }
        }
        self.nulls.truncate(rows);
    }

    fn finish(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.room = match &self.values {
            Values::Bytes(_, values) => values.len(),
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
            Values::Bytes(ends, values) => array
                .add_buffer(Buffer::from_vec(std::mem::replace(ends, vec![0])))
                .add_buffer(Buffer::from_vec(take(values))),
        };
        array.build().map(make_array)
    }
}

fn skip(primitive: Primitive, rest: &mut &[u8]) -> Option<()> {
    match primitive {
        Primitive::Boolean => boolean(rest).map(|_| ()),
        Primitive::Int => int(rest).map(|_| ()),
        Primitive::Long => long(rest).map(|_| ()),
        Primitive::Float => take_array::<4>(rest).map(|_| ()),
        Primitive::Double => take_array::<8>(rest).map(|_| ()),
        Primitive::Bytes | Primitive::String => bytes(rest).map(|_| ()),
    }
}

#[inline]
fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

#[inline]
fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

fn boolean(rest: &mut &[u8]) -> Option<bool> {
    match take_byte(rest)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[inline]
fn int(rest: &mut &[u8]) -> Option<i32> {
    i32::try_from(long(rest)?).ok()
}

#[inline]
fn long(rest: &mut &[u8]) -> Option<i64> {
    let first = take_byte(rest)?;
    let mut value = u64::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let byte = take_byte(rest)?;
            // The tenth has one bit left.
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
    }
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[inline]
fn bytes<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let length = usize::try_from(long(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests;
