//! Making tables, empty or with their first rows.
//!
//! The log's first record comes first and the name last, so that a name never points nowhere. A statement
//! that is repeated after a crash finds its own first record by the table's id, which follows from the
//! statement, and only adds the name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use uuid::Uuid;

use super::log::{Known, TableLog, checkpoint_interval};
use super::state::{CHECK, Definition, Offsets, Proposal, State};
use super::unnamed::{self, Why};
use super::{Commit, Committed, Table, write_target};
use crate::catalog::{CatalogSnapshot, Change};
use crate::root::path_of;
use crate::{
    Catalog, Error, Format, Object, ObjectKind, Result, StatementId, TableName, Wishes,
    WriteOptions, WriteTarget, columns, writer,
};

/// A table to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Its name; the schema must exist.
    pub name: TableName,
    /// How it keeps its files.
    pub format: Format,
    /// Where: a path relative to the lake's root, or a URL under it. None: `<root>/<schema>/<name>/`.
    pub location: Option<String>,
    /// All columns, partition columns included. Types are adjusted to what tables hold: microsecond
    /// timestamps, plain strings, signed integers.
    pub schema: SchemaRef,
    /// Columns whose values become folders; they are not in the files.
    pub partition_columns: Vec<String>,
    /// Free properties.
    pub properties: BTreeMap<String, String>,
    /// What people say of it.
    pub comment: Option<String>,
    /// What people say of its columns.
    pub column_comments: BTreeMap<String, String>,
    /// Whether it takes the place of what has its name. It gets a folder of its own.
    pub or_replace: bool,
    /// The statement that makes it.
    pub created_by: Option<StatementId>,
}

/// A table about to be made together with its first rows (`CREATE TABLE AS`). Nothing is visible until
/// [`PreparedTable::create`].
#[derive(Debug, Clone)]
pub struct PreparedTable {
    catalog: Catalog,
    name: TableName,
    object: Object,
    definition: Arc<Definition>,
    or_replace: bool,
    /// The table, if this very statement made it before.
    existing: Option<(Table, Committed)>,
}

impl Table {
    /// Makes an empty table. Repeating it with the same `created_by` gives the same table; so does a table
    /// that is there, whoever made it, with `if_not_exists`.
    pub async fn create(catalog: &Catalog, new: NewTable, if_not_exists: bool) -> Result<Self> {
        if if_not_exists {
            let snapshot = catalog.refresh().await?;
            if let Some(object) = snapshot.get(&new.name)
                && object.kind == ObjectKind::Table
            {
                return Self::open(catalog.lake(), &new.name, object).await;
            }
        }
        let prepared = Self::prepare(catalog, new).await?;
        Ok(prepared.make(None).await?.0)
    }

    /// Checks a new table and chooses its place; writers can then stage its first files.
    pub async fn prepare(catalog: &Catalog, new: NewTable) -> Result<PreparedTable> {
        new.name.check()?;
        let label = new.name.to_string();
        let schema = columns::stored(&label, &new.schema, columns::Naive::of(new.format))?;
        columns::check_partitions(&label, &schema, &new.partition_columns)?;
        check_properties(&new.properties)?;
        WriteOptions::checked(&label, &new.properties, &schema)?;
        let partitions = &new.partition_columns;
        Wishes::checked(&label, &new.properties, &schema, partitions, new.format)?;
        checkpoint_interval(&label, &new.properties)?;
        let snapshot = catalog.refresh().await?;
        if !snapshot.has_schema(&new.name.schema) {
            return Err(Error::NotFound {
                kind: "schema",
                name: new.name.schema.clone(),
            });
        }
        let definition = Arc::new(Definition {
            schema,
            partition_columns: new.partition_columns.clone(),
            properties: new.properties.clone(),
        });
        let prepared = |object: Object, existing| PreparedTable {
            catalog: catalog.clone(),
            name: new.name.clone(),
            object,
            definition: definition.clone(),
            or_replace: new.or_replace,
            existing,
        };
        let is_ours =
            |object: &&Object| object.created_by.is_some() && object.created_by == new.created_by;
        let found = snapshot.get(&new.name);
        if let Some(object) = found.filter(|object| !new.or_replace || is_ours(object)) {
            let made = made_before(catalog, &new, object).await?;
            return Ok(prepared(object.clone(), Some(made)));
        }
        let object = place(catalog, &snapshot, &new).await?;
        if found.is_some() {
            snapshot.allows(&[Change::Put {
                name: new.name.clone(),
                object: object.clone(),
            }])?;
        }
        unnamed::note(catalog.lake(), &new.name, &object, Why::Making).await?;
        Ok(prepared(object, None))
    }
}

