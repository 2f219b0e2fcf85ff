//! From a statement to what the master does about it.
//!
//! Names are resolved through [`Tables`] only, one statement at a time, against what the host pinned for
//! it. Nothing runs here, and nothing of DataFusion's own that changes data is ever planned: a statement
//! is a query, a query under a `LakeWrite` node, or a definition that the
//! host carries out.
//!
//! Read next: [`Planned`], `planner/names.rs` (names to providers and views), `planner/write.rs` (`INSERT`),
//! `planner/create_table.rs`, `planner/changes.rs` (`DELETE`, `UPDATE`), `planner/merge.rs`, `planner/definition.rs`
//! (what changes the catalog), `planner/show.rs`, `planner/information.rs`.

mod bags;
mod changes;
mod constraints;
mod copy;
mod create;
mod create_table;
mod ddl_text;
mod definition;
mod draft;
mod explained;
mod external;
mod fresh;
mod held;
mod information;
mod literals;
mod membership;
mod merge;
mod names;
mod properties;
mod redefine;
mod rewrite;
mod show;
mod subqueries;
mod upkeep;
mod write;

use crate::sql::{self, Alter, Body, Names, Statement};
use crate::{Engine, Query, Result, functions, local_session};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, Statement as PlanStatement, lit};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{ObjectName, Query as Ast, Statement as AstStatement};
use drumline_lake::{AsOf, Format, Object, TableName, TableSnapshot, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use copy::Copy;
pub use definition::{Definition, NameChange};
pub use external::names_in;
pub use fresh::Fresh;
pub use held::Source;
pub(crate) use names::{Scope, session};
pub use rewrite::{Doubled, Rewrite};
pub(crate) use subqueries::as_meant;
pub use write::{Extend, Overwrite, Replaced};

/// Name of a table, view or external table.
pub type TableRef = TableName;

/// What a name stands for.
pub enum Resolved {
    /// Rows that can be scanned, as of the snapshot that the host pinned.
    Table(Arc<dyn TableProvider>),
    /// What others fill, never written.
    External(Box<Foreign>),
    /// A view's SQL.
    View(String),
}

/// An external table.
pub struct Foreign {
    /// What the catalog says of it.
    pub object: Object,
    /// Its rows, where a log tells them. None: a folder, listed anew for each statement.
    pub provider: Option<Arc<dyn TableProvider>>,
}

/// The schema of what the host knows of itself. `SHOW TABLES` lists it where it is asked for by name.
pub const SYSTEM_SCHEMA: &str = "system";

/// The schema whose tables are topics of Kafka. Listed where it is asked for by name, too.
pub const TOPICS_SCHEMA: &str = "kafka";

/// The kind of its tables, in one word.
const TOPIC: &str = "topic";

/// The names a statement may use, as of one moment: the host pins them for each statement.
#[async_trait]
pub trait Tables: Send + Sync {
    /// What a name stands for; `None` if nothing has it.
    async fn table(&self, table: &TableRef) -> Result<Option<Resolved>>;

    /// The same as of an earlier version. `None` if nothing has the name; an error if what has it is no table
    /// or has no such version.
    async fn table_at(&self, table: &TableRef, at: AsOf) -> Result<Option<Resolved>>;

    /// A table that a stream writes, with what the stream has not written yet. `None` if nothing has the name; an
    /// error, which says why, if what has it is no such table.
    async fn fresh(&self, table: &TableRef) -> Result<Option<Fresh>> {
        Err(sql::Error::Invalid {
            reason: format!("{table} has no stream here"),
            position: None,
            hint: None,
        }
        .into())
    }

    /// What the catalog says of a name.
    fn object(&self, table: &TableRef) -> Option<Object>;

    /// What people say of a schema.
    fn schema_comment(&self, schema: &str) -> Option<String>;

    /// The pinned snapshot of a table, or of an external table with a log; `None` for all else.
    async fn snapshot(&self, table: &TableRef) -> Result<Option<TableSnapshot>>;

    /// The newest versions of a table, the newest first; `None` if it keeps none.
    async fn history(&self, table: &TableRef, limit: usize) -> Result<Option<Vec<Version>>>;

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
// A statement is one of them.
#[allow(clippy::large_enum_variant)]
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
    /// Throw away files that nobody needs.
    Vacuum(Vacuum),
    /// Change the session; no value: back to the default. The setting has been checked.
    Set {
        /// Full name, such as `datafusion.execution.batch_size`.
        key: String,
        /// As text.
        value: Option<String>,
    },
}

/// A `VACUUM`, whose retention has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuum {
    /// The table; none for what writers left in the lake's staging folder.
    pub table: Option<TableRef>,
    /// What is younger stays.
    pub keep: Duration,
    /// Only look.
    pub dry_run: bool,
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
        if let WriteMode::Extend(extend) = &self.mode {
            target.schema_json.clone_from(&extend.columns);
        }
        if let WriteMode::Rewrite(rewrite) = &self.mode {
            rewrite.shape(&mut target);
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
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `COMMENT` of columns.
    pub column_comments: BTreeMap<String, String>,
    /// `TBLPROPERTIES`, and those that keep CHECK constraints.
    pub properties: BTreeMap<String, String>,
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
        let mut planning = settings.clone();
        if literals::has_long_decimals(&statement.body) {
            let setting = planning.entry(literals::AS_DECIMAL.to_owned());
            setting.or_insert_with(|| "true".to_owned());
        }
        let base = local_session(self.runtime(), &planning)?;
        for function in functions::at(chrono::Utc::now()) {
            base.register_udf(function);
        }
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
            Body::ExplainWrite(body) => self.explain_write(body).await,
            Body::Transaction(word) => Ok(Planned::Query(self.query(transaction(word)?))),
            Body::Insert(insert) => self.insert(insert).await,
            Body::Delete(delete) => self.delete(delete).await,
            Body::Update(update) => self.update(update).await,
            Body::Merge(merge) => self.merge(merge).await,
            Body::Optimize(optimize) => self.optimize(optimize).await,
            Body::Vacuum(vacuum) => self.vacuum(vacuum),
            Body::Copy(copy) => self.copy(copy).await,
            Body::CreateTable(create) => self.create_table(create).await,
            Body::CreateExternal(create) => self.create_external(create).await,
            Body::CreateView(create) => self.create_view(create).await,
            Body::Alter(Alter::Columns {
                table,
                if_exists,
                change,
            }) => self.redefine(table, *if_exists, change).await,
            Body::Alter(alter @ Alter::Properties { .. }) => {
                match self.own_properties(alter).await? {
                    Some(planned) => Ok(planned),
                    None => Ok(Planned::Definition(self.definition().await?)),
                }
            }
            Body::CreateSchema { .. }
            | Body::Drop { .. }
            | Body::Alter(_)
            | Body::Comment { .. } => Ok(Planned::Definition(self.definition().await?)),
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
        as_meant(planned.map_err(|error| self.explain(error))?)
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

/// The answer to `BEGIN` and `COMMIT`: what they do here.
fn transaction(word: &str) -> Result<LogicalPlan> {
    let notice = format!("{word} does nothing: every statement is committed by itself");
    Ok(LogicalPlanBuilder::empty(true)
        .project([lit(notice).alias("notice")])?
        .build()?)
}

fn explained(plan: LogicalPlan, analyze: bool, verbose: bool) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::from(plan)
        .explain(verbose, analyze)?
        .build()?)
}
