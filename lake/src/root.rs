//! A lake: a root URL, the stores to reach it, and the layout of what Drumline keeps under it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;
use uuid::Uuid;

use crate::table::Shared;
use crate::{Error, Result, Stores};

/// Folder under the root that belongs to Drumline itself.
pub(crate) const OWN_FOLDER: &str = "_drumline";

/// A lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Url,
    path: Path,
    stores: Stores,
    store: Arc<dyn ObjectStore>,
    /// What this process knows of each table, by the table's id.
    tables: Mutex<HashMap<Uuid, Arc<Shared>>>,
}

/// More tables than this are not remembered while nobody holds them.
const REMEMBERED_TABLES: usize = 1000;

impl Lake {
    /// Opens a lake by path or URL; a local root is made if it is missing.
    pub async fn open(url: &str, stores: Stores) -> Result<Self> {
        let root = parse_root(url)?;
        if root.scheme() == "file" {
            let folder = root.to_file_path().map_err(|()| Error::Location {
                url: url.to_owned(),
                reason: "it is no local path".to_owned(),
            })?;
            tokio::fs::create_dir_all(&folder)
                .await
                .map_err(|source| Error::Folder {
                    path: folder.display().to_string(),
                    source,
                })?;
        }
        let store = stores.get(&root)?;
        let path = path_of(&root)?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                path,
                stores,
                store,
                tables: Mutex::default(),
            }),
        })
    }

    /// The root, ending in a slash.
    pub fn root(&self) -> &Url {
        &self.inner.root
    }

    /// The stores it was opened with.
    pub fn stores(&self) -> &Stores {
        &self.inner.stores
    }

    /// Writes and deletes a small object, as commits do: refused where the lake cannot be written.
    pub async fn check_writable(&self) -> Result<()> {
        let path = self
            .own_folder()
            .join(format!("write-check-{}", Uuid::new_v4()).as_str());
        let failed = |source| Error::NotWritable {
            root: self.root().to_string(),
            source,
        };
        let options = object_store::PutMode::Create.into();
        self.store()
            .put_opts(&path, "ok".into(), options)
            .await
            .map_err(failed)?;
        self.store().delete(&path).await.map_err(failed)
    }

    /// Resolves a location given by a user (a path relative to the root, or a URL under it) to a folder
    /// URL under the root, ending in a slash; anything else is refused.
    pub fn resolve_location(&self, location: &str) -> Result<Url> {
        let refuse = |reason: &str| Error::LocationRefused {
            location: location.to_owned(),
            reason: reason.to_owned(),
        };
        let root = self.root();
        let url = if location.contains("://") || location.starts_with('/') {
            let url = parse_root(location)?;
            if url.scheme() != root.scheme() || url.authority() != root.authority() {
                return Err(refuse(&format!("it is not under the lake's root {root}")));
            }
            url
        } else {
            let mut url = root.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments
                    .pop_if_empty()
                    .extend(location.split('/').filter(|s| !s.is_empty()))
                    .push("");
            }
            url
        };
        if location.split('/').any(|part| part == ".." || part == ".") {
            return Err(refuse("it holds '..' or '.'"));
        }
        let relative = path_of(&url)?;
        let Some(parts) = relative.prefix_match(self.path()) else {
            return Err(refuse(&format!("it is not under the lake's root {root}")));
        };
        let parts: Vec<_> = parts.collect();
        match parts.first() {
            None => Err(refuse("it is the lake's root itself")),
            Some(first) if first.as_ref() == OWN_FOLDER => {
                Err(refuse("that folder belongs to Drumline itself"))
            }
            Some(_) => Ok(url),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.store
    }

    /// The root as a path of its store.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn own_folder(&self) -> Path {
        self.path().clone().join(OWN_FOLDER)
    }

    /// What all handles of a table share.
    pub(crate) fn shared_table(&self, id: Uuid) -> Arc<Shared> {
        let mut tables = self.tables();
        if tables.len() > REMEMBERED_TABLES {
            tables.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        tables.entry(id).or_default().clone()
    }

    pub(crate) fn forget_table(&self, id: Uuid) {
        self.tables().remove(&id);
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Shared>>> {
        self.inner
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder URL of a path under the root.
    pub(crate) fn url_of(&self, folder: &Path) -> Result<Url> {
        let mut url = self.root().clone();
        let below = folder
            .prefix_match(self.path())
            .ok_or_else(|| Error::bug(format!("'{folder}' is not under {url}")))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(below.map(|part| part.as_ref().to_owned()))
                .push("");
        }
        Ok(url)
    }

    /// Where the files of one attempt are staged.
    pub(crate) fn staging(&self, attempt: &str) -> Path {
        self.own_folder().join("staging").join(attempt)
    }
}

/// The path of a URL within its store.
pub(crate) fn path_of(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path()).map_err(|error| Error::Location {
        url: url.to_string(),
        reason: error.to_string(),
    })
}

pub(crate) fn parse_root(text: &str) -> Result<Url> {
    let wrong = |reason: &str| Error::Location {
        url: text.to_owned(),
        reason: reason.to_owned(),
    };
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut url = if text.contains("://") {
        Url::parse(text).map_err(|error| wrong(&error.to_string()))?
    } else {
        let path = std::path::absolute(text).map_err(|error| wrong(&error.to_string()))?;
        Url::from_directory_path(path).map_err(|()| wrong("it is no absolute path"))?
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it holds '?' or '#'"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lake() -> Lake {
        Lake::open("memory:///some/lake", Stores::from_env())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn locations_resolve_under_the_root() {
        let lake = lake().await;
        for given in [
            "listen_events",
            "listen_events/",
            "memory:///some/lake/listen_events",
        ] {
            assert_eq!(
                lake.resolve_location(given).unwrap().as_str(),
                "memory:///some/lake/listen_events/",
                "{given}"
            );
        }
    }

    #[tokio::test]
    async fn locations_elsewhere_are_refused() {
        let lake = lake().await;
        for given in [
            "../x",
            "a/../../x",
            "memory:///some/other",
            "memory:///some/lakes/x",
            "gs://bucket/x",
            "/etc",
            "_drumline/staging",
            "memory:///some/lake/",
            "memory:///some/lake/../x",
            "memory:///some/lake/a/%2e%2e/%2e%2e/x",
            "",
        ] {
            assert!(lake.resolve_location(given).is_err(), "{given}");
        }
    }

    #[tokio::test]
    async fn a_local_root_is_made_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("with space/lake");
        let lake = Lake::open(root.to_str().unwrap(), Stores::from_env())
            .await
            .unwrap();
        lake.check_writable().await.unwrap();
        assert!(root.is_dir());
        assert!(lake.root().as_str().ends_with("/with%20space/lake/"));
    }

    #[tokio::test]
    async fn a_lake_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(OWN_FOLDER), "in the way").unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), Stores::from_env())
            .await
            .unwrap();
        let error = lake.check_writable().await.unwrap_err();
        assert!(matches!(error, Error::NotWritable { .. }), "{error}");
    }
}