impl PreparedTable {
    /// Where and how writers stage the first files.
    pub fn write_target(&self, attempt: &str) -> Result<WriteTarget> {
        write_target(
            self.catalog.lake(),
            &self.name,
            &self.object,
            &self.definition,
            attempt,
        )
    }

    /// The commit of this very statement, if it made the table before: then there is nothing to run.
    pub fn already(&self) -> Option<Committed> {
        self.existing.as_ref().map(|(_, committed)| *committed)
    }

    /// Makes the table with its first files; its name appears last.
    pub async fn create(self, commit: Commit) -> Result<(Table, Committed)> {
        self.make(Some(commit)).await
    }

    async fn make(self, commit: Option<Commit>) -> Result<(Table, Committed)> {
        let lake = self.catalog.lake();
        if let Some((table, committed)) = self.existing {
            if let Some(commit) = commit {
                writer::delete(lake.store(), &commit.files).await;
            }
            return Ok((table, committed));
        }
        let table = Table::handle(lake, &self.name, &self.object)?;
        let state = State::new(self.definition.clone());
        let offsets = match &commit {
            Some(commit) => {
                let staging = lake.own_folder().join("staging");
                table.log.check(&self.definition, commit, &staging)?;
                state.offsets_after(&self.name.to_string(), &commit.made_by)?
            }
            None => Offsets::new(),
        };
        let proposal = Proposal {
            version: 0,
            attempt: Uuid::new_v4(),
            commit: commit.as_ref(),
            remove: Vec::new(),
            definition: None,
            topic_ids: commit
                .as_ref()
                .map(|commit| state.topic_ids_after(&commit.made_by))
                .unwrap_or_default(),
            offsets,
            published_below: 0,
        };
        let committed = match table.log.add(&self.definition, None, &proposal).await? {
            Some(step) => {
                let publish = step.publish.clone();
                let known = table.learn(Known {
                    state: Arc::new(state.apply(step)),
                    loaded: None,
                });
                let empty = Commit::nothing();
                let commit = commit.as_ref().unwrap_or(&empty);
                table.landed(known, commit, 0, &publish).await
            }
            None => self.adopt(&table, commit.as_ref()).await?,
        };
        self.name_it().await?;
        Ok((table, committed))
    }

    /// The first record is there: this statement made it before a crash, or somebody else was faster.
    async fn adopt(&self, table: &Table, commit: Option<&Commit>) -> Result<Committed> {
        if table.log.owner().await? != Some(Some(self.object.id)) {
            return Err(Error::LocationTaken {
                table: self.name.to_string(),
                location: self.object.location.to_string(),
                reason: "another table was made there".to_owned(),
            });
        }
        let snapshot = table.snapshot().await?;
        // The rows that are in are those of the earlier run; these files are orphans.
        if let Some(commit) = commit {
            writer::delete(self.catalog.lake().store(), &commit.files).await;
        }
        Ok(Committed {
            version: 0,
            already: true,
            rows: snapshot.rows(),
            files: snapshot.files.len(),
        })
    }

