//! A real lake in a folder, and statements run against it as a master would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use datafusion::arrow::array::RecordBatch;
use drumline_engine::{
    Copy, Definition, Engine, Error, Foreign, Options, Planned, Query, Resolved, Result, TableRef,
    Tables, WorkerTarget, Write, WriteMode, route, staged_counts, staged_files,
};
use drumline_lake::{
    AsOf, Catalog, CatalogSnapshot, Change, Commit, Committed, Copying, Lake, Locations, MadeBy,
    NewCopy, NewTable, Object, ObjectKind, PreparedCopy, StagedFile, StatementId, Stores, Table,
    TableChange, TableName, TableSnapshot, Version, WriteTarget,
};
use futures::TryStreamExt;

use crate::cluster::{PATIENCE, Settings, lines};

pub struct Home {
    pub engine: Engine,
    pub catalog: Catalog,
    pub settings: Settings,
    pub workers: Vec<WorkerTarget>,
    statements: AtomicU32,
    pub folder: tempfile::TempDir,
}

/// What a statement did.
pub enum Done {
    Rows(Vec<String>),
    Wrote(Committed),
    Nothing,
}

struct Pinned {
    lake: Lake,
    catalog: Arc<CatalogSnapshot>,
}

#[async_trait::async_trait]
impl Tables for Pinned {
    async fn table(&self, name: &TableRef) -> Result<Option<Resolved>> {
        let Some(object) = self.catalog.get(name) else {
            return Ok(None);
        };
        match object.kind {
            ObjectKind::View => return Ok(object.view_sql.clone().map(Resolved::View)),
            ObjectKind::External => {
                let provider = match self.snapshot(name).await? {
                    Some(snapshot) => Some(snapshot.provider()?),
                    None => None,
                };
                let object = object.clone();
                return Ok(Some(Resolved::External(Box::new(Foreign {
                    object,
                    provider,
                }))));
            }
            ObjectKind::Table => {}
        }
        let table = Table::open(&self.lake, name, object).await?;
        Ok(Some(Resolved::Table(table.snapshot().await?.provider()?)))
    }

    async fn table_at(&self, name: &TableRef, at: AsOf) -> Result<Option<Resolved>> {
        let Some(object) = self.catalog.get(name) else {
            return Ok(None);
        };
        let table = Table::open(&self.lake, name, object).await?;
        let snapshot = table.snapshot_at(at).await?;
        Ok(Some(Resolved::Table(snapshot.provider()?)))
    }

    fn object(&self, name: &TableRef) -> Option<Object> {
        self.catalog.get(name).cloned()
    }

    fn schema_comment(&self, schema: &str) -> Option<String> {
        self.catalog.schema_comment(schema).map(str::to_owned)
    }

    async fn snapshot(&self, name: &TableRef) -> Result<Option<TableSnapshot>> {
        match self.catalog.get(name) {
            Some(object) if object.kind == ObjectKind::Table || object.is_foreign_delta() => {
                let table = Table::open(&self.lake, name, object).await?;
                Ok(Some(table.snapshot().await?))
            }
            _ => Ok(None),
        }
    }

    async fn history(&self, name: &TableRef, limit: usize) -> Result<Option<Vec<Version>>> {
        let Some(object) = self.catalog.get(name) else {
            return Ok(None);
        };
        let table = Table::open(&self.lake, name, object).await?;
        Ok(Some(table.history(limit).await?))
    }

    fn objects(&self) -> Vec<(TableName, &'static str)> {
        let kind = |(name, object): (TableName, &Object)| (name, object.kind.word());
        self.catalog.objects().map(kind).collect()
    }
}

