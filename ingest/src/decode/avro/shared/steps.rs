//! How values that were written in one schema are read in another.

use std::mem::take;

use super::kind::{Absent, Field, Kind, Primitive, Shape, place};

/// How a version's records become those of the schema that all are read in.
#[derive(Debug)]
pub(in crate::decode::avro) struct Version {
    /// Field after field, and the column of each; none for one that is not wanted.
    pub(super) steps: Vec<(Step, Option<usize>)>,
    /// Columns of fields that the version does not have.
    pub(super) absent: Vec<(usize, Absent)>,
}

/// How the next value is read.
#[derive(Debug)]
pub(super) struct Step {
    pub null: Option<u8>,
    /// Whether the column takes a null.
    pub may_be_null: bool,
    pub read: Read,
}

#[derive(Debug)]
pub(super) enum Read {
    Primitive(Primitive),
    /// Of so many bytes, where that is not written, times a power of ten.
    Decimal(Option<usize>, i128),
    Uuid,
    Fixed(usize),
    /// Which symbol each is.
    Enum(Vec<Option<i32>>),
    Record(Version),
    Array(Box<Step>),
    Map(Box<Step>),
}

/// Why a version is not read here; nothing where it is merely not understood.
pub(super) type Unresolved = Option<String>;

impl Version {
    pub(super) fn resolve(writer: &[Field], reader: &[Field]) -> Result<Self, Unresolved> {
        let mut absent: Vec<bool> = vec![true; reader.len()];
        let steps = writer.iter().map(|Field { name, kind, .. }| {
            let Some(at) = reader.iter().position(|field| field.name == *name) else {
                return Ok((Step::resolve(kind, kind)?, None));
            };
            // A field that there is twice is no schema.
            if !take(&mut absent[at]) {
                return Err(None);
            }
            let step = Step::resolve(kind, &reader[at].kind);
            let step = step.map_err(|why| why.map(|why| format!("field {name:?}: {why}")))?;
            Ok((step, Some(at)))
        });
        let steps = steps.collect::<Result<_, Unresolved>>()?;
        let fields = reader.iter().enumerate().zip(absent);
        let absent = fields
            .filter(|(_, is_absent)| *is_absent)
            .map(|((at, field), _)| Some((at, field.absent.clone()?)));
        Ok(Self {
            steps,
            absent: absent.collect::<Option<_>>().ok_or(None)?,
        })
    }
}

impl Step {
    fn resolve(writer: &Kind, reader: &Kind) -> Result<Self, Unresolved> {
        let read = match (&writer.shape, &reader.shape) {
            (Shape::Primitive(own, logical), Shape::Primitive(wanted, other)) => {
                let is_same = own == wanted && logical == other;
                let is_wider = becomes(*own, *wanted) && logical.is_none() && other.is_none();
                (is_same || is_wider)
                    .then_some(Read::Primitive(*own))
                    .ok_or(None)?
            }
            (Shape::Decimal(own), Shape::Decimal(wanted)) if own.size == wanted.size => {
                // Without it every value would be ten times another.
                let more = wanted.scale.checked_sub(own.scale);
                let factor = more.and_then(|more| 10_i128.checked_pow(u32::try_from(more).ok()?));
                let factor = factor.ok_or_else(|| Some(format!("{own} is no {wanted}")))?;
                Read::Decimal(own.size, factor)
            }
            (Shape::Uuid, Shape::Uuid) => Read::Uuid,
            (Shape::Fixed(own), Shape::Fixed(wanted)) if own == wanted => Read::Fixed(*own),
            (Shape::Enum(own, _), Shape::Enum(wanted, default)) => {
                let places = own.iter().map(|symbol| place(wanted, symbol).or(*default));
                let places = places.map(|place| place.and_then(|place| i32::try_from(place).ok()));
                Read::Enum(places.collect())
            }
            (Shape::Record(own), Shape::Record(wanted)) => {
                Read::Record(Version::resolve(own, wanted)?)
            }
            (Shape::Array(own), Shape::Array(wanted)) => {
                Read::Array(Box::new(Self::resolve(own, wanted)?))
            }
            (Shape::Map(own), Shape::Map(wanted)) => {
                Read::Map(Box::new(Self::resolve(own, wanted)?))
            }
            _ => return Err(None),
        };
        Ok(Self {
            null: writer.null,
            may_be_null: reader.null.is_some(),
            read,
        })
    }
}

/// Whether every value of the one is one of the other, which is wider.
fn becomes(own: Primitive, wanted: Primitive) -> bool {
    use Primitive::{Double, Float, Int, Long};
    matches!(
        (own, wanted),
        (Int, Long | Float | Double) | (Long, Float | Double) | (Float, Double)
    )
}
