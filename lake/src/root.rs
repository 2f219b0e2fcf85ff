//! A lake: a root URL and the stores to reach it.

use std::sync::Arc;

use url::Url;

use crate::{Error, Result, Stores};

/// A lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Url,
    stores: Stores,
}

impl Lake {
    /// Opens a lake by path or URL; a local root is made if it is missing.
    pub async fn open(url: &str, stores: Stores) -> Result<Self> {
        let root = Url::parse(url).map_err(|_| Error::bug("not built yet"))?;
        Ok(Self {
            inner: Arc::new(Inner { root, stores }),
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

    /// Writes and deletes a small object.
    pub async fn check_writable(&self) -> Result<()> {
        Err(Error::bug("not built yet"))
    }

    /// Resolves a location given by a user (a path relative to the root, or a URL under it) to a folder
    /// URL under the root; anything else is refused.
    pub fn resolve_location(&self, _location: &str) -> Result<Url> {
        Err(Error::bug("not built yet"))
    }
}
