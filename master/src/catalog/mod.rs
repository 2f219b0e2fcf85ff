//! Names and what they stand for: the lake's catalog, as statements see it.
//!
//! [`Names`] keeps tables open across statements. A statement works with [`PinnedTables`]: one version of
//! the catalog, and of each table one snapshot, taken when the statement first asks for it.
//! `definitions.rs` changes the catalog; `listing.rs` shows it.

mod definitions;
mod listing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::{Foreign, Fresh, Resolved, TableRef, Tables};
use drumline_lake::{
    AsOf, Catalog, CatalogSnapshot, Error, ErrorKind, Locations, Object, ObjectKind, Table,
    TableName, TableSnapshot, Version,
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::facts::{Facts, History};
use crate::topics::{Pins, Topics, Unchanged};
use crate::{system, topics};

pub(crate) use definitions::{check_schema, define};
pub(crate) use listing::{Entry, schema_ipc};

/// The lake's names, and its tables that are open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Names {
    catalog: Catalog,
    locations: Locations,
    facts: Facts,
    /// By identity, so that a table that was dropped and made again is another one.
    open: Arc<Mutex<HashMap<Uuid, Table>>>,
    topics: Option<Topics>,
    unchanged: Unchanged,
}

/// What one statement sees.
pub(crate) struct PinnedTables {
    names: Names,
    catalog: Arc<CatalogSnapshot>,
    /// What the schema `system` shows.
    history: History,
    snapshots: Mutex<HashMap<TableName, Pin>>,
    /// What the statement found of topics, in this attempt or an earlier one.
    topics: Arc<Pins>,
}

/// One table's snapshot, taken by who first asks for it.
type Pin = Arc<OnceCell<TableSnapshot>>;

impl Names {
    pub(crate) fn new(catalog: Catalog, locations: Locations, facts: Facts) -> Self {
        Self {
            catalog,
            locations,
            facts,
            open: Arc::default(),
            topics: None,
            unchanged: Unchanged::default(),
        }
    }

    /// The same, with topics under the schema `kafka`.
    pub(crate) fn with_topics(self, topics: Topics) -> Self {
        Self {
            topics: Some(topics),
            ..self
        }
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Which folders external tables may be over.
    pub(crate) fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The newest names, for one statement.
    pub(crate) async fn pin(&self) -> drumline_lake::Result<Arc<PinnedTables>> {
        self.pin_with(Arc::default()).await
    }

    /// The same, for an attempt of a statement that may have seen topics already.
    pub(crate) async fn pin_with(
        &self,
        topics: Arc<Pins>,
    ) -> drumline_lake::Result<Arc<PinnedTables>> {
        let catalog = self.catalog.refresh().await?;
        Ok(Arc::new(PinnedTables {
            names: self.clone(),
            catalog,
            history: self.facts.history(),
            snapshots: Mutex::default(),
            topics,
        }))
    }

    /// A table, opened once for all statements.
    pub(crate) async fn open(
        &self,
        name: &TableName,
        object: &Object,
    ) -> drumline_lake::Result<Table> {
        let known = self.lock().get(&object.id).cloned();
        if let Some(table) = known.filter(|table| table.name() == name && table.object() == object)
        {
            return Ok(table);
        }
        let table = Table::open(self.catalog.lake(), name, object).await?;
        let current = self.catalog.current();
        let mut open = self.lock();
        // Tables that are gone are let go of when another comes.
        let ids: std::collections::BTreeSet<Uuid> =
            current.objects().map(|(_, object)| object.id).collect();
        open.retain(|id, _| ids.contains(id));
        open.insert(object.id, table.clone());
        Ok(table)
    }

    // Inserts and removes are whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Table>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_versions(name: &TableName, asked: AsOf, noun: &str) -> Error {
    Error::NoVersion {
        table: name.to_string(),
        asked: asked.to_string(),
        there_is: format!(
            "it is {} {noun}, which keeps no versions",
            match noun {
                "external table" => "an",
                _ => "a",
            }
        ),
    }
}

impl PinnedTables {
    pub(crate) fn catalog(&self) -> &CatalogSnapshot {
        &self.catalog
    }

    pub(crate) async fn snapshot_of(
        &self,
        name: &TableName,
        object: &Object,
    ) -> drumline_lake::Result<TableSnapshot> {
        // Each table is waited for by itself: others are opened meanwhile.
        let pin = {
            let mut snapshots = self
                .snapshots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            snapshots.entry(name.clone()).or_default().clone()
        };
        let open = || async { self.names.open(name, object).await?.snapshot().await };
        pin.get_or_try_init(open).await.cloned()
    }

    /// A topic, which no table of the lake hides.
    async fn topic(
        &self,
        name: &TableName,
        at: Option<AsOf>,
    ) -> drumline_engine::Result<Option<Resolved>> {
        let Some(topics) = self
            .names
            .topics
            .as_ref()
            .filter(|_| name.schema == topics::SCHEMA)
        else {
            return Ok(None);
        };
        if let Some(at) = at {
            return Err(no_versions(name, at, "topic of Kafka").into());
        }
        let table = topics
            .table(&self.catalog, &name.name, &self.topics)
            .await?;
        Ok(table.map(Resolved::Table))
    }

    /// A table, or an external table with a log, that may be read.
    fn with_versions(&self, name: &TableName) -> drumline_lake::Result<Option<&Object>> {
        let object = self.catalog.get(name);
        let object =
            object.filter(|object| object.kind == ObjectKind::Table || object.is_foreign_delta());
        if let Some(object) = object
            && object.kind == ObjectKind::External
        {
            self.names.locations.check(&object.location)?;
        }
        Ok(object)
    }

