//! From a statement to what the master does about it.
//!
//! Names are resolved through [`Tables`] only, one statement at a time, against what the host pinned for
//! it. Nothing runs here, and nothing of DataFusion's own that changes data is ever planned: a statement
//! is a query, a query under a `LakeWrite` node, or a definition that the
//! host carries out.
//!
//! Read next: [`Planned`], `planner/names.rs` (names to providers and views), `planner/write.rs`,
//! `planner/rewrite.rs` (`DELETE`, `UPDATE`), `planner/merge.rs`, `planner/show.rs`.

mod constraints;
mod copy;
mod draft;
mod external;
mod membership;
mod merge;
mod names;
mod rewrite;
mod show;
mod write;

use crate::sql::{self, Body, DropObject, Names, Statement};
use crate::{Engine, Query, Result, local_session};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, Statement as PlanStatement};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{ObjectName, Query as Ast, Statement as AstStatement};
use drumline_lake::{Format, TableName};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

pub use copy::Copy;
pub(crate) use membership::with_nulls;
pub(crate) use names::{Scope, session};
pub use rewrite::{Doubled, Rewrite};
pub use write::{Extend, Overwrite, Replaced};

/// Name of a table, view or external table.
pub type TableRef = TableName;

/// What a name stands for.
pub enum Resolved {
    /// Rows that can be scanned, as of the snapshot that the host pinned.
    Table(Arc<dyn TableProvider>),
    /// A folder of Parquet files that others fill: listed anew for each statement, never written.
    External(Url),
    /// A view's SQL.
    View(String),
}

/// The schema of what the host knows of itself. `SHOW TABLES` lists it where it is asked for by name.
pub const SYSTEM_SCHEMA: &str = "system";

/// The names a statement may use, as of one moment: the host pins them for each statement.
#[async_trait]
pub trait Tables: Send + Sync {
    /// What a name stands for; `None` if nothing has it.
    async fn table(&self, table: &TableRef) -> Result<Option<Resolved>>;

    /// Every name, with the kind of what it stands for in one word.
    fn objects(&self) -> Vec<(TableName, &'static str)>;

    /// Every name: schema and name.
    fn names(&self) -> Vec<(String, String)> {
        let parts = |(name, _): (TableName, &str)| (name.schema, name.name);
        self.objects().into_iter().map(parts).collect()
    }

    /// Every schema, those without tables too.
    fn schemas(&self) -> Vec<String> {
        let mut schemas: Vec<String> = self.names().into_iter().map(|(schema, _)| schema).collect();
        schemas.push(drumline_lake::DEFAULT_SCHEMA.to_owned());
        schemas.sort();
        schemas.dedup();
        schemas
    }
}

/// What to do about a statement.
#[derive(Debug, Clone)]
pub enum Planned {
    /// Run it and hand its rows to the client.
    Query(Query),
    /// Run it towards a write target, then commit the files it staged.
    Write(Write),
    /// Run it towards a folder, then publish the files it staged.
    Copy(Copy),
    /// Change the catalog.
    Definition(Definition),
    /// Change the session; no value: back to the default. The setting has been checked.
    Set {
        /// Full name, such as `datafusion.execution.batch_size`.
        key: String,
        /// As text.
        value: Option<String>,
    },
}

/// A query whose rows go to a table.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table.
    pub table: TableRef,
    /// Whether it is made by this statement.
    pub mode: WriteMode,
    /// The rows; columns are named as the table's.
    pub input: Query,
}

impl Write {
    /// The query that stages the rows as files of a target; its own rows are those files, which
    /// [`crate::staged_files`] reads. Each attempt has a target of its own.
    pub fn into_query(self, mut target: drumline_lake::WriteTarget) -> Result<Query> {
        if let WriteMode::Extend(extend) = self.mode {
            target.schema_json = extend.columns;
        }
        let plan = crate::lake_write::LakeWrite::plan(self.input.plan, target)?;
        Ok(Query {
            plan,
            settings: self.input.settings,
        })
    }
}

/// Where a write's table comes from.
#[derive(Debug, Clone)]
pub enum WriteMode {
    /// `CREATE TABLE … AS`: the table appears with its rows. Its schema is that of the input.
    Create(CreateTable),
    /// `INSERT INTO`.
    Append,
    /// `INSERT INTO` with columns that the table has not had.
    Extend(Box<Extend>),
    /// `INSERT OVERWRITE`.
    Overwrite(Box<Overwrite>),
    /// `DELETE`, `UPDATE`, `MERGE INTO` and `TRUNCATE`.
    Rewrite(Box<Rewrite>),
}

