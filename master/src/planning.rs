//! Placeholder for the engine's planner, in the shape it will have; goes away when that is in.
#![allow(missing_docs, dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use drumline_engine::{Engine, Error, Query, Result};
use drumline_lake::{Format, StagedFile, WriteTarget};
use url::Url;

#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) ordinal: u32,
}
impl Statement {
    pub(crate) fn text_hash(&self) -> u64 {
        0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct TableRef {
    pub(crate) schema: String,
    pub(crate) name: String,
}
pub(crate) enum Resolved {
    Table(Arc<dyn TableProvider>),
    View(String),
}

#[async_trait::async_trait]
pub(crate) trait Tables: Send + Sync {
    async fn table(&self, table: &TableRef) -> Result<Option<Resolved>>;
    fn names(&self) -> Vec<(String, String)>;
}

pub(crate) enum Planned {
    Query(Query),
    Write(Write),
    Definition(Definition),
    Set { key: String, value: Option<String> },
}

pub(crate) struct CreateTable {
    pub(crate) format: Format,
    pub(crate) partition_by: Vec<String>,
    pub(crate) location: Option<String>,
    pub(crate) if_not_exists: bool,
}
pub(crate) enum WriteMode {
    Create(CreateTable),
    Append,
}
pub(crate) struct Write {
    pub(crate) table: TableRef,
    pub(crate) mode: WriteMode,
    pub(crate) input: Query,
}
impl Write {
    pub(crate) fn into_query(self, _target: WriteTarget) -> Result<Query> {
        Ok(self.input)
    }
}
pub(crate) enum Definition {
    CreateSchema { schema: String, if_not_exists: bool },
    DropSchema { schema: String, if_exists: bool },
    CreateTable { table: TableRef, schema: SchemaRef, create: CreateTable },
    CreateView { view: TableRef, sql: String, or_replace: bool, if_not_exists: bool },
    CreateExternal { table: TableRef, location: Url, if_not_exists: bool },
    DropTable { table: TableRef, if_exists: bool },
    DropView { view: TableRef, if_exists: bool },
}
pub(crate) fn staged_files(_rows: &[RecordBatch]) -> Result<Vec<StagedFile>> {
    Err(Error::bug("not built yet"))
}

#[async_trait::async_trait]
pub(crate) trait Planner {
    fn parse(&self, sql: &str) -> Result<Vec<Statement>>;
    async fn plan(&self, s: &Statement, t: Arc<dyn Tables>, settings: &BTreeMap<String, String>) -> Result<Planned>;
    async fn plan_logical(&self, b: &[u8], t: Arc<dyn Tables>, settings: &BTreeMap<String, String>) -> Result<Planned>;
}
#[async_trait::async_trait]
impl Planner for Engine {
    fn parse(&self, _: &str) -> Result<Vec<Statement>> {
        Err(Error::bug("not built yet"))
    }
    async fn plan(&self, _: &Statement, _: Arc<dyn Tables>, _: &BTreeMap<String, String>) -> Result<Planned> {
        Err(Error::bug("not built yet"))
    }
    async fn plan_logical(&self, _: &[u8], _: Arc<dyn Tables>, _: &BTreeMap<String, String>) -> Result<Planned> {
        Err(Error::bug("not built yet"))
    }
}
