//! One version of the catalog, and the changes that lead from one to the next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::object::{Object, ObjectKind, StatementId, StreamObject};
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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    schema_comments: BTreeMap<String, String>,
    /// The last statement of each application that changed names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    statements: BTreeMap<String, Definer>,
}

/// A statement that changed names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Definer {
    ordinal: u32,
    text_hash: u64,
    /// The version it made.
    version: u64,
}

/// Statements of more applications than this are forgotten, those that are longest ago first. A statement is
/// only repeated while its application runs.
const REMEMBERED_APPLICATIONS: usize = 1000;

/// One change of the catalog. Several together are one atomic step.
// A record holds few of them.
#[allow(clippy::large_enum_variant)]
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
    /// Two objects change places.
    Swap {
        /// One of them.
        one: TableName,
        /// The other.
        other: TableName,
    },
    /// Renames a schema with all that is in it; the new name must be free.
    RenameSchema {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// All that is in one schema changes places with all that is in another.
    SwapSchemas {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// Says something of a schema; none: nothing any more.
    SetSchemaComment {
        /// Name.
        schema: String,
        /// The text.
        comment: Option<String>,
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
            schema_comments: BTreeMap::new(),
            statements: BTreeMap::new(),
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

    /// What people say of a schema.
    pub fn schema_comment(&self, schema: &str) -> Option<&str> {
        self.schema_comments.get(schema).map(String::as_str)
    }

    /// Whether a statement has made its change of names. The same place with another text is an error.
    pub(crate) fn has_done(&self, statement: &StatementId) -> Result<bool> {
        match self.statements.get(&statement.application) {
            Some(last) if last.ordinal == statement.ordinal => {
                if last.text_hash == statement.text_hash {
                    return Ok(true);
                }
                Err(Error::StatementChanged {
                    table: "the catalog".to_owned(),
                    application: statement.application.clone(),
                    ordinal: statement.ordinal,
                })
            }
            // Statements of an application are done in their order.
            Some(last) => Ok(last.ordinal > statement.ordinal),
            None => Ok(false),
        }
    }

    /// The stream of a name.
    pub fn stream(&self, name: &str) -> Option<&StreamObject> {
        self.streams.get(name)
    }

    /// The next version, made by a statement.
    pub(crate) fn apply_made_by(
        &self,
        changes: &[Change],
        statement: Option<&StatementId>,
    ) -> Result<Self> {
        let mut next = self.apply(changes)?;
        if let Some(statement) = statement {
            let definer = Definer {
                ordinal: statement.ordinal,
                text_hash: statement.text_hash,
                version: next.version,
            };
            next.statements
                .insert(statement.application.clone(), definer);
            if next.statements.len() > REMEMBERED_APPLICATIONS {
                let oldest = next.statements.iter().min_by_key(|(_, last)| last.version);
                if let Some(oldest) = oldest.map(|(application, _)| application.clone()) {
                    next.statements.remove(&oldest);
                }
            }
        }
        Ok(next)
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

    /// Refuses changes that would be refused as a step, before anything is prepared for them.
    pub fn allows(&self, changes: &[Change]) -> Result<()> {
        self.check_streams(&self.apply(changes)?)
    }

    /// Refuses a next version in which a stream's tables would be others than those that it writes.
    pub(crate) fn check_streams(&self, next: &Self) -> Result<()> {
        for (name, stream) in &next.streams {
            let before = self.streams.get(name).map(|before| &before.tables);
            let is_new = before != Some(&stream.tables);
            for table in &stream.tables {
                match (self.get(table), next.get(table)) {
                    (Some(before), Some(after)) if before.id == after.id => {}
                    (Some(_), _) => {
                        return Err(Error::WrittenByStream {
                            table: table.to_string(),
                            stream: name.clone(),
                        });
                    }
                    (None, None) if is_new => {
                        return Err(not_found(ObjectKind::Table.noun(), &table.to_string()));
                    }
                    (None, _) => {}
                }
            }
        }
        Ok(())
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
                if let Some(other) = self.get(to) {
                    return Err(already_exists(other.kind.noun(), to));
                }
                self.put(to, &object)?;
            }
            Change::Swap { one, other } => {
                let (first, second) = (self.take(one)?, self.take(other)?);
                self.put(one, &second)?;
                self.put(other, &first)?;
            }
            Change::RenameSchema { from, to } => self.rename_schema(from, to)?,
            Change::SwapSchemas { one, other } => self.swap_schemas(one, other)?,
            Change::SetSchemaComment { schema, comment } => {
                self.must_have_schema(schema)?;
                match comment {
                    Some(comment) => self.schema_comments.insert(schema.clone(), comment.clone()),
                    None => self.schema_comments.remove(schema),
                };
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
        self.must_have_schema(schema)?;
        if schema == DEFAULT_SCHEMA {
            return Err(default_stays());
        }
        self.schemas.remove(schema);
        self.schema_comments.remove(schema);
        Ok(())
    }

    fn rename_schema(&mut self, from: &str, to: &str) -> Result<()> {
        check_part(to)?;
        self.must_have_schema(from)?;
        if from == DEFAULT_SCHEMA {
            return Err(default_stays());
        }
        if self.schemas.contains(to) {
            return Err(Error::AlreadyExists {
                kind: "schema",
                name: to.to_owned(),
            });
        }
        self.schemas.remove(from);
        self.schemas.insert(to.to_owned());
        if let Some(objects) = self.objects.remove(from) {
            self.objects.insert(to.to_owned(), objects);
        }
        if let Some(comment) = self.schema_comments.remove(from) {
            self.schema_comments.insert(to.to_owned(), comment);
        }
        Ok(())
    }

    fn swap_schemas(&mut self, one: &str, other: &str) -> Result<()> {
        self.must_have_schema(one)?;
        self.must_have_schema(other)?;
        let (first, second) = (self.objects.remove(one), self.objects.remove(other));
        if let Some(objects) = second {
            self.objects.insert(one.to_owned(), objects);
        }
        if let Some(objects) = first {
            self.objects.insert(other.to_owned(), objects);
        }
        Ok(())
    }

    fn must_have_schema(&self, schema: &str) -> Result<()> {
        match self.schemas.contains(schema) {
            true => Ok(()),
            false => Err(not_found("schema", schema)),
        }
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
        for (schema, objects) in &self.objects {
            for (other_name, other) in objects {
                let theirs = other.location.as_str();
                let meets = ours.starts_with(theirs) || theirs.starts_with(ours);
                let is_itself = *schema == name.schema && *other_name == name.name;
                if meets && other.kind == ObjectKind::Table && !is_itself && other.id != object.id {
                    let other_name = TableName::new(schema, other_name);
                    return Err(Error::LocationTaken {
                        table: name.to_string(),
                        location: ours.to_owned(),
                        reason: format!("table '{other_name}' keeps its files in {theirs}"),
                    });
                }
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

fn default_stays() -> Error {
    Error::Name {
        name: DEFAULT_SCHEMA.to_owned(),
        reason: "the default schema is always there, under this name",
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
