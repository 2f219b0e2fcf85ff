//! What a name in the catalog stands for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

/// Which statement made something: the same statement, repeated, is the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatementId {
    /// Id of the application.
    pub application: String,
    /// Position of the statement in it, from 0.
    pub ordinal: u32,
    /// Hash of the statement's text.
    pub text_hash: u64,
}

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A table that Drumline writes.
    Table,
    /// A stored query.
    View,
    /// A folder of files that others write: read only.
    External,
}

impl ObjectKind {
    /// As people see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::External => "external",
        }
    }
}

/// How a table keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Parquet files with a Delta log.
    #[default]
    Delta,
    /// Plain Parquet files in Hive folders, with commit records of ours.
    Parquet,
}

/// A table, view or external table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Identity that survives renames and never comes back after a drop.
    pub id: Uuid,
    /// Kind.
    pub kind: ObjectKind,
    /// Folder of a table's files, ending in a slash. For a view: the lake's root.
    pub location: Url,
    /// Format of a table's files.
    pub format: Format,
    /// Folder of a plain Parquet table's commit records, under `_drumline/commits/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Free properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The statement that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<StatementId>,
    /// Text of a view's query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_sql: Option<String>,
}

impl Object {
    /// A view.
    pub fn view(
        lake: &crate::Lake,
        sql: impl Into<String>,
        created_by: Option<StatementId>,
    ) -> Self {
        Self {
            id: Uuid::new_v4(),
            kind: ObjectKind::View,
            location: lake.root().clone(),
            format: Format::default(),
            log: None,
            properties: BTreeMap::new(),
            created_by,
            view_sql: Some(sql.into()),
        }
    }

    /// A folder of Parquet files that others write.
    pub fn external(location: Url, created_by: Option<StatementId>) -> Self {
        Self {
            id: Uuid::new_v4(),
            kind: ObjectKind::External,
            location,
            format: Format::Parquet,
            log: None,
            properties: BTreeMap::new(),
            created_by,
            view_sql: None,
        }
    }
}

/// A stream's definition, opaque to the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamObject {
    /// The definition as its owner encodes it (protobuf bytes in base64, TOML text, ...).
    pub definition: String,
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
    /// Grows with each change of the definition.
    #[serde(default)]
    pub revision: u64,
}
