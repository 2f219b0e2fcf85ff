//! One version of the catalog, and the changes that lead from one to the next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::object::{Object, ObjectKind, StreamObject};
use crate::name::check_part;
use crate::{DEFAULT_SCHEMA, Error, Result, TableName};

/// One version of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogSnapshot {
    /// Number of the newest log entry; 0 for an empty catalog.
    pub version: u64,
    schemas: BTreeSet<String>,
    objects: BTreeMap<String, BTreeMap<String, Object>>,
    streams: BTreeMap<String, StreamObject>,
}

/// One change of the catalog. Several together are one atomic step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// Makes a schema (no error if it is there).
    PutSchema {
        /// Name.
        schema: String,
    },
    /// Removes an empty schema.
    DropSchema {
        /// Name.
        schema: String,
    },
    /// Puts an object in place, also over another of that name.
    Put {
        /// Name; its schema must exist.
        name: TableName,
        /// What it stands for.
        object: Object,
    },
    /// Removes an object.
    Drop {
        /// Name.
        name: TableName,
    },
    /// Renames an object; the new name must be free.
    Rename {
        /// Old name.
        from: TableName,
        /// New name.
        to: TableName,
    },
    /// Puts a stream in place, also over another of that name.
    PutStream {
        /// Name.
        name: String,
        /// What it stands for.
        stream: StreamObject,
    },
    /// Removes a stream.
    DropStream {
        /// Name.
        name: String,
    },
    /// Pauses or resumes a stream.
    SetStreamPaused {
        /// Name.
        name: String,
        /// Whether it is to be paused.
        paused: bool,
    },
}

impl Default for CatalogSnapshot {
    fn default() -> Self {
        Self {
            version: 0,
            schemas: BTreeSet::from([DEFAULT_SCHEMA.to_owned()]),
            objects: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }
}

impl CatalogSnapshot {
    /// The object of a name.
    pub fn get(&self, name: &TableName) -> Option<&Object> {
        self.objects.get(&name.schema)?.get(&name.name)
    }

    /// All objects, by schema and name.
    pub fn objects(&self) -> impl Iterator<Item = (TableName, &Object)> {
        self.objects.iter().flat_map(|(schema, objects)| {
            objects
                .iter()
                .map(move |(name, object)| (TableName::new(schema, name), object))
        })
    }

    /// All schemas; the default one is always there.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str)
    }

    /// All streams, by name.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &StreamObject)> {
        self.streams
            .iter()
            .map(|(name, stream)| (name.as_str(), stream))
    }

    /// Whether a schema exists.
    pub fn has_schema(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    /// The stream of a name.
    pub fn stream(&self, name: &str) -> Option<&StreamObject> {
        self.streams.get(name)
    }

    /// The next version: all changes, in order, or none.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<Self> {
        let mut next = self.clone();
        next.version += 1;
        for change in changes {
            next.make(change)?;
        }
        Ok(next)
    }

    fn make(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::PutSchema { schema } => {
                check_part(schema)?;
                self.schemas.insert(schema.clone());
            }
            Change::DropSchema { schema } => self.drop_schema(schema)?,
            Change::Put { name, object } => self.put(name, object)?,
            Change::Drop { name } => {
                self.take(name)?;
            }
            Change::Rename { from, to } => {
                let object = self.take(from)?;
                if self.get(to).is_some() {
                    return Err(already_exists("table", to));
                }
                self.put(to, &object)?;
            }
            Change::PutStream { name, stream } => {
                check_part(name)?;
                self.streams.insert(name.clone(), stream.clone());
            }
            Change::DropStream { name } => {
                self.streams
                    .remove(name)
                    .ok_or_else(|| not_found("stream", name))?;
            }
            Change::SetStreamPaused { name, paused } => {
                let stream = self.streams.get_mut(name);
                stream.ok_or_else(|| not_found("stream", name))?.paused = *paused;
            }
        }
        Ok(())
    }

    fn drop_schema(&mut self, schema: &str) -> Result<()> {
        if let Some((name, _)) = self.objects.get(schema).and_then(|o| o.iter().next()) {
            return Err(Error::SchemaNotEmpty {
                schema: schema.to_owned(),
                objects: self.objects[schema].len(),
                example: name.clone(),
            });
        }
        if schema == DEFAULT_SCHEMA || !self.schemas.remove(schema) {
            return Err(not_found("schema", schema));
        }
        Ok(())
    }

    fn put(&mut self, name: &TableName, object: &Object) -> Result<()> {
        name.check()?;
        if !self.schemas.contains(&name.schema) {
            return Err(not_found("schema", &name.schema));
        }
        self.check_location(name, object)?;
        self.objects
            .entry(name.schema.clone())
            .or_default()
            .insert(name.name.clone(), object.clone());
        Ok(())
    }

    /// Two tables never share files, so no table's folder lies in another's.
    fn check_location(&self, name: &TableName, object: &Object) -> Result<()> {
        if object.kind != ObjectKind::Table {
            return Ok(());
        }
        let ours = object.location.as_str();
        for (other_name, other) in self.objects() {
            let theirs = other.location.as_str();
            if other.kind == ObjectKind::Table
                && other_name != *name
                && other.id != object.id
                && (ours.starts_with(theirs) || theirs.starts_with(ours))
            {
                return Err(Error::LocationTaken {
                    table: name.to_string(),
                    location: ours.to_owned(),
                    reason: format!("table '{other_name}' keeps its files in {theirs}"),
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &TableName) -> Result<Object> {
        let missing = || not_found("table", &name.to_string());
        let schema = self.objects.get_mut(&name.schema).ok_or_else(missing)?;
        let object = schema.remove(&name.name).ok_or_else(missing)?;
        if schema.is_empty() {
            self.objects.remove(&name.schema);
        }
        Ok(object)
    }
}

fn not_found(kind: &'static str, name: &str) -> Error {
    Error::NotFound {
        kind,
        name: name.to_owned(),
    }
}

fn already_exists(kind: &'static str, name: &TableName) -> Error {
    Error::AlreadyExists {
        kind,
        name: name.to_string(),
    }
}

#[cfg(test)]
mod tests;