    /// What a name stands for, as of an earlier version if one is asked for.
    async fn resolve(
        &self,
        name: &TableName,
        at: Option<AsOf>,
    ) -> drumline_engine::Result<Option<Resolved>> {
        let Some(object) = self.catalog.get(name) else {
            return self.topic(name, at).await;
        };
        if object.kind == ObjectKind::External {
            // Again: what is allowed may have changed since the name was made.
            self.names.locations.check(&object.location)?;
        }
        let has_versions = object.kind == ObjectKind::Table || object.is_foreign_delta();
        if let Some(at) = at
            && !has_versions
        {
            return Err(no_versions(name, at, object.kind.noun()).into());
        }
        if let (ObjectKind::View, Some(sql)) = (object.kind, &object.view_sql) {
            return Ok(Some(Resolved::View(sql.clone())));
        }
        let provider = match has_versions {
            true => {
                let snapshot = match at {
                    Some(at) => self.names.open(name, object).await?.snapshot_at(at).await?,
                    None => self.snapshot_of(name, object).await?,
                };
                Some(snapshot.provider()?)
            }
            false => None,
        };
        Ok(match (object.kind, provider) {
            (ObjectKind::Table, Some(provider)) => Some(Resolved::Table(provider)),
            (_, provider) => Some(Resolved::External(Box::new(Foreign {
                object: object.clone(),
                provider,
            }))),
        })
    }
}

#[async_trait::async_trait]
impl Tables for PinnedTables {
    async fn table(&self, table: &TableRef) -> drumline_engine::Result<Option<Resolved>> {
        if table.schema == system::SCHEMA {
            let provider = system::table(&table.name, &self.history)?;
            return Ok(provider.map(Resolved::Table));
        }
        self.resolve(table, None).await
    }

    async fn table_at(
        &self,
        table: &TableRef,
        at: AsOf,
    ) -> drumline_engine::Result<Option<Resolved>> {
        if table.schema == system::SCHEMA {
            return Err(no_versions(table, at, "table of the system").into());
        }
        self.resolve(table, Some(at)).await
    }

    async fn fresh(&self, table: &TableRef) -> drumline_engine::Result<Option<Fresh>> {
        let Some(object) = self.catalog.get(table) else {
            return Ok(None);
        };
        let Some(topics) = self
            .names
            .topics
            .as_ref()
            .filter(|_| object.kind == ObjectKind::Table)
        else {
            return Err(drumline_engine::Error::Failed {
                kind: ErrorKind::User,
                message: format!(
                    "{table} cannot be read fresh: no stream writes to a name of this kind ({})",
                    object.kind.noun()
                ),
                hint: Some("read it as it is".to_owned()),
                worker: None,
            });
        };
        let snapshot = self.snapshot_of(table, object).await?;
        let handle = self.names.open(table, object).await?;
        let mut lookups = HashMap::new();
        for name in topics.lookups(&self.catalog, table).await? {
            let looked_up = TableName::parse(&name)?;
            // One that is not there is named by who looks things up in it.
            if let Some(object) = self.catalog.get(&looked_up) {
                let version = self.snapshot_of(&looked_up, object).await?.version;
                lookups.insert(name, version);
            }
        }
        let lake = self.names.catalog.lake().root().to_string();
        let (unchanged, held) = (&self.names.unchanged, (&handle, &snapshot));
        let fresh = topics.fresh(
            &self.catalog,
            unchanged,
            held,
            (lake, lookups),
            &self.topics,
        );
        Ok(Some(fresh.await?))
    }

    fn object(&self, table: &TableRef) -> Option<Object> {
        self.catalog.get(table).cloned()
    }

    fn schema_comment(&self, schema: &str) -> Option<String> {
        self.catalog.schema_comment(schema).map(str::to_owned)
    }

    async fn snapshot(&self, table: &TableRef) -> drumline_engine::Result<Option<TableSnapshot>> {
        let Some(object) = self.with_versions(table)? else {
            return Ok(None);
        };
        Ok(Some(self.snapshot_of(table, object).await?))
    }

    async fn history(
        &self,
        table: &TableRef,
        limit: usize,
    ) -> drumline_engine::Result<Option<Vec<Version>>> {
        let Some(object) = self.with_versions(table)? else {
            return Ok(None);
        };
        let table = self.names.open(table, object).await?;
        Ok(Some(table.history(limit).await?))
    }

    fn objects(&self) -> Vec<(TableName, &'static str)> {
        let kind = |(name, object): (TableName, &Object)| (name, object.kind.word());
        let own = system::names().map(|name| (TableName::new(system::SCHEMA, name), "system"));
        let topics = Topics::names(&self.catalog).into_iter();
        let topics = topics
            .map(|name| TableName::new(topics::SCHEMA, name))
            .filter(|name| self.catalog.get(name).is_none())
            .map(|name| (name, "topic"));
        let objects = self.catalog.objects().map(kind);
        objects.chain(own).chain(topics).collect()
    }

    fn schemas(&self) -> Vec<String> {
        let mut schemas: Vec<String> = self.catalog.schemas().map(str::to_owned).collect();
        schemas.push(system::SCHEMA.to_owned());
        schemas.push(topics::SCHEMA.to_owned());
        schemas.sort();
        schemas.dedup();
        schemas
    }
}
