//! What a schema says of its fields, as far as it is understood.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields};
use serde_json::Value;

use crate::decode::avro::references::{full_name, namespace_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
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
}

/// A type, and which branch of a union with it stands for no value, as that is written.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub shape: Shape,
    pub null: Option<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// With what it means, if it means more.
    Primitive(Primitive, Option<String>),
    Decimal(Decimal),
    /// As text.
    Uuid,
    /// Of so many bytes.
    Fixed(usize),
    /// Its symbols, and which of them stands for those it does not have.
    Enum(Vec<String>, Option<usize>),
    Record(Vec<Field>),
    Array(Box<Kind>),
    Map(Box<Kind>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    precision: u64,
    pub scale: u64,
    /// How many bytes each has, where that is not written with it.
    pub size: Option<usize>,
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "decimal({}, {})", self.precision, self.scale)
    }
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub kind: Kind,
    /// What stands for it in records of a version that does not have it. None where those are not read here.
    pub absent: Option<Absent>,
    has_aliases: bool,
}

/// The value of a field that a version does not have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Absent {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    /// An array or a map of nothing.
    Empty,
}

impl Absent {
    fn of(kind: &Kind, default: &Value) -> Option<Self> {
        // A union's default is one of its first branch.
        if kind.null == Some(0) {
            return default.is_null().then_some(Self::Null);
        }
        Some(match (&kind.shape, default) {
            (Shape::Primitive(Primitive::Boolean, _), Value::Bool(value)) => Self::Boolean(*value),
            (Shape::Primitive(Primitive::Int, _), value) => {
                Self::Integer(i32::try_from(value.as_i64()?).ok()?.into())
            }
            (Shape::Primitive(Primitive::Long, _), value) => Self::Integer(value.as_i64()?),
            (Shape::Primitive(Primitive::Float | Primitive::Double, _), Value::Number(value)) => {
                Self::Number(value.as_f64()?)
            }
            (Shape::Primitive(Primitive::String, _), Value::String(value)) => {
                Self::Text(value.clone())
            }
            (Shape::Enum(symbols, _), Value::String(symbol)) => {
                Self::Integer(i64::try_from(place(symbols, symbol)?).ok()?)
            }
            (Shape::Array(_), Value::Array(items)) if items.is_empty() => Self::Empty,
            (Shape::Map(_), Value::Object(entries)) if entries.is_empty() => Self::Empty,
            _ => return None,
        })
    }
}

/// The fields of a schema that is a record; none where one of them is not understood.
pub(super) fn fields(schema: &str) -> Option<Vec<Field>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    match Known::default().kind(&schema, "")?.shape {
        Shape::Record(fields) => Some(fields),
        _ => None,
    }
}

/// Types that have a name, by that.
#[derive(Default)]
struct Known(HashMap<String, Shape>);

impl Known {
    fn kind(&mut self, schema: &Value, namespace: &str) -> Option<Kind> {
        if let Value::Array(branches) = schema {
            let is_null = |branch: &Value| branch.as_str() == Some("null");
            // Zero and one, zigzag.
            let (null, other) = match branches.as_slice() {
                [null, other] if is_null(null) => (0, other),
                [other, null] if is_null(null) => (2, other),
                _ => return None,
            };
            let kind = self.kind(other, namespace)?;
            return kind.null.is_none().then_some(Kind {
                null: Some(null),
                ..kind
            });
        }
        let shape = match schema {
            Value::String(name) => self.named(name, namespace)?,
            _ => self.shape(schema, namespace)?,
        };
        Some(Kind { shape, null: None })
    }

    fn named(&self, name: &str, namespace: &str) -> Option<Shape> {
        if let Some(primitive) = Primitive::named(name) {
            return Some(Shape::Primitive(primitive, None));
        }
        // One that is still being defined holds itself, and is not here yet.
        self.0.get(&full_name(name, namespace)).cloned()
    }

