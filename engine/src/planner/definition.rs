//! What changes the catalog: [`Definition`], and the statements that need no query to be planned.

use super::constraints::Demands;
use super::{CreateTable, Planner, TableRef};
use crate::Result;
use crate::sql::{Alter, Body, CommentOn, ObjectType};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectNamePart};
use drumline_lake::{External, ObjectKind};
use std::collections::BTreeMap;
use url::Url;

/// A change to the catalog.
// A statement is one of them.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Definition {
    /// `CREATE SCHEMA`.
    CreateSchema {
        /// Its name.
        schema: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
    },
    /// `CREATE TABLE` with columns and no rows.
    CreateTable {
        /// Its name.
        table: TableRef,
        /// Its columns, partition columns included.
        schema: SchemaRef,
        /// The rest.
        create: CreateTable,
    },
    /// `CREATE TABLE … LOCATION` and nothing else: the Delta table that lies there is written by Drumline too.
    AdoptTable {
        /// Its name.
        table: TableRef,
        /// `LOCATION`, as written.
        location: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `TBLPROPERTIES`.
        properties: BTreeMap<String, String>,
    },
    /// `CREATE VIEW`. Its query has been planned once, so it fits the tables of now.
    CreateView {
        /// Its name.
        view: TableRef,
        /// The query.
        sql: String,
        /// `OR REPLACE`.
        or_replace: bool,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `TBLPROPERTIES`.
        properties: BTreeMap<String, String>,
    },
    /// `CREATE EXTERNAL TABLE`: a folder that others fill.
    CreateExternal {
        /// Its name.
        table: TableRef,
        /// The folder.
        location: Url,
        /// How its files are read.
        external: External,
        /// `OR REPLACE`.
        or_replace: bool,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `COMMENT`.
        comment: Option<String>,
        /// `COMMENT` of columns.
        column_comments: BTreeMap<String, String>,
        /// `TBLPROPERTIES`.
        properties: BTreeMap<String, String>,
    },
    /// `DROP TABLE` and `DROP VIEW`.
    Drop {
        /// What is meant; an external table is dropped as a table.
        kind: ObjectKind,
        /// All of them, in one step.
        names: Vec<TableRef>,
        /// `IF EXISTS`.
        if_exists: bool,
        /// Views that read them go with them.
        cascade: bool,
    },
    /// `DROP SCHEMA`.
    DropSchemas {
        /// All of them, in one step.
        schemas: Vec<String>,
        /// `IF EXISTS`.
        if_exists: bool,
        /// What they hold goes with them, and views elsewhere that read it.
        cascade: bool,
    },
    /// `ALTER TABLE|VIEW … RENAME TO …` and `… SWAP WITH …`.
    Names {
        /// A view where `ALTER VIEW` is written; any kind with `ALTER TABLE`.
        kind: ObjectKind,
        /// One after the other, in one step.
        changes: Vec<NameChange<TableRef>>,
        /// A name that is not there is passed over.
        if_exists: bool,
    },
    /// `ALTER SCHEMA … RENAME TO …` and `… SWAP WITH …`.
    SchemaNames {
        /// One after the other, in one step.
        changes: Vec<NameChange<String>>,
        /// A name that is not there is passed over.
        if_exists: bool,
    },
    /// `ALTER TABLE … ADD COLUMN`.
    AddColumns {
        /// The table.
        table: TableRef,
        /// The new columns.
        columns: SchemaRef,
        /// `COMMENT` of columns.
        column_comments: BTreeMap<String, String>,
        /// No table, nothing to do.
        if_exists: bool,
        /// Columns that are there are passed over.
        if_not_exists: bool,
    },
    /// `ALTER TABLE|VIEW … SET|UNSET TBLPROPERTIES`.
    SetProperties {
        /// A view where `ALTER VIEW` is written.
        kind: ObjectKind,
        /// Its name.
        name: TableRef,
        /// No such name, nothing to do.
        if_exists: bool,
        /// New values.
        set: BTreeMap<String, String>,
        /// Properties to be taken away.
        unset: Vec<String>,
        /// `UNSET … IF EXISTS`.
        unset_if_exists: bool,
    },
    /// `COMMENT ON TABLE|VIEW`.
    Comment {
        /// A view where `COMMENT ON VIEW` is written.
        kind: ObjectKind,
        /// Its name.
        name: TableRef,
        /// None takes it away.
        text: Option<String>,
        /// No such name, nothing to do.
        if_exists: bool,
    },
    /// `COMMENT ON COLUMN`. The column has been looked up.
    CommentOnColumn {
        /// The table or view.
        name: TableRef,
        /// The column.
        column: String,
        /// None takes it away.
        text: Option<String>,
    },
    /// `COMMENT ON SCHEMA`.
    CommentOnSchema {
        /// Its name.
        schema: String,
        /// None takes it away.
        text: Option<String>,
        /// No such schema, nothing to do.
        if_exists: bool,
    },
}

