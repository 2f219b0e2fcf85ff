//! Tables: create, snapshot, commit, drop.

mod commit;
mod create;

use std::sync::Arc;

pub use commit::{Commit, Committed, MadeBy, OffsetRange};
pub use create::{NewTable, PreparedTable};

use crate::{
    Catalog, Error, Lake, Object, Result, StatementId, TableName, TableSnapshot, WriteTarget,
};

/// A table that Drumline writes. Cheap to clone; clones share what they know of the table's newest state,
/// so keep one for as long as you commit to it.
#[derive(Debug, Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: TableName,
    object: Object,
}

impl Table {
    /// Opens a table (or an external folder of Parquet files) that the catalog names.
    pub async fn open(_lake: &Lake, name: &TableName, object: &Object) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.clone(),
                object: object.clone(),
            }),
        })
    }

    /// Makes an empty table: its log first, then its name, so that the name never points nowhere.
    /// Repeating it with the same `created_by` gives the same table.
    pub async fn create(_catalog: &Catalog, _new: NewTable, _if_not_exists: bool) -> Result<Self> {
        Err(Error::bug("not built yet"))
    }

    /// Removes a table's name, then its files. `Ok(false)`: there was none, and `if_exists` was given.
    pub async fn drop(_catalog: &Catalog, _name: &TableName, _if_exists: bool) -> Result<bool> {
        Err(Error::bug("not built yet"))
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.inner.name
    }

    /// What the catalog says of it.
    pub fn object(&self) -> &Object {
        &self.inner.object
    }

    /// The newest version.
    pub async fn snapshot(&self) -> Result<TableSnapshot> {
        Err(Error::bug("not built yet"))
    }

    /// Makes staged files visible, with what made them: whole or not at all. Repeating a commit is safe:
    /// a statement that is already in answers with `already`, offsets that moved are an error.
    pub async fn commit(&self, _commit: Commit) -> Result<Committed> {
        Err(Error::bug("not built yet"))
    }

    /// Whether a statement has been committed here: lets a restarted master skip it without running it.
    pub async fn find_statement(&self, _statement: &StatementId) -> Result<Option<Committed>> {
        Err(Error::bug("not built yet"))
    }

    /// Where and how writers stage files for this table. `attempt` separates one writer's files from
    /// another's; it must be a plain path segment.
    pub async fn write_target(&self, _attempt: &str) -> Result<WriteTarget> {
        Err(Error::bug("not built yet"))
    }
}
