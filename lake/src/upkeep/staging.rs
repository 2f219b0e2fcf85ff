//! Throws away what is no table's any more: what writers of plain Parquet tables staged and never committed, files
//! of tables without a name, and what copies left that failed.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore as _};

use super::vacuum::{finish, oldest_kept, relative};
use super::{Vacuum, Vacuumed};
use crate::copy;
use crate::table::unnamed::{self, Unnamed, Why};
use crate::{Catalog, CatalogSnapshot, Error, Format, ObjectKind, Result, Table};

/// A record may be written this long before the change of names that it is for.
const CHANGING: TimeDelta = TimeDelta::hours(1);

impl Catalog {
    /// Throws away what no table names, as far as it is older than what is kept. What is committed and not published
    /// yet is published first.
    ///
    /// # Errors
    /// A table cannot be opened: its staged files may still be needed, so none are deleted.
    pub async fn vacuum(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
        let mut all = self.vacuum_staging(vacuum, now).await?;
        all.files
            .extend(self.vacuum_unnamed(vacuum, now).await?.files);
        all.files
            .extend(copy::vacuum(self.lake(), vacuum, now).await?.files);
        all.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// How many tables without a name wait for [`Catalog::vacuum`] to delete their files.
    ///
    /// # Errors
    /// Their records cannot be read.
    pub async fn unnamed_tables(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<usize> {
        let oldest = oldest_kept(now, vacuum.keep);
        let names = self.refresh().await?;
        let mut due = 0;
        for record in unnamed::all(self.lake()).await? {
            let table = Table::open(self.lake(), &record.name, &record.object).await?;
            let is_old = record.why == Why::Dropped || record.since < oldest;
            due += usize::from(is_old && !is_named(&names, &record) && !table.is_held());
        }
        Ok(due)
    }

    async fn vacuum_staging(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
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

    async fn vacuum_unnamed(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
        let oldest = oldest_kept(now, vacuum.keep);
        let lake = self.lake();
        let mut all = Vacuumed::default();
        for record in unnamed::all(lake).await? {
            // As of now: another table may have come to lie there.
            let names = self.refresh().await?;
            let id = record.object.id;
            if is_named(&names, &record) || is_overlaid(&names, &record) {
                if !vacuum.dry_run && record.since < oldest.min(now - CHANGING) {
                    unnamed::forget(lake, id).await;
                }
                continue;
            }
            let table = Table::open(lake, &record.name, &record.object).await?;
            let files = table.all_files().await?;
            let is_old = match record.why {
                // Whoever takes the name away has been at it for a moment at most.
                Why::Dropped => record.since < now - TimeDelta::minutes(1),
                Why::Replaced => record.since < oldest,
                // Its rows may still be being written.
                Why::Making => {
                    record.since < oldest && files.iter().all(|file| file.last_modified < oldest)
                }
            };
            if !is_old || table.is_held() {
                continue;
            }
            let named = |meta: ObjectMeta| Some((relative(lake.path(), &meta.location)?, meta));
            // Found again as long as they are not all deleted.
            let found = files.iter().cloned().filter_map(named).collect();
            let look = Vacuum {
                dry_run: true,
                ..vacuum
            };
            all.files
                .extend(finish(lake.store().as_ref(), found, look).await?.files);
            if !vacuum.dry_run {
                table.delete_files().await?;
                lake.forget_table(id);
                unnamed::forget(lake, id).await;
            }
        }
        Ok(all)
    }
}

fn is_named(names: &CatalogSnapshot, record: &Unnamed) -> bool {
    names
        .objects()
        .any(|(_, object)| object.id == record.object.id)
}

/// Whether somebody's table lies where its files are.
fn is_overlaid(names: &CatalogSnapshot, record: &Unnamed) -> bool {
    let gone = record.object.location.as_str();
    let folders: HashSet<&str> = names
        .objects()
        .filter(|(_, object)| object.kind != ObjectKind::View)
        .map(|(_, object)| object.location.as_str())
        .collect();
    folders
        .into_iter()
        .any(|folder| folder.starts_with(gone) || gone.starts_with(folder))
}
