//! Throws away files that no version within the retention names: those that later versions replaced, and orphans
//! of writers that crashed or lost a race.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};

use crate::table::Table;
use crate::writer::child;
use crate::{Error, Result};

/// Deletes that are under way at a time.
const AT_ONCE: usize = 16;

/// What to throw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuum {
    /// What is younger stays: versions of this age can still be read, and what is being written is safe.
    pub keep: Duration,
    /// Only look.
    pub dry_run: bool,
}

/// A file that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Relative to the table's location, or to the lake's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub written_at: DateTime<Utc>,
}

/// What a vacuum found, and threw away unless it only looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// By path.
    pub files: Vec<Leftover>,
}

impl Vacuumed {
    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl Table {
    /// Throws away files in the table's folder that are older than what is kept, and that neither its newest
    /// version nor one of that age names. Files of snapshots that somebody in this process still holds stay.
    ///
    /// # Errors
    /// Its log or its folder cannot be read, or a file cannot be deleted; what was not deleted is found again.
    pub async fn vacuum(&self, vacuum: Vacuum, now: DateTime<Utc>) -> Result<Vacuumed> {
        let oldest = oldest_kept(now, vacuum.keep);
        // Completes what a crashed committer left half published: those files are needed.
        let snapshot = self.snapshot().await?;
        let folder = self.folder().clone();
        let mut needed = HashSet::new();
        let files = snapshot.files.iter().map(|file| file.path.clone());
        let removed = self.removed_since(snapshot.version, oldest).await?;
        for path in files.chain(self.held_files()).chain(removed) {
            needed.insert(child(&folder, &path)?);
        }
        let mut found = Vec::new();
        let mut listed = self.store().list(Some(&folder));
        let unlisted = |error| Error::store("list", &folder, error);
        while let Some(meta) = listed.try_next().await.map_err(unlisted)? {
            let Some(path) = relative(&folder, &meta.location) else {
                continue;
            };
            if is_data(&path) && meta.last_modified < oldest && !needed.contains(&meta.location) {
                found.push((path, meta));
            }
        }
        drop(listed);
        // Files that were replaced are named as the table knew them, and lie elsewhere.
        let mut replaced = self.replaced().await?;
        while let Some((meta, before)) = replaced.try_next().await? {
            if meta.last_modified < oldest
                && !needed.contains(&before)
                && let Some(path) = relative(&folder, &before)
            {
                found.push((path, meta));
            }
        }
        drop(replaced);
        finish(self.store().as_ref(), found, vacuum).await
    }

    /// Paths of files that versions younger than `oldest` took away.
    async fn removed_since(&self, newest: u64, oldest: DateTime<Utc>) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        // Boxed before they meet the stream: see `publish`.
        let reads = (0..=newest)
            .rev()
            .map(|version| self.record_removals(version).boxed());
        let mut records = stream::iter(reads).buffered(AT_ONCE);
        while let Some(record) = records.try_next().await? {
            let Some((written_at, paths)) = record else {
                // Older records were cleaned away, so they are older than any retention.
                break;
            };
            if written_at < oldest {
                break;
            }
            removed.extend(paths);
        }
        Ok(removed)
    }
}

pub(crate) fn oldest_kept(now: DateTime<Utc>, keep: Duration) -> DateTime<Utc> {
    let keep = TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(keep).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Deletes what was found, unless it was only looked for.
pub(crate) async fn finish(
    store: &dyn object_store::ObjectStore,
    found: Vec<(String, ObjectMeta)>,
    vacuum: Vacuum,
) -> Result<Vacuumed> {
    if !vacuum.dry_run {
        let deletes = found.iter().map(|(_, meta)| async move {
            match store.delete(&meta.location).await {
                // Somebody else was there.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::store("delete", &meta.location, error)),
            }
        });
        let deletes = stream::iter(deletes.collect::<Vec<_>>());
        deletes
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    let leftover = |(path, meta): (String, ObjectMeta)| Leftover {
        path,
        size: meta.size,
        written_at: meta.last_modified,
    };
    let mut files: Vec<Leftover> = found.into_iter().map(leftover).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Vacuumed { files })
}

/// A path below a folder.
pub(crate) fn relative(folder: &Path, path: &Path) -> Option<String> {
    let parts: Vec<String> = path
        .prefix_match(folder)?
        .map(|part| part.as_ref().to_owned())
        .collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Whether a file is of a kind that tables hold: not a log, not what others hide, and Parquet.
fn is_data(path: &str) -> bool {
    let is_hidden =
        |part: &str| (part.starts_with('_') || part.starts_with('.')) && !part.contains('=');
    path.ends_with(".parquet") && !path.split('/').any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_is_ever_thrown_away() {
        for path in ["a.parquet", "_day=1/a.parquet", "x/y=2/b.parquet"] {
            assert!(is_data(path), "{path}");
        }
        for path in [
            "_delta_log/00000000000000000010.checkpoint.parquet",
            "_change_data/a.parquet",
            "x/.hidden/a.parquet",
            "notes.txt",
        ] {
            assert!(!is_data(path), "{path}");
        }
    }

    #[test]
    fn what_is_kept_reaches_back_no_further_than_time() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        assert_eq!(
            oldest_kept(now, Duration::from_secs(3600)),
            now - TimeDelta::hours(1)
        );
        assert_eq!(oldest_kept(now, Duration::MAX), DateTime::UNIX_EPOCH);
    }
}
