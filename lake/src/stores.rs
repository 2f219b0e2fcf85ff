//! Object stores by URL: one per bucket, built on first use, shared by all.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use url::Url;

use crate::{Error, Result};

/// All object stores of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {}

impl Stores {
    /// Stores configured by the environment, with the names that `object_store`'s builders know.
    pub fn from_env() -> Self {
        Self::default()
    }

    /// The store for a URL, built on first use.
    pub fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let _ = &self.inner;
        Err(Error::Location {
            url: url.to_string(),
            reason: "not built yet".to_owned(),
        })
    }

    /// Puts a store in place for a URL's scheme and host (tests, stores in memory).
    pub fn insert(&self, _url: &Url, _store: Arc<dyn ObjectStore>) {}

    /// The same stores as DataFusion wants them.
    pub fn registry(&self) -> Arc<dyn ObjectStoreRegistry> {
        Arc::new(self.clone())
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(
        &self,
        _url: &Url,
        _store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        Ok(self.get(url)?)
    }
}
