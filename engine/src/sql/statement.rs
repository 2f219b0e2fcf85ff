//! What a statement can be.

use super::{Position, tokens};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, DataType, Expr, Ident, ObjectName, Query, TableConstraint, TableFactor,
    TableWithJoins,
};
use std::time::Duration;

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
    /// `EXPLAIN` of a statement that writes.
    ExplainWrite(Box<Body>),
    /// `BEGIN`, `COMMIT` and their like, by their word.
    Transaction(&'static str),
    Insert(Box<Insert>),
    Delete(Box<Delete>),
    Update(Box<Update>),
    Merge(Box<Merge>),
    Copy(Box<Copy>),
    Optimize(Box<Optimize>),
    Vacuum(Vacuum),
    CreateTable(Box<CreateTable>),
    CreateExternal(Box<CreateExternal>),
    CreateSchema {
        name: ObjectName,
        if_not_exists: bool,
        comment: Option<String>,
    },
    CreateView(CreateView),
    Drop {
        object: ObjectType,
        names: Vec<ObjectName>,
        if_exists: bool,
        cascade: bool,
    },
    Alter(Alter),
    Comment {
        on: CommentOn,
        name: ObjectName,
        /// None takes it away.
        text: Option<String>,
        if_exists: bool,
    },
    /// `SET name = value` in any of its spellings.
    Set(Box<Parsed>),
    Reset(ObjectName),
    Show(Show),
}

/// `INSERT INTO` and `INSERT OVERWRITE`.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub table: ObjectName,
    pub columns: Vec<Ident>,
    pub source: Box<Query>,
    pub overwrite: bool,
    /// `PARTITION (a = 1, b)`: columns, some with the value that all rows have.
    pub partition: Vec<(Ident, Option<Expr>)>,
}

/// `DELETE FROM … [USING …] [WHERE …]`.
#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub table: ObjectName,
    pub alias: Option<Ident>,
    pub using: Vec<TableWithJoins>,
    pub condition: Option<Expr>,
}

/// `UPDATE … SET … [FROM …] [WHERE …]`.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub table: ObjectName,
    pub alias: Option<Ident>,
    pub set: Vec<Set>,
    pub from: Vec<TableWithJoins>,
    pub condition: Option<Expr>,
}

/// One assignment.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub column: Ident,
    pub value: Expr,
}

/// `MERGE INTO … USING … ON … WHEN …`.
#[derive(Debug, Clone)]
pub(crate) struct Merge {
    pub table: ObjectName,
    pub alias: Option<Ident>,
    pub source: TableFactor,
    pub on: Expr,
    /// Of those of one kind, the first whose condition holds is carried out.
    pub clauses: Vec<MergeClause>,
}

#[derive(Debug, Clone)]
pub(crate) struct MergeClause {
    pub when: MergeWhen,
    pub condition: Option<Expr>,
    pub action: MergeAction,
    pub position: Option<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeWhen {
    Matched,
    /// A row of the source that matches none of the target.
    NotMatched,
    /// A row of the target that matches none of the source.
    NotMatchedBySource,
}

#[derive(Debug, Clone)]
pub(crate) enum MergeAction {
    Update(Vec<Set>),
    /// Every column becomes the source's of the same name.
    UpdateAll,
    Delete,
    Insert {
        columns: Vec<Ident>,
        values: Vec<Expr>,
    },
    /// Every column is the source's of the same name.
    InsertAll,
}

/// `COPY … TO … STORED AS …`.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub source: Box<Parsed>,
    pub location: String,
    pub stored_as: Option<String>,
    pub partition_by: Vec<String>,
    /// Names in small letters, values as text.
    pub options: Vec<(String, String)>,
}

/// `OPTIMIZE … [WHERE …] [SORT BY … | ZORDER BY …]`.
#[derive(Debug, Clone)]
pub(crate) struct Optimize {
    pub table: ObjectName,
    /// Chooses partitions.
    pub condition: Option<Expr>,
    pub sort_by: Vec<Ident>,
    /// `ZORDER BY`: by all of these columns alike.
    pub interleaved: bool,
}