/// One name that becomes another, or two that change places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameChange<Name> {
    /// The name as it was.
    pub from: Name,
    /// The name it gets.
    pub to: Name,
    /// What had that name gets this one.
    pub swap: bool,
}

impl Definition {
    /// The schemas that it changes something in.
    pub fn schemas(&self) -> Vec<&str> {
        fn of(names: &[TableRef]) -> Vec<&str> {
            names.iter().map(|name| name.schema.as_str()).collect()
        }
        match self {
            Self::CreateSchema { schema, .. } | Self::CommentOnSchema { schema, .. } => {
                vec![schema]
            }
            Self::CreateTable { table, .. }
            | Self::AdoptTable { table, .. }
            | Self::CreateExternal { table, .. }
            | Self::AddColumns { table, .. } => vec![&table.schema],
            Self::CreateView { view, .. } => vec![&view.schema],
            Self::SetProperties { name, .. }
            | Self::Comment { name, .. }
            | Self::CommentOnColumn { name, .. } => vec![&name.schema],
            Self::Drop { names, .. } => of(names),
            Self::DropSchemas { schemas, .. } => schemas.iter().map(String::as_str).collect(),
            Self::Names { changes, .. } => changes
                .iter()
                .flat_map(|change| [change.from.schema.as_str(), change.to.schema.as_str()])
                .collect(),
            Self::SchemaNames { changes, .. } => changes
                .iter()
                .flat_map(|change| [change.from.as_str(), change.to.as_str()])
                .collect(),
        }
    }
}

fn kind(object: ObjectType) -> ObjectKind {
    match object {
        ObjectType::View => ObjectKind::View,
        ObjectType::Table | ObjectType::Schema => ObjectKind::Table,
    }
}

