//! Names and what they stand for: the lake's catalog, as statements see it.
//!
//! [`Names`] keeps tables open across statements. A statement works with [`PinnedTables`]: one version of
//! the catalog, and of each table one snapshot, taken when the statement first asks for it.
//! `definitions.rs` changes the catalog; `listing.rs` shows it.

mod definitions;
mod listing;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::{Resolved, TableRef, Tables};
use drumline_lake::{
    Catalog, CatalogSnapshot, Locations, Object, ObjectKind, Table, TableName, TableSnapshot,
};
use uuid::Uuid;

use crate::facts::{Facts, History};
use crate::system;

pub(crate) use definitions::{check_schema, define, repeated};
pub(crate) use listing::{Entry, schema_ipc};

/// The lake's names, and its tables that are open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Names {
    catalog: Catalog,
    locations: Locations,
    facts: Facts,
    /// By identity, so that a table that was dropped and made again is another one.
    open: Arc<Mutex<HashMap<Uuid, Table>>>,
}

/// What one statement sees.
pub(crate) struct PinnedTables {
    names: Names,
    catalog: Arc<CatalogSnapshot>,
    /// What the schema `system` shows.
    history: History,
    snapshots: tokio::sync::Mutex<BTreeMap<TableName, TableSnapshot>>,
}

impl Names {
    pub(crate) fn new(catalog: Catalog, locations: Locations, facts: Facts) -> Self {
        Self {
            catalog,
            locations,
            facts,
            open: Arc::default(),
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
        let catalog = self.catalog.refresh().await?;
        Ok(Arc::new(PinnedTables {
            names: self.clone(),
            catalog,
            history: self.facts.history(),
            snapshots: tokio::sync::Mutex::default(),
        }))
    }

    /// A table, opened once for all statements.
    pub(crate) async fn open(
        &self,
        name: &TableName,
        object: &Object,
    ) -> drumline_lake::Result<Table> {
        let known = self.lock().get(&object.id).cloned();
        if let Some(table) = known.filter(|table| table.name() == name) {
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

impl PinnedTables {
    pub(crate) fn catalog(&self) -> &CatalogSnapshot {
        &self.catalog
    }

    async fn snapshot(
        &self,
        name: &TableName,
        object: &Object,
    ) -> drumline_lake::Result<TableSnapshot> {
        let mut snapshots = self.snapshots.lock().await;
        if let Some(snapshot) = snapshots.get(name) {
            return Ok(snapshot.clone());
        }
        let snapshot = self.names.open(name, object).await?.snapshot().await?;
        snapshots.insert(name.clone(), snapshot.clone());
        Ok(snapshot)
    }
}

#[async_trait::async_trait]
impl Tables for PinnedTables {
    async fn table(&self, table: &TableRef) -> drumline_engine::Result<Option<Resolved>> {
        if table.schema == system::SCHEMA {
            let provider = system::table(&table.name, &self.history)?;
            return Ok(provider.map(Resolved::Table));
        }
        let name = TableName::new(&table.schema, &table.name);
        let Some(object) = self.catalog.get(&name) else {
            return Ok(None);
        };
        match object.kind {
            ObjectKind::View => return Ok(object.view_sql.clone().map(Resolved::View)),
            ObjectKind::External => {
                // Again: what is allowed may have changed since the name was made.
                self.names.locations.check(&object.location)?;
                return Ok(Some(Resolved::External(object.location.clone())));
            }
            ObjectKind::Table => {}
        }
        let snapshot = self.snapshot(&name, object).await?;
        Ok(Some(Resolved::Table(snapshot.provider()?)))
    }

    fn objects(&self) -> Vec<(TableName, &'static str)> {
        let kind = |(name, object): (TableName, &Object)| (name, object.kind.word());
        let own = system::names().map(|name| (TableName::new(system::SCHEMA, name), "system"));
        self.catalog.objects().map(kind).chain(own).collect()
    }

    fn schemas(&self) -> Vec<String> {
        let mut schemas: Vec<String> = self.catalog.schemas().map(str::to_owned).collect();
        schemas.push(system::SCHEMA.to_owned());
        schemas.sort();
        schemas.dedup();
        schemas
    }
}