/// `VACUUM [t] [RETAIN …] [DRY RUN]`.
#[derive(Debug, Clone)]
pub(crate) struct Vacuum {
    /// None: what no table names.
    pub table: Option<ObjectName>,
    pub keep: Option<Duration>,
    pub dry_run: bool,
}

/// `CREATE TABLE`, with or without `AS SELECT`.
#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    /// Those that stand between the columns.
    pub constraints: Vec<TableConstraint>,
    pub format: Option<Ident>,
    pub partition_by: Vec<Ident>,
    pub location: Option<(String, Option<Position>)>,
    pub comment: Option<String>,
    pub properties: Vec<(String, String)>,
    pub source: Option<Box<Query>>,
}

/// `CREATE EXTERNAL TABLE … STORED AS … LOCATION …`: a folder that others fill.
#[derive(Debug, Clone)]
pub(crate) struct CreateExternal {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// Columns in files, and partition columns too if they are among them.
    pub columns: Vec<ColumnDef>,
    pub format: Ident,
    /// Each with its type, where one is written.
    pub partition_by: Vec<(Ident, Option<DataType>)>,
    pub location: (String, Option<Position>),
    pub options: Vec<(String, String)>,
    pub comment: Option<String>,
    pub properties: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// The query's text as it was written, or wrapped where the view names its columns.
    pub sql: String,
    pub query: Box<Query>,
    pub comment: Option<String>,
    pub properties: Vec<(String, String)>,
}

/// The word behind `DROP`, `ALTER` and `COMMENT ON`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectType {
    Table,
    View,
    Schema,
}

#[derive(Debug, Clone)]
pub(crate) enum Alter {
    /// Names that change, one after the other, in one step.
    Names {
        object: ObjectType,
        changes: Vec<NameChange>,
        if_exists: bool,
    },
    AddColumns {
        table: ObjectName,
        columns: Vec<ColumnDef>,
        if_exists: bool,
        if_not_exists: bool,
    },
    /// What columns are, or what rows must keep.
    Columns {
        table: ObjectName,
        if_exists: bool,
        change: ColumnChange,
    },
    Properties {
        object: ObjectType,
        name: ObjectName,
        if_exists: bool,
        set: Vec<(String, String)>,
        unset: Vec<String>,
        unset_if_exists: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum ColumnChange {
    Drop {
        columns: Vec<Ident>,
        if_exists: bool,
    },
    Rename {
        from: Ident,
        to: Ident,
    },
    NotNull {
        column: Ident,
        demanded: bool,
    },
    /// The column with the type it gets.
    Type {
        column: Box<ColumnDef>,
    },
    AddCheck {
        name: Ident,
        condition: Box<Expr>,
    },
    DropCheck {
        name: Ident,
        if_exists: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct NameChange {
    pub from: ObjectName,
    pub to: ObjectName,
    /// The two change places; else the first gets the second's name.
    pub swap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommentOn {
    Object(ObjectType),
    Column,
}

#[derive(Debug, Clone)]
pub(crate) enum Show {
    Tables {
        schema: Option<ObjectName>,
        like: Option<String>,
        views_only: bool,
    },
    Columns {
        table: ObjectName,
        like: Option<String>,
    },
    /// Columns and everything else that is known.
    Details {
        table: ObjectName,
    },
    /// The statement that would make it again.
    Create {
        table: ObjectName,
    },
    Properties {
        table: ObjectName,
        /// None: all.
        only: Vec<String>,
    },
    /// Its versions, the newest first.
    History {
        table: ObjectName,
        limit: Option<u64>,
    },
    Schemas {
        like: Option<String>,
    },
    Schema {
        schema: ObjectName,
    },
    Settings {
        prefix: Option<String>,
    },
}