/// How a table is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// `STORED AS`; Delta where nothing is said.
    pub format: Format,
    /// `PARTITIONED BY`: columns of the table.
    pub partition_by: Vec<String>,
    /// `LOCATION`, as written.
    pub location: Option<String>,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Free properties, and those that keep CHECK constraints.
    pub properties: BTreeMap<String, String>,
}

/// A change to the catalog.
#[derive(Debug, Clone)]
pub enum Definition {
    /// `CREATE SCHEMA`.
    CreateSchema {
        /// Its name.
        schema: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
    },
    /// `DROP SCHEMA`.
    DropSchema {
        /// Its name.
        schema: String,
        /// `IF EXISTS`.
        if_exists: bool,
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
    },
    /// `CREATE EXTERNAL TABLE`: a folder of Parquet files that others fill.
    CreateExternal {
        /// Its name.
        table: TableRef,
        /// The folder.
        location: Url,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
    },
    /// `DROP TABLE`.
    DropTable {
        /// Its name.
        table: TableRef,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `DROP VIEW`.
    DropView {
        /// Its name.
        view: TableRef,
        /// `IF EXISTS`.
        if_exists: bool,
    },
}

impl Engine {
    /// Splits and parses a text. The first mistake anywhere in it refuses all of it.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        Ok(sql::parse(sql)?)
    }

    /// Plans one statement against the names of now.
    pub async fn plan(
        &self,
        statement: &Statement,
        tables: Arc<dyn Tables>,
        settings: &BTreeMap<String, String>,
    ) -> Result<Planned> {
        let base = local_session(self.runtime(), settings)?;
        Planner {
            statement,
            base,
            tables,
            settings,
        }
        .plan()
        .await
    }

    /// Plans a client's logical plan, whose scans name tables (see [`crate::rebind`]).
    pub async fn plan_logical(
        &self,
        plan: &[u8],
        tables: Arc<dyn Tables>,
        settings: &BTreeMap<String, String>,
    ) -> Result<Planned> {
        let base = local_session(self.runtime(), settings)?;
        let plan = crate::rebind::rebind(plan, &base, tables).await?;
        Ok(Planned::Query(Query {
            plan,
            settings: settings.clone(),
        }))
    }
}

/// One statement being planned.
struct Planner<'a> {
    statement: &'a Statement,
    /// A session without tables.
    base: SessionContext,
    tables: Arc<dyn Tables>,
    settings: &'a BTreeMap<String, String>,
}