    /// Needs no statement in the catalog's record: the object's id follows from its statement.
    async fn name_it(&self) -> Result<()> {
        let lake = self.catalog.lake();
        let before = self.catalog.refresh().await?;
        let noted = before
            .get(&self.name)
            .filter(|object| self.or_replace && object.id != self.object.id);
        if let Some(object) = noted {
            unnamed::note(lake, &self.name, object, Why::Replaced).await?;
        }
        let replaced = Mutex::new(None);
        let remember = |object: Option<&Object>| {
            let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
            *replaced = object.cloned();
        };
        self.catalog
            .change(|snapshot| {
                let found = snapshot.get(&self.name);
                remember(None);
                match found {
                    Some(object) if object.id == self.object.id => return Ok(Vec::new()),
                    Some(other) if !self.or_replace => {
                        return Err(Error::AlreadyExists {
                            kind: other.kind.noun(),
                            name: self.name.to_string(),
                        });
                    }
                    found => remember(found),
                }
                Ok(vec![Change::Put {
                    name: self.name.clone(),
                    object: self.object.clone(),
                }])
            })
            .await?;
        let replaced = replaced
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have taken the name after the first look.
        if let Some(object) = replaced
            && noted.is_none_or(|noted| noted.id != object.id)
        {
            unnamed::note(lake, &self.name, &object, Why::Replaced).await?;
        }
        unnamed::forget(lake, self.object.id).await;
        Ok(())
    }
}

impl Commit {
    /// What an empty table begins with.
    fn nothing() -> Self {
        Self {
            made_by: super::MadeBy::Stream {
                stream: String::new(),
                epoch: 0,
                ranges: Vec::new(),
                lookups: Default::default(),
                definition: 0,
            },
            files: Vec::new(),
            change: None,
            upkeep_epoch: None,
        }
    }
}

impl Table {
    /// Gives a name to a Delta table that others made, under the lake's root: from now on it is written by
    /// Drumline too. Its log says what it holds; a table that could not be written as it is, is refused.
    pub async fn adopt(
        catalog: &Catalog,
        name: &TableName,
        location: &str,
        created_by: &StatementId,
        describe: impl FnOnce(Object) -> Object,
    ) -> Result<Object> {
        name.check()?;
        let lake = catalog.lake();
        let object = describe(Object {
            id: id_of(name, created_by),
            kind: ObjectKind::Table,
            location: lake.resolve_location(location)?,
            format: Format::Delta,
            log: None,
            properties: BTreeMap::new(),
            created_by: Some(created_by.clone()),
            view_sql: None,
            comment: None,
            column_comments: BTreeMap::new(),
            external: None,
        });
        check_properties(&object.properties)?;
        let table = Self::handle(lake, name, &object)?;
        if table.log.owner().await?.is_none() {
            return Err(Error::LocationRefused {
                location: object.location.to_string(),
                reason: "no Delta table lies there".to_owned(),
            });
        }
        table.snapshot().await?;
        if let Some(loaded) = table.known().and_then(|known| known.loaded) {
            loaded.check_writable()?;
        }
        Ok(object)
    }
}

/// The name is taken: fine if the same statement took it.
async fn made_before(
    catalog: &Catalog,
    new: &NewTable,
    object: &Object,
) -> Result<(Table, Committed)> {
    let same_place = |theirs: &StatementId, ours: &StatementId| {
        theirs.application == ours.application && theirs.ordinal == ours.ordinal
    };
    match (&object.created_by, &new.created_by) {
        (Some(theirs), Some(ours)) if same_place(theirs, ours) => {
            if theirs.text_hash != ours.text_hash {
                return Err(Error::StatementChanged {
                    table: new.name.to_string(),
                    application: ours.application.clone(),
                    ordinal: ours.ordinal,
                });
            }
            let table = Table::open(catalog.lake(), &new.name, object).await?;
            let found = table.find_statement(ours).await?;
            let committed = found.unwrap_or(Committed {
                version: 0,
                already: true,
                rows: 0,
                files: 0,
            });
            Ok((table, committed))
        }
        _ => Err(Error::AlreadyExists {
            kind: object.kind.noun(),
            name: new.name.to_string(),
        }),
    }
}

