//! What a statement can be.

use super::{Position, tokens};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident, ObjectName, Query};

/// One statement of a submitted text.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The statement as it was written, without surrounding blanks, comments and the semicolon.
    pub text: String,
    /// Byte at which `text` begins in the submitted text.
    pub offset: usize,
    /// Line and column at which `text` begins in the submitted text.
    pub position: Position,
    /// Place in the submitted text, counted from 1.
    pub ordinal: u32,
    pub(crate) body: Body,
}

impl Statement {
    /// A hash of the text that is the same on every machine and in every version: FNV-1a over the
    /// statement's tokens, so blanks, line breaks and comments do not count.
    pub fn text_hash(&self) -> u64 {
        tokens::hash(&self.text)
    }

    /// Whether it is `SET` or `RESET`: it touches nothing but the settings of the statements after it.
    pub fn changes_settings(&self) -> bool {
        matches!(self.body, Body::Set(_) | Body::Reset(_))
    }
}

/// The statements Drumline knows. Names are as written: [`crate::planner`] gives them a schema.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Query(Box<Parsed>),
    Explain {
        analyze: bool,
        verbose: bool,
        query: Box<Parsed>,
    },
    Insert {
        table: ObjectName,
        columns: Vec<Ident>,
        source: Box<Query>,
    },
    CreateTable(Box<CreateTable>),
    CreateExternal(CreateExternal),
    CreateSchema {
        name: ObjectName,
        if_not_exists: bool,
    },
    CreateView(CreateView),
    Drop {
        object: DropObject,
        name: ObjectName,
        if_exists: bool,
    },
    /// `SET name = value` in any of its spellings.
    Set(Box<Parsed>),
    Reset(ObjectName),
    Show(Show),
}

/// `CREATE TABLE`, with or without `AS SELECT`.
#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    pub format: Option<Ident>,
    pub partition_by: Vec<Ident>,
    pub location: Option<(String, Option<Position>)>,
    pub source: Option<Box<Query>>,
}

/// `CREATE EXTERNAL TABLE … STORED AS PARQUET LOCATION …`: a folder that others fill.
#[derive(Debug, Clone)]
pub(crate) struct CreateExternal {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub location: (String, Option<Position>),
}

#[derive(Debug, Clone)]
pub(crate) struct CreateView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// The query's text as it was written, or wrapped where the view names its columns.
    pub sql: String,
    pub query: Box<Query>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropObject {
    Table,
    View,
    Schema,
}

#[derive(Debug, Clone)]
pub(crate) enum Show {
    Tables { schema: Option<ObjectName> },
    Columns { table: ObjectName },
    Schemas,
    Settings { prefix: Option<String> },
}
