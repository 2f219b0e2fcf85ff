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
    pub read: Read,
}

#[derive(Debug)]
pub(super) enum Read {
    Primitive(Primitive),
    /// Of so many bytes, where that is not written.
    Decimal(Option<usize>),
    Uuid,
    Fixed(usize),
    /// Which symbol each is.
    Enum(Vec<Option<i32>>),
    Record(Version),
    Array(Box<Step>),
    Map(Box<Step>),
}

impl Version {
    /// None where that is not for certain.
    pub(super) fn resolve(writer: &[Field], reader: &[Field]) -> Option<Self> {
        let mut absent: Vec<bool> = vec![true; reader.len()];
        let steps = writer.iter().map(|Field { name, kind, .. }| {
            let Some(at) = reader.iter().position(|field| field.name == *name) else {
                return Some((Step::resolve(kind, kind)?, None));
            };
            // A field that there is twice is no schema.
            let step = take(&mut absent[at]).then(|| Step::resolve(kind, &reader[at].kind));
            Some((step??, Some(at)))
        });
        let steps = steps.collect::<Option<_>>()?;
        let fields = reader.iter().enumerate().zip(absent);
        let absent = fields
            .filter(|(_, is_absent)| *is_absent)
            .map(|((at, field), _)| Some((at, field.absent.clone()?)));
        Some(Self {
            steps,
            absent: absent.collect::<Option<_>>()?,
        })
    }
}

impl Step {
    fn resolve(writer: &Kind, reader: &Kind) -> Option<Self> {
        if writer.null.is_some() && reader.null.is_none() {
            return None;
        }
        let read = match (&writer.shape, &reader.shape) {
            (Shape::Primitive(own, logical), Shape::Primitive(wanted, other)) => {
                let is_same = own == wanted && logical == other;
                let is_wider = becomes(*own, *wanted) && logical.is_none() && other.is_none();
                (is_same || is_wider).then_some(Read::Primitive(*own))?
            }
            (Shape::Decimal(own), Shape::Decimal(wanted)) if own == wanted => {
                Read::Decimal(own.size)
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
            _ => return None,
        };
        Some(Self {
            null: writer.null,
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
