//! Making tables, empty or with their first rows.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;

use super::{Commit, Committed, Table};
use crate::{Catalog, Error, Format, Result, StatementId, TableName, WriteTarget};

/// A table to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Its name; the schema must exist.
    pub name: TableName,
    /// How it keeps its files.
    pub format: Format,
    /// Where: a path relative to the lake's root, or a URL under it. None: `<root>/<schema>/<name>/`.
    pub location: Option<String>,
    /// All columns, partition columns included. Types are adjusted to what tables hold: microsecond UTC
    /// timestamps, plain strings, signed integers.
    pub schema: SchemaRef,
    /// Columns whose values become folders; they are not in the files.
    pub partition_columns: Vec<String>,
    /// Free properties.
    pub properties: BTreeMap<String, String>,
    /// The statement that makes it.
    pub created_by: Option<StatementId>,
}

/// A table about to be made together with its first rows (`CREATE TABLE AS`). Nothing is visible until
/// [`PreparedTable::create`].
#[derive(Debug, Clone)]
pub struct PreparedTable {
    _catalog: Catalog,
}

impl Table {
    /// Checks a new table and chooses its place; writers can then stage its first files.
    pub async fn prepare(catalog: &Catalog, _new: NewTable) -> Result<PreparedTable> {
        let _ = PreparedTable {
            _catalog: catalog.clone(),
        };
        Err(Error::bug("not built yet"))
    }
}

impl PreparedTable {
    /// Where and how writers stage the first files.
    pub fn write_target(&self, _attempt: &str) -> Result<WriteTarget> {
        Err(Error::bug("not built yet"))
    }

    /// The commit of this very statement, if the table was made by it before: then there is nothing to run.
    pub fn already(&self) -> Option<Committed> {
        None
    }

    /// Makes the table with its first files; its name appears last.
    pub async fn create(self, _commit: Commit) -> Result<(Table, Committed)> {
        Err(Error::bug("not built yet"))
    }
}
