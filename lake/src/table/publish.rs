//! Moving committed files of plain Parquet tables from where they were staged to where listers find them, and files
//! that were replaced to where only snapshots that name them do.
//!
//! The commit is in before this begins, so everything here may be repeated, by anybody, at any time: a file
//! whose source is gone has been moved if its target is there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

use super::state::Unpublished;
use crate::record_log::back_off;
use crate::{Error, Result};

/// How many files are moved at the same time.
const MOVING: usize = 16;

const TRIES: u32 = 3;

/// Moves files just committed; one that cannot be moved does not hold up the others.
pub(crate) async fn publish(store: &Arc<dyn ObjectStore>, files: &[Unpublished]) -> Result<()> {
    // Boxed before they meet the stream: a closure over borrowed files would make callers' futures lose `Send`.
    let moves: Vec<_> = files
        .iter()
        .map(|file| publish_one(store, file).boxed())
        .collect();
    let moved: Vec<Result<()>> = stream::iter(moves).buffer_unordered(MOVING).collect().await;
    moved.into_iter().collect()
}

/// Completes what another process may have begun: lists the staging folders, and moves what is still there.
pub(super) async fn complete(store: &Arc<dyn ObjectStore>, files: &[Unpublished]) -> Result<()> {
    let mut folders: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
    for file in files {
        if let Some((folder, _)) = file.source.rsplit_once('/') {
            folders.entry(folder).or_default();
        }
    }
    for (folder, present) in &mut folders {
        let prefix = parse(folder)?;
        let listed: Vec<_> = store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|source| Error::store("list", folder, source))?;
        present.extend(listed.into_iter().map(|object| object.location.to_string()));
    }
    let left: Vec<Unpublished> = files
        .iter()
        .filter(|file| {
            let mut folders = folders.values();
            folders.any(|folder| folder.contains(&file.source))
        })
        .cloned()
        .collect();
    publish(store, &left).await
}

async fn publish_one(store: &Arc<dyn ObjectStore>, file: &Unpublished) -> Result<()> {
    let source = parse(&file.source)?;
    let Some(target) = &file.target else {
        return match store.delete(&source).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store("delete", &file.source, error)),
        };
    };
    let target = parse(target)?;
    let mut tries = 0;
    loop {
        let error = match store.rename(&source, &target).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if file.replaced && matches!(error, StoreError::NotFound { .. }) {
            return Ok(());
        }
        // Somebody else may have moved it, or the copy is there and only the answer was lost. Then the
        // source may be left behind, where nobody reads it.
        if matches!(error, StoreError::NotFound { .. }) && store.head(&target).await.is_ok() {
            return Ok(());
        }
        // A crash between copy and delete; some stores then refuse to copy once more.
        let copied = matches!(
            error,
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }
        );
        if copied && store.head(&target).await.is_ok() {
            return store
                .delete(&source)
                .await
                .map_err(|source| Error::store("publish", &target, source));
        }
        tries += 1;
        if tries == TRIES {
            return Err(Error::store("publish", &target, error));
        }
        back_off(tries).await;
    }
}

fn parse(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|error| Error::bug(format!("'{path}' is no path: {error}")))
}