/// Chooses id, location and log of a new table.
async fn place(catalog: &Catalog, snapshot: &CatalogSnapshot, new: &NewTable) -> Result<Object> {
    let lake = catalog.lake();
    let id = new
        .created_by
        .as_ref()
        .map_or_else(Uuid::new_v4, |statement| id_of(&new.name, statement));
    let short = id.simple().to_string()[..8].to_owned();
    let TableName { schema, name } = &new.name;
    let object = |location: &str| -> Result<Object> {
        let log = format!("{schema}.{name}-{short}");
        Ok(Object {
            id,
            kind: ObjectKind::Table,
            location: lake.resolve_location(location)?,
            format: new.format,
            log: (new.format == Format::Parquet).then_some(log),
            properties: new.properties.clone(),
            created_by: new.created_by.clone(),
            view_sql: None,
            comment: new.comment.clone(),
            column_comments: new.column_comments.clone(),
            external: None,
        })
    };
    if let Some(location) = &new.location {
        let object = object(location)?;
        return match taken(catalog, snapshot, &new.name, &object).await? {
            None => Ok(object),
            Some(reason) => Err(Error::LocationTaken {
                table: new.name.to_string(),
                location: object.location.to_string(),
                reason,
            }),
        };
    }
    // What a dropped table or a lost attempt left behind must not stand in the way of a name.
    let plain = object(&format!("{schema}/{name}"))?;
    match taken(catalog, snapshot, &new.name, &plain).await? {
        None => Ok(plain),
        Some(_) => object(&format!("{schema}/{name}-{short}")),
    }
}

/// Why a location cannot be used, if so.
async fn taken(
    catalog: &Catalog,
    snapshot: &CatalogSnapshot,
    name: &TableName,
    object: &Object,
) -> Result<Option<String>> {
    let put = Change::Put {
        name: name.clone(),
        object: object.clone(),
    };
    if let Err(Error::LocationTaken { reason, .. }) = snapshot.apply(&[put]) {
        return Ok(Some(reason));
    }
    let log = TableLog::new(catalog.lake(), &name.to_string(), object)?;
    match log.owner().await? {
        Some(Some(id)) if id == object.id => return Ok(None),
        Some(_) => return Ok(Some("it holds another table".to_owned())),
        None => {}
    }
    if object.format == Format::Delta {
        // Files without a log are orphans: no reader of Delta sees them.
        return Ok(None);
    }
    let store = catalog.lake().store();
    let path = path_of(&object.location)?;
    match store.list(Some(&path)).next().await {
        None => Ok(None),
        Some(Ok(found)) => Ok(Some(format!(
            "it is not empty: it holds '{}'",
            found.location
        ))),
        Some(Err(source)) => Err(Error::store("list", &path, source)),
    }
}

/// An id that follows from the statement (FNV-1a, 128 bits), so that a repeated statement finds its table.
fn id_of(name: &TableName, statement: &StatementId) -> Uuid {
    let text = format!(
        "{}\0{}\0{}\0{}\0{}",
        statement.application, statement.ordinal, statement.text_hash, name.schema, name.name
    );
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in text.bytes() {
        hash ^= u128::from(byte);
        hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

/// Delta gives some properties a meaning that our commits would not keep.
pub(crate) fn check_properties(properties: &BTreeMap<String, String>) -> Result<()> {
    let is_kept = |key: &str| {
        matches!(
            key,
            "delta.appendOnly"
                | "delta.targetFileSize"
                | "delta.autoOptimize.autoCompact"
                | "delta.checkpointInterval"
        ) || key.starts_with(CHECK)
    };
    let mut others = properties.keys().filter(|key| !is_kept(key));
    match others.find(|key| key.starts_with("delta.")) {
        Some(key) => Err(Error::NotYet {
            what: format!("table property '{key}'"),
        }),
        None => Ok(()),
    }
}
