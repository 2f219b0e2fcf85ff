//! Throws away what writers of plain Parquet tables left in the staging folder of a lake.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;

use super::vacuum::{finish, oldest_kept, relative};
use super::{Vacuum, Vacuumed};
use crate::{Catalog, Error, Format, ObjectKind, Result, Table};

impl Catalog {
    /// Throws away staged files that are older than what is kept. What is committed and not published yet is
    /// published first.
    ///
    /// # Errors
    /// A table cannot be opened: its staged files may still be needed, so none are deleted.
    pub async fn vacuum_staging(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
        let oldest = oldest_kept(now, vacuum.keep);
        let names = self.refresh().await?;
        for (name, object) in names.objects() {
            if object.kind == ObjectKind::Table && object.format == Format::Parquet {
                Table::open(self.lake(), &name, object)
                    .await?
                    .snapshot()
                    .await?;
            }
        }
        let root = self.lake().path().clone();
        let folder = self.lake().own_folder().join("staging");
        let listed = self
            .lake()
            .store()
            .list(Some(&folder))
            .try_collect::<Vec<_>>()
            .await;
        let listed = listed.map_err(|error| Error::store("list", &folder, error))?;
        let old = listed
            .into_iter()
            .filter(|meta| meta.last_modified < oldest);
        let found = old.filter_map(|meta| Some((relative(&root, &meta.location)?, meta)));
        finish(self.lake().store().as_ref(), found.collect(), vacuum).await
    }
}