impl Home {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::from_env();
        let root = folder.path().join("lake");
        let lake = Lake::open(root.to_str().unwrap(), stores.clone())
            .await
            .unwrap();
        Self {
            engine: Engine::new(Options::new(stores, folder.path().join("work"))).unwrap(),
            catalog: Catalog::open(lake).await.unwrap(),
            settings: Settings::new(),
            workers: Vec::new(),
            statements: AtomicU32::new(0),
            folder,
        }
    }

    pub async fn tables(&self) -> Arc<dyn Tables> {
        let catalog = self.catalog.refresh().await.unwrap();
        Arc::new(Pinned {
            lake: self.catalog.lake().clone(),
            catalog,
        })
    }

    pub async fn plan(&self, sql: &str) -> Result<Planned> {
        let statement = self.engine.parse(sql)?.remove(0);
        self.engine
            .plan(&statement, self.tables().await, &self.settings)
            .await
    }

    /// Runs every statement; answers with what the last one did.
    pub async fn run(&self, sql: &str) -> Result<Done> {
        let mut done = Done::Nothing;
        for statement in self.engine.parse(sql)? {
            let planned = self
                .engine
                .plan(&statement, self.tables().await, &self.settings)
                .await?;
            let ordinal = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
            let id = StatementId {
                application: "test".to_owned(),
                ordinal,
                text_hash: statement.text_hash(),
            };
            done = match planned {
                Planned::Query(query) => {
                    Done::Rows(self.collect(&query).await?.iter().flat_map(lines).collect())
                }
                Planned::Write(write) => Done::Wrote(self.write(write, id).await?),
                Planned::Definition(definition) => {
                    self.define(definition, id).await?;
                    Done::Nothing
                }
                Planned::Copy(copy) => Done::Wrote(self.copy(copy, id).await?),
                Planned::Set { .. } => Done::Nothing,
                Planned::Vacuum(_) => Done::Nothing,
            };
        }
        Ok(done)
    }

    pub async fn rows(&self, sql: &str) -> Vec<String> {
        match self.run(sql).await {
            Ok(Done::Rows(rows)) => rows,
            Ok(_) => panic!("{sql} is no query"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    pub async fn wrote(&self, sql: &str) -> Committed {
        match self.run(sql).await {
            Ok(Done::Wrote(committed)) => committed,
            Ok(_) => panic!("{sql} writes nothing"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// The error that refuses a text, as a person sees it.
    pub async fn refused(&self, sql: &str) -> String {
        let error = match self.run(sql).await {
            Ok(_) => panic!("{sql} is not refused"),
            Err(error) => error,
        };
        let place = error
            .position()
            .map_or("nowhere".to_owned(), |place| place.to_string());
        let hint = error
            .hint()
            .map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{place}: {error}{hint}")
    }

    pub async fn collect(&self, query: &Query) -> Result<Vec<RecordBatch>> {
        let job = self
            .engine
            .start(query, self.workers.clone(), route::spread(0))
            .await?;
        let rows = tokio::time::timeout(PATIENCE, job.stream.try_collect())
            .await
            .expect("the job hangs");
        rows.map_err(Error::from)
    }

    async fn write(&self, write: Write, id: StatementId) -> Result<Committed> {
        let attempt = format!("attempt-{}", id.ordinal);
        let commit = |files| Commit::append(MadeBy::Statement(id.clone()), files);
        match &write.mode {
            WriteMode::Append
            | WriteMode::Extend(_)
            | WriteMode::Overwrite(_)
            | WriteMode::Rewrite(_) => {
                let object = self.catalog.current().get(&write.table).cloned().unwrap();
                let table = Table::open(self.catalog.lake(), &write.table, &object).await?;
                let target = table.write_target(&attempt).await?;
                let staged = self.staged(write, target).await?;
                Ok(table
                    .commit(Commit {
                        change: staged.1,
                        ..commit(staged.0)
                    })
                    .await?)
            }
            WriteMode::Create(create) => {
                let new = NewTable {
                    name: write.table.clone(),
                    format: create.format,
                    location: create.location.clone(),
                    schema: write.input.schema(),
                    partition_columns: create.partition_by.clone(),
                    properties: create.properties.clone(),
                    comment: None,
                    column_comments: Default::default(),
                    or_replace: create.or_replace,
                    created_by: Some(id.clone()),
                };
                let prepared = Table::prepare(&self.catalog, new).await?;
                let target = prepared.write_target(&attempt)?;
                let rows = self.collect(&write.into_query(target)?).await?;
                Ok(prepared.create(commit(staged_files(&rows)?)).await?.1)
            }
        }
    }

    async fn copy(&self, copy: Copy, statement: StatementId) -> Result<Committed> {
        let attempt = format!("attempt-{}", statement.ordinal);
        let new = NewCopy {
            location: copy.location.clone(),
            schema: copy.input.schema(),
            partition_columns: copy.partition_by.clone(),
            encoding: copy.encoding,
            existing: copy.existing,
            properties: copy.properties.clone(),
            statement,
        };
        let locations = Locations::new(self.catalog.lake(), &[])?;
        let prepared = match PreparedCopy::prepare(&self.catalog, &locations, new).await? {
            Copying::Run(prepared) => prepared,
            Copying::Already(committed) => return Ok(committed),
        };
        let target = prepared.write_target(&attempt)?;
        let rows = self.collect(&copy.into_query(target)?).await?;
        Ok(prepared.publish(staged_files(&rows)?).await?)
    }

    /// Runs a write up to its staged files, and what they do to rows that are there.
    pub async fn staged(
        &self,
        write: Write,
        target: WriteTarget,
    ) -> Result<(Vec<StagedFile>, Option<TableChange>)> {
        static KEPT: AtomicU32 = AtomicU32::new(0);
        for source in write.sources() {
            let name = format!("source-{}", KEPT.fetch_add(1, Ordering::Relaxed));
            let aside = WriteTarget::aside(self.catalog.lake(), &name, source.schema())?;
            let folder = aside.folder.clone();
            let rows = self.collect(&source.query(&self.settings, aside)?).await?;
            source.keep(&folder, &staged_files(&rows)?)?;
        }
        let found = match write.search() {
            Some(search) => self.collect(&search).await?,
            None => Vec::new(),
        };
        let doubled = write.doubled();
        let write = match write.narrowed(&found)? {
            Ok(write) => write,
            Err(twice) => {
                let row = self
                    .collect(&doubled.expect("a plan that names the row"))
                    .await?;
                return Err(twice.error(&row));
            }
        };
        let mode = write.mode.clone();
        let rows = match write.is_empty() {
            true => Vec::new(),
            false => self.collect(&write.into_query(target)?).await?,
        };
        let files = staged_files(&rows)?;
        let change = mode.change(&files, staged_counts(&rows)?)?;
        Ok((files, change.map(|(change, _)| change)))
    }

    async fn define(&self, definition: Definition, id: StatementId) -> Result<()> {
        let put = |name: TableName, object: Object| async move {
            let change = |_: &CatalogSnapshot| {
                let (name, object) = (name.clone(), object.clone());
                Ok(vec![Change::Put { name, object }])
            };
            self.catalog.change(change).await.map(drop)
        };
        match definition {
            Definition::CreateSchema { schema, .. } => {
                let change = |_: &CatalogSnapshot| {
                    Ok(vec![Change::PutSchema {
                        schema: schema.clone(),
                    }])
                };
                self.catalog.change(change).await?;
            }
            Definition::CreateTable {
                table,
                schema,
                create,
            } => {
                let new = NewTable {
                    name: table,
                    format: create.format,
                    location: create.location,
                    schema,
                    partition_columns: create.partition_by,
                    properties: create.properties.clone(),
                    comment: None,
                    column_comments: Default::default(),
                    or_replace: create.or_replace,
                    created_by: Some(id),
                };
                Table::create(&self.catalog, new, create.if_not_exists).await?;
            }
            Definition::CreateView { view, sql, .. } => {
                put(view, Object::view(self.catalog.lake(), sql, Some(id))).await?;
            }
            Definition::CreateExternal {
                table,
                location,
                external,
                ..
            } => {
                put(table, Object::external(location, external, Some(id))).await?;
            }
            Definition::Drop {
                names, if_exists, ..
            } => {
                for table in names {
                    Table::drop(&self.catalog, &table, if_exists).await?;
                }
            }
            Definition::AddColumns { columns, .. } if columns.fields().is_empty() => {}
            Definition::AddColumns {
                table,
                columns,
                if_not_exists,
                ..
            } => {
                let catalog = self.catalog.refresh().await?;
                let object = catalog.get(&table).expect("a table that is there");
                let table = Table::open(self.catalog.lake(), &table, object).await?;
                table.add_columns(&columns, if_not_exists, id).await?;
            }
            other => panic!("a master carries this out: {other:?}"),
        }
        Ok(())
    }
}