    fn shape(&mut self, schema: &Value, namespace: &str) -> Option<Shape> {
        let r#type = schema.get("type")?.as_str()?;
        let logical = schema.get("logicalType");
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        let decimal = |size: Option<usize>| {
            Some(Shape::Decimal(Decimal {
                precision: number("precision")?,
                scale: number("scale").unwrap_or_default(),
                size,
            }))
        };
        let is_uuid = logical.and_then(Value::as_str) == Some("uuid");
        let is_decimal = logical.and_then(Value::as_str) == Some("decimal");
        let own = namespace_of(schema, namespace);
        let shape = match r#type {
            "bytes" if is_decimal => return decimal(None),
            "string" if is_uuid => return Some(Shape::Uuid),
            "array" => {
                let items = self.kind(schema.get("items")?, namespace)?;
                return items.has_bytes().then(|| Shape::Array(Box::new(items)));
            }
            "map" => {
                let values = self.kind(schema.get("values")?, namespace)?;
                return Some(Shape::Map(Box::new(values)));
            }
            "fixed" => {
                let size = usize::try_from(number("size")?).ok()?;
                match logical {
                    Some(_) if is_decimal => decimal(Some(size))?,
                    Some(_) => return None,
                    None => Shape::Fixed(size),
                }
            }
            "enum" => {
                let symbols = schema.get("symbols")?.as_array()?.iter();
                let symbols = symbols.map(|symbol| symbol.as_str().map(str::to_owned));
                let symbols = symbols.collect::<Option<Vec<String>>>()?;
                let default = schema.get("default").and_then(Value::as_str);
                let default = default.and_then(|default| place(&symbols, default));
                Shape::Enum(symbols, default)
            }
            "record" => {
                let fields = schema.get("fields")?.as_array()?.iter();
                let fields = fields.map(|field| self.field(field, &own));
                Shape::Record(fields.collect::<Option<_>>()?)
            }
            name => {
                let primitive = Primitive::named(name)?;
                return Some(Shape::Primitive(primitive, logical.map(Value::to_string)));
            }
        };
        let name = full_name(schema.get("name")?.as_str()?, &own);
        self.0.insert(name, shape.clone());
        Some(shape)
    }

    fn field(&mut self, field: &Value, namespace: &str) -> Option<Field> {
        let kind = self.kind(field.get("type")?, namespace)?;
        let default = field.get("default");
        Some(Field {
            name: field.get("name")?.as_str()?.to_owned(),
            absent: default.and_then(|default| Absent::of(&kind, default)),
            has_aliases: field.get("aliases").is_some(),
            kind,
        })
    }
}

impl Kind {
    /// Whether a value has at least one byte: of others, few bytes could be any number.
    fn has_bytes(&self) -> bool {
        self.null.is_some()
            || match &self.shape {
                Shape::Fixed(size) => *size > 0,
                Shape::Decimal(decimal) => decimal.size != Some(0),
                Shape::Record(fields) => fields.iter().any(|field| field.kind.has_bytes()),
                _ => true,
            }
    }

    /// Whether values that are written so stand in an array of this type as they are.
    fn fits(&self, data_type: &DataType) -> bool {
        match (&self.shape, data_type) {
            (Shape::Primitive(primitive, _), _) => match primitive {
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
            },
            (Shape::Decimal(decimal), DataType::Decimal128(precision, scale)) => {
                decimal.precision == u64::from(*precision)
                    && i64::try_from(decimal.scale) == Ok(i64::from(*scale))
            }
            (Shape::Uuid, DataType::FixedSizeBinary(16)) => true,
            (Shape::Fixed(size), DataType::FixedSizeBinary(own)) => {
                i32::try_from(*size) == Ok(*own)
            }
            (Shape::Enum(..), DataType::Dictionary(keys, values)) => {
                (&**keys, &**values) == (&DataType::Int32, &DataType::Utf8)
            }
            (Shape::Record(fields), DataType::Struct(own)) => !own.is_empty() && fit(fields, own),
            (Shape::Array(items), DataType::List(own)) => items.fits(own.data_type()),
            (Shape::Map(values), DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(own) => {
                    own.len() == 2
                        && *own[0].data_type() == DataType::Utf8
                        && values.fits(own[1].data_type())
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// Whether values of these fields stand in arrays of those, one by one.
pub(super) fn fit(fields: &[Field], own: &Fields) -> bool {
    let fits = |field: &Field, own: &arrow::datatypes::Field| {
        // By an alias another field may be meant: which, is not decided here.
        !field.has_aliases && field.name == *own.name() && field.kind.fits(own.data_type())
    };
    fields.len() == own.len() && fields.iter().zip(own).all(|(field, own)| fits(field, own))
}

/// Which of the symbols this one is.
pub(super) fn place(symbols: &[String], symbol: &str) -> Option<usize> {
    symbols.iter().position(|other| other == symbol)
}
