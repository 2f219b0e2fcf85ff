//! Dropping tables: the name first, then the files; a log's first record last, so that a log half deleted is
//! still known for what it was.
//!
//! Files that somebody still reads stay until nobody does, and those of a table that another took the place of
//! until upkeep finds them old: see `unnamed`.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::{Table, unnamed};
use crate::catalog::Change;
use crate::moved;
use crate::{Catalog, Error, Lake, Object, ObjectKind, Result, TableName};

impl Table {
    /// Removes a table's name, then its files. `Ok(false)`: there was none, and `if_exists` was given.
    pub async fn drop(catalog: &Catalog, name: &TableName, if_exists: bool) -> Result<bool> {
        let snapshot = catalog.refresh().await?;
        let object = match snapshot.get(name) {
            Some(object) if object.kind != ObjectKind::View => object.clone(),
            _ if if_exists => return Ok(false),
            _ => {
                return Err(Error::NotFound {
                    kind: "table",
                    name: name.to_string(),
                });
            }
        };
        let id = object.id;
        let drop = Change::Drop { name: name.clone() };
        snapshot.allows(std::slice::from_ref(&drop))?;
        Self::to_be_erased(catalog.lake(), name, &object).await?;
        catalog
            .change(|snapshot| match snapshot.get(name) {
                Some(object) if object.id == id => Ok(vec![drop.clone()]),
                // Somebody else dropped it, and perhaps made another: that one is not meant.
                _ => Ok(Vec::new()),
            })
            .await?;
        Self::erase(catalog.lake(), name, &object).await;
        Ok(true)
    }

    /// To be called before a name is taken away for good: whatever crashes then, upkeep finds the files.
    pub async fn to_be_erased(lake: &Lake, name: &TableName, object: &Object) -> Result<()> {
        unnamed::note(lake, name, object, unnamed::Why::Dropped).await
    }

    /// Deletes the files of a table that has no name any more; those of others stay. What somebody in this process
    /// still reads, and what cannot be deleted, is left to upkeep.
    pub async fn erase(lake: &Lake, name: &TableName, object: &Object) {
        if object.kind != ObjectKind::Table {
            return lake.forget_table(object.id);
        }
        let erased = match Self::handle(lake, name, object) {
            Ok(table) if table.is_held() => {
                tracing::info!(table = %name, "dropped; its files are deleted once nobody reads them");
                return;
            }
            Ok(table) => table.delete_files().await,
            Err(error) => Err(error),
        };
        lake.forget_table(object.id);
        match erased {
            Ok(()) => unnamed::forget(lake, object.id).await,
            Err(error) => {
                tracing::warn!(table = %name, %error, "dropped, but not all of its files are deleted");
            }
        }
    }

    /// Everything that is the table's: its files, those that were replaced, its log.
    pub(crate) async fn all_files(&self) -> Result<Vec<ObjectMeta>> {
        let store = self.log.store();
        let replaced = moved::place_of(self.lake.path(), self.log.location().as_ref());
        let replaced = replaced.and_then(|place| Path::parse(place).ok());
        let mut found: Vec<ObjectMeta> = Vec::new();
        for folder in [
            Some(self.log.location()),
            replaced.as_ref(),
            Some(self.log.folder()),
        ] {
            let Some(folder) = folder else { continue };
            let listed: Vec<_> = store
                .list(Some(folder))
                .try_collect()
                .await
                .map_err(|source| Error::store("list", folder, source))?;
            found.extend(listed);
        }
        // The log of a Delta table lies in its folder.
        found.sort_by(|a, b| a.location.cmp(&b.location));
        found.dedup_by(|a, b| a.location == b.location);
        Ok(found)
    }

    pub(crate) async fn delete_files(&self) -> Result<()> {
        let store = self.log.store();
        let first = self.log.folder().clone().join(format!("{:020}.json", 0));
        let files = self.all_files().await?;
        let others = files.into_iter().map(|file| file.location);
        delete(store, others.filter(|path| *path != first)).await?;
        delete(store, [first]).await
    }
}

async fn delete(store: &Arc<dyn ObjectStore>, paths: impl IntoIterator<Item = Path>) -> Result<()> {
    let paths: Vec<_> = paths.into_iter().map(Ok).collect();
    let mut deleted = store.delete_stream(stream::iter(paths).boxed());
    while let Some(result) = deleted.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(Error::store("delete", "files of a dropped table", source)),
        }
    }
    Ok(())
}
