//! Dropping tables: the name first, then the files; a log's first record last, so that a log half deleted is
//! still known for what it was.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use super::Table;
use crate::catalog::Change;
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
        catalog
            .change(|snapshot| match snapshot.get(name) {
                Some(object) if object.id == id => Ok(vec![Change::Drop { name: name.clone() }]),
                // Somebody else dropped it, and perhaps made another: that one is not meant.
                _ => Ok(Vec::new()),
            })
            .await?;
        Self::erase(catalog.lake(), name, &object).await;
        Ok(true)
    }

    /// Deletes the files of a table that has no name any more; those of others stay. Files that cannot be
    /// deleted are left behind: nothing reads them.
    pub async fn erase(lake: &Lake, name: &TableName, object: &Object) {
        lake.forget_table(object.id);
        if object.kind != ObjectKind::Table {
            return;
        }
        let erased = match Self::handle(lake, name, object) {
            Ok(table) => table.delete_files().await,
            Err(error) => Err(error),
        };
        if let Err(error) = erased {
            tracing::warn!(table = %name, %error, "dropped, but not all of its files are deleted");
        }
    }

    async fn delete_files(&self) -> Result<()> {
        let store = self.log.store();
        let first = self.log.folder().clone().join(format!("{:020}.json", 0));
        for folder in [self.log.location(), self.log.folder()] {
            let listed: Vec<_> = store
                .list(Some(folder))
                .map_ok(|object| object.location)
                .try_collect()
                .await
                .map_err(|source| Error::store("list", folder, source))?;
            delete(store, listed.into_iter().filter(|path| *path != first)).await?;
        }
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