impl Planner<'_> {
    async fn plan(&self) -> Result<Planned> {
        match &self.statement.body {
            Body::Query(parsed) => Ok(Planned::Query(self.query(self.logical(parsed).await?))),
            Body::Explain {
                analyze,
                verbose,
                query,
            } => {
                let plan = self.logical(query).await?;
                Ok(Planned::Query(
                    self.query(explained(plan, *analyze, *verbose)?),
                ))
            }
            Body::Insert(insert) => self.insert(insert).await,
            Body::Delete(delete) => self.delete(delete).await,
            Body::Update(update) => self.update(update).await,
            Body::Merge(merge) => self.merge(merge).await,
            Body::Copy(copy) => self.copy(copy).await,
            Body::CreateTable(create) => self.create_table(create).await,
            Body::CreateExternal(create) => self.create_external(create),
            Body::CreateSchema {
                name,
                if_not_exists,
            } => Ok(Planned::Definition(Definition::CreateSchema {
                schema: self.schema_name(name)?,
                if_not_exists: *if_not_exists,
            })),
            Body::CreateView(create) => {
                let view = self.name(&create.name)?;
                self.logical(&query_statement(&create.query)).await?;
                Ok(Planned::Definition(Definition::CreateView {
                    view,
                    sql: create.sql.clone(),
                    or_replace: create.or_replace,
                    if_not_exists: create.if_not_exists,
                }))
            }
            Body::Drop {
                object,
                name,
                if_exists,
            } => self.drop_object(*object, name, *if_exists),
            Body::Set(parsed) => self.set(parsed).await,
            Body::Reset(name) => {
                let key = name.to_string().to_lowercase();
                self.known_setting(&key)?;
                Ok(Planned::Set { key, value: None })
            }
            Body::Show(show) => Ok(Planned::Query(self.query(self.show(show).await?))),
        }
    }

    fn query(&self, plan: LogicalPlan) -> Query {
        Query {
            plan,
            settings: self.settings.clone(),
        }
    }

    /// A query's plan, over the tables of now.
    async fn logical(&self, parsed: &Parsed) -> Result<LogicalPlan> {
        let session = session(&self.base, Scope::new(Arc::clone(&self.tables)));
        let planned = session.state().statement_to_plan(parsed.clone()).await;
        with_nulls(planned.map_err(|error| self.explain(error))?)
    }

    /// Words a planner's error, with its place and candidates.
    fn explain(&self, error: DataFusionError) -> crate::Error {
        if names::is_own(&error) {
            return error.into();
        }
        let tables: Vec<String> = self
            .tables
            .names()
            .into_iter()
            .map(|(schema, name)| TableName::new(schema, name).to_string())
            .collect();
        let state = self.base.state();
        let functions: Vec<String> = state
            .udfs()
            .into_iter()
            .chain(state.udafs())
            .chain(state.udwfs())
            .collect();
        let names = Names {
            tables: &tables,
            functions: &functions,
        };
        sql::explain(
            &error,
            &self.statement.text,
            self.statement.position,
            &names,
        )
        .into()
    }

    fn invalid(&self, reason: impl Into<String>, hint: Option<&str>) -> crate::Error {
        sql::Error::Invalid {
            reason: reason.into(),
            position: Some(self.statement.position),
            hint: hint.map(str::to_owned),
        }
        .into()
    }

    fn drop_object(
        &self,
        object: DropObject,
        name: &ObjectName,
        if_exists: bool,
    ) -> Result<Planned> {
        Ok(Planned::Definition(match object {
            DropObject::Table => Definition::DropTable {
                table: self.name(name)?,
                if_exists,
            },
            DropObject::View => Definition::DropView {
                view: self.name(name)?,
                if_exists,
            },
            DropObject::Schema => Definition::DropSchema {
                schema: self.schema_name(name)?,
                if_exists,
            },
        }))
    }

    async fn set(&self, parsed: &Parsed) -> Result<Planned> {
        let plan = self.logical(parsed).await?;
        let LogicalPlan::Statement(PlanStatement::SetVariable(set)) = plan else {
            return Err(self.invalid("SET takes one name and one value", None));
        };
        self.known_setting(&set.variable)?;
        let mut settings = self.settings.clone();
        settings.insert(set.variable.clone(), set.value.clone());
        local_session(&self.base.runtime_env(), &settings)?;
        Ok(Planned::Set {
            key: set.variable,
            value: Some(set.value),
        })
    }

    /// A table's name as the lake has it: unquoted parts in small letters, the default schema filled in.
    fn name(&self, name: &ObjectName) -> Result<TableName> {
        let parts = self.parts(name)?;
        let name = match parts.as_slice() {
            [name] => TableName::bare(name),
            [schema, name] => TableName::new(schema, name),
            [catalog, schema, name] if catalog == names::CATALOG => TableName::new(schema, name),
            _ => {
                return Err(self.invalid(
                    format!("`{name}` is no table name"),
                    Some("write schema.name"),
                ));
            }
        };
        name.check()?;
        Ok(name)
    }

    fn schema_name(&self, name: &ObjectName) -> Result<String> {
        match self.parts(name)?.as_slice() {
            [schema] => Ok(schema.clone()),
            [catalog, schema] if catalog == names::CATALOG => Ok(schema.clone()),
            _ => Err(self.invalid(format!("`{name}` is no schema name"), None)),
        }
    }

    fn parts(&self, name: &ObjectName) -> Result<Vec<String>> {
        let part = |part: &datafusion::sql::sqlparser::ast::ObjectNamePart| match part.as_ident() {
            Some(ident) => Ok(names::folded(ident)),
            None => Err(self.invalid(format!("`{name}` is no name"), None)),
        };
        name.0.iter().map(part).collect()
    }
}

/// A parsed query as the statement it is.
fn query_statement(query: &Ast) -> Parsed {
    Parsed::Statement(Box::new(AstStatement::Query(Box::new(query.clone()))))
}

fn explained(plan: LogicalPlan, analyze: bool, verbose: bool) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::from(plan)
        .explain(verbose, analyze)?
        .build()?)
}
