//! What a name in the catalog stands for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::TableName;

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

    /// In a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::External => "external table",
        }
    }
}

/// What the files of an external table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Parquet files.
    Parquet,
    /// Text with a separator between columns.
    Csv,
    /// A JSON object on each line.
    Json,
    /// A Delta table that others write.
    Delta,
}

impl FileFormat {
    /// As `STORED AS` has it, in small letters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Delta => "delta",
        }
    }
}

/// How an external table's files are to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// What they are.
    pub format: FileFormat,
    /// Declared columns: name, and type as SQL writes it. None: they are read from the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<(String, String)>,
    /// Columns whose values are folders, as declared. None: they are read from the folders' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_columns: Vec<String>,
    /// Options of the format, such as `has_header`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl External {
    /// Files of a format, their columns and folders read from themselves.
    pub fn of(format: FileFormat) -> Self {
        Self {
            format,
            columns: Vec::new(),
            partition_columns: Vec::new(),
            options: BTreeMap::new(),
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
    /// What people say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What people say of its columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub column_comments: BTreeMap<String, String>,
    /// How an external table's files are read. None: as Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
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
            comment: None,
            column_comments: BTreeMap::new(),
            external: None,
        }
    }

    /// A folder of files that others write.
    pub fn external(location: Url, external: External, created_by: Option<StatementId>) -> Self {
        Self {
            id: Uuid::new_v4(),
            kind: ObjectKind::External,
            location,
            format: match external.format {
                FileFormat::Delta => Format::Delta,
                _ => Format::Parquet,
            },
            log: None,
            properties: BTreeMap::new(),
            created_by,
            view_sql: None,
            comment: None,
            column_comments: BTreeMap::new(),
            external: Some(external),
        }
    }

    /// What its files are, in one word; nothing for a view.
    pub fn files_word(&self) -> &'static str {
        match (self.kind, &self.external, self.format) {
            (ObjectKind::View, ..) => "",
            (_, Some(external), _) => external.format.word(),
            (_, None, Format::Delta) => "delta",
            (_, None, Format::Parquet) => "parquet",
        }
    }

    /// Whether its rows come from a Delta log that others write.
    pub fn is_foreign_delta(&self) -> bool {
        self.kind == ObjectKind::External && self.format == Format::Delta
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
    /// The tables that it writes: while it is there, these names stand for what they stand for.
    #[serde(default)]
    pub tables: BTreeSet<TableName>,
}
