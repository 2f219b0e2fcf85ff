//! The registry's wire format: a zero byte, the schema's id in four bytes, and what it describes.

use std::sync::Arc;
use std::time::Instant;

use super::found::Found;
use super::{Format, Origins, Rows};
use crate::Result;
use crate::registry::{Language, Pending, Registered, Schemas};

const MAGIC: u8 = 0;

/// What happens to a record whose schema the registry does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Wait,
    DeadLetter,
}

/// Id and payload, or why these bytes have none.
pub(super) fn split(value: &[u8]) -> Result<(i32, &[u8]), String> {
    match value {
        [MAGIC, a, b, c, d, payload @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), payload)),
        [MAGIC, ..] | [] => Err(format!(
            "{} bytes are too few for a schema's id",
            value.len()
        )),
        [first, ..] => Err(format!(
            "the value begins with byte {first} instead of 0 and a schema's id"
        )),
    }
}

/// Finds the schemas that values name.
#[derive(Debug)]
pub(super) struct Framing {
    schemas: Schemas,
    language: Language,
    unknown: Unknown,
}

impl Framing {
    pub(super) fn new(schemas: Schemas, language: Language, unknown: Unknown) -> Self {
        Self {
            schemas,
            language,
            unknown,
        }
    }

    /// Why the value has to wait. What has no id waits for nothing: it is a dead letter.
    pub(super) fn waits(&mut self, value: &[u8]) -> Option<String> {
        let (id, _) = split(value).ok()?;
        let Pending { reason, is_absent } = self.schemas.wants(id, Instant::now())?;
        (!is_absent || self.unknown == Unknown::Wait).then_some(reason)
    }

    /// The schema of a value that does not wait, and its payload.
    pub(super) fn find<'v>(&self, value: &'v [u8]) -> Result<(&Arc<Registered>, &'v [u8]), String> {
        let (id, payload) = split(value)?;
        let registered = self
            .schemas
            .known(id)
            .ok_or_else(|| format!("schema {id} is not registered"))?;
        if registered.language == self.language {
            Ok((registered, payload))
        } else {
            Err(format!(
                "schema {id} is one in {}, not in {}",
                registered.language.name(),
                self.language.name()
            ))
        }
    }
}

/// Values that say all that is needed without their schema.
#[derive(Debug)]
pub(super) struct Unwrapped<F>(F);

impl<F> Unwrapped<F> {
    pub(super) fn new(inner: F) -> Self {
        Self(inner)
    }
}

impl<F: Format> Format for Unwrapped<F> {
    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        let (_, payload) = split(value)?;
        self.0.take(payload)
    }

    fn take_keyed(&mut self, value: &[u8], key: Option<&[u8]>) -> Result<(), String> {
        let (_, payload) = split(value)?;
        // A key without a header is one as it is.
        let key = key.map(|key| split(key).map_or(key, |(_, key)| key));
        self.0.take_keyed(payload, key)
    }

    fn take_null(&mut self) {
        self.0.take_null();
    }

    fn found(&mut self, value: &[u8]) -> Found {
        split(value).map_or_else(|_| Found::new(), |(_, payload)| self.0.found(payload))
    }

    fn finish(&mut self, origins: &Origins) -> Result<Rows> {
        self.0.finish(origins)
    }
}