impl Planner<'_> {
    /// The definition that the statement is, where it names no query and no columns of one.
    pub(super) async fn definition(&self) -> Result<Definition> {
        match &self.statement.body {
            Body::CreateSchema {
                name,
                if_not_exists,
                comment,
            } => Ok(Definition::CreateSchema {
                schema: self.schema_name(name)?,
                if_not_exists: *if_not_exists,
                comment: comment.clone(),
            }),
            Body::Drop {
                object: ObjectType::Schema,
                names,
                if_exists,
                cascade,
            } => Ok(Definition::DropSchemas {
                schemas: self.each(names, |name| self.schema_name(name))?,
                if_exists: *if_exists,
                cascade: *cascade,
            }),
            Body::Drop {
                object,
                names,
                if_exists,
                cascade,
            } => Ok(Definition::Drop {
                kind: kind(*object),
                names: self.each(names, |name| self.name(name))?,
                if_exists: *if_exists,
                cascade: *cascade,
            }),
            Body::Alter(alter) => self.alter(alter).await,
            Body::Comment {
                on,
                name,
                text,
                if_exists,
            } => self.comment(*on, name, text.clone(), *if_exists).await,
            _ => Err(crate::Error::bug("a statement is no definition")),
        }
    }

    fn each<T>(
        &self,
        names: &[ObjectName],
        of: impl Fn(&ObjectName) -> Result<T>,
    ) -> Result<Vec<T>> {
        names.iter().map(of).collect()
    }

    async fn alter(&self, alter: &Alter) -> Result<Definition> {
        Ok(match alter {
            Alter::Names {
                object: ObjectType::Schema,
                changes,
                if_exists,
            } => Definition::SchemaNames {
                changes: changes
                    .iter()
                    .map(|change| {
                        Ok(NameChange {
                            from: self.schema_name(&change.from)?,
                            to: self.schema_name(&change.to)?,
                            swap: change.swap,
                        })
                    })
                    .collect::<Result<_>>()?,
                if_exists: *if_exists,
            },
            Alter::Names {
                object,
                changes,
                if_exists,
            } => Definition::Names {
                kind: kind(*object),
                changes: changes
                    .iter()
                    .map(|change| {
                        let from = self.name(&change.from)?;
                        let mut to = self.name(&change.to)?;
                        // A bare new name stays in the schema of the old one.
                        if change.to.0.len() == 1 {
                            to.schema.clone_from(&from.schema);
                        }
                        Ok(NameChange {
                            from,
                            to,
                            swap: change.swap,
                        })
                    })
                    .collect::<Result<_>>()?,
                if_exists: *if_exists,
            },
            Alter::AddColumns {
                table,
                columns,
                if_exists,
                if_not_exists,
            } => {
                let column_comments = super::create_table::column_comments(columns);
                let demands = Demands::of(columns, &[])?;
                if demands.properties().next().is_some() {
                    return Err(self.invalid("a new column takes no CHECK", None));
                }
                let Some(columns) = self.declared(columns).await? else {
                    return Err(self.invalid("ADD COLUMN takes a column", None));
                };
                let columns = demands.mark(&columns);
                self.check_columns(&columns)?;
                Definition::AddColumns {
                    table: self.name(table)?,
                    columns,
                    column_comments,
                    if_exists: *if_exists,
                    if_not_exists: *if_not_exists,
                }
            }
            Alter::Columns { .. } => {
                return Err(crate::Error::bug("a change of columns is no definition"));
            }
            Alter::Properties {
                object,
                name,
                if_exists,
                set,
                unset,
                unset_if_exists,
            } => Definition::SetProperties {
                kind: kind(*object),
                name: self.name(name)?,
                if_exists: *if_exists,
                set: set.iter().cloned().collect(),
                unset: unset.clone(),
                unset_if_exists: *unset_if_exists,
            },
        })
    }

    async fn comment(
        &self,
        on: CommentOn,
        name: &ObjectName,
        text: Option<String>,
        if_exists: bool,
    ) -> Result<Definition> {
        match on {
            CommentOn::Object(ObjectType::Schema) => Ok(Definition::CommentOnSchema {
                schema: self.schema_name(name)?,
                text,
                if_exists,
            }),
            CommentOn::Object(object) => Ok(Definition::Comment {
                kind: kind(object),
                name: self.name(name)?,
                text,
                if_exists,
            }),
            CommentOn::Column => {
                let mut table = name.clone();
                let column = table.0.pop();
                let column = match column.as_ref().and_then(ObjectNamePart::as_ident) {
                    Some(column) if !table.0.is_empty() => column.clone(),
                    _ => {
                        return Err(self.invalid(
                            format!("`{name}` is no column"),
                            Some("write table.column or schema.table.column"),
                        ));
                    }
                };
                let table = self.name(&table)?;
                let schema = self.schema_of(&table).await?;
                let column = schema.field(self.column(&column, &schema)?).name().clone();
                Ok(Definition::CommentOnColumn {
                    name: table,
                    column,
                    text,
                })
            }
        }
    }
}
