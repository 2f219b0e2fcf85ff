//! The catalog: names of schemas, tables, views and streams, as a log of changes in the lake.

mod object;
mod snapshot;

use std::sync::Arc;

pub use object::{Format, Object, ObjectKind, StatementId, StreamObject};
pub use snapshot::{CatalogSnapshot, Change};

use crate::{Error, Lake, Result};

/// The catalog of a lake. Cheap to clone; all clones see the same current snapshot.
#[derive(Debug, Clone)]
pub struct Catalog {
    lake: Lake,
}

impl Catalog {
    /// Opens the catalog of a lake; an empty lake has an empty one.
    pub async fn open(lake: Lake) -> Result<Self> {
        Ok(Self { lake })
    }

    /// The lake it belongs to.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The newest version this process has seen.
    pub fn current(&self) -> Arc<CatalogSnapshot> {
        Arc::default()
    }

    /// Reads what others have changed.
    pub async fn refresh(&self) -> Result<Arc<CatalogSnapshot>> {
        Err(Error::bug("not built yet"))
    }

    /// Makes one atomic step: `decide` sees the newest version and says what to change (nothing is fine).
    /// Who loses a race reads what the other did and decides again.
    pub async fn change(
        &self,
        decide: impl Fn(&CatalogSnapshot) -> Result<Vec<Change>> + Send + Sync,
    ) -> Result<Arc<CatalogSnapshot>> {
        decide(&self.current())?;
        Err(Error::bug("not built yet"))
    }
}
