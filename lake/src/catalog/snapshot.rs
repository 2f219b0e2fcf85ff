//! One version of the catalog, and the changes that lead from one to the next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::object::{Object, StreamObject};
use crate::TableName;

/// One version of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

    /// The stream of a name.
    pub fn stream(&self, name: &str) -> Option<&StreamObject> {
        self.streams.get(name)
    }
}
