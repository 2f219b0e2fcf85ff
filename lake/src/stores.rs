//! Object stores by URL: one per scheme and host (a bucket, the local disk), built on first use, shared by all.
//!
//! Builders are configured by the environment, with the names `object_store` knows (`GOOGLE_SERVICE_ACCOUNT`,
//! `GOOGLE_SERVICE_ACCOUNT_KEY`, `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, ...). A stand-in for Google Cloud Storage
//! is named by `gcs_base_url` in the service account's JSON.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, RetryConfig};
use url::Url;

use crate::{Error, Result};

/// All object stores of a process. Cheap to clone; clones share the stores.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    by_bucket: Arc<Mutex<HashMap<String, Arc<dyn ObjectStore>>>>,
}

impl Stores {
    /// Stores configured by the environment.
    pub fn from_env() -> Self {
        Self::default()
    }

    /// The store for a URL, built on first use. Its paths start at the bucket (or at `/` for local ones).
    pub fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = bucket(url);
        if let Some(store) = self.lock().get(&key) {
            return Ok(store.clone());
        }
        let built = build(url)?;
        Ok(self.lock().entry(key).or_insert(built).clone())
    }

    /// Puts a store in place for a URL's scheme and host, instead of the one that would be built.
    pub fn insert(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.lock().insert(bucket(url), store)
    }

    /// The same stores as DataFusion wants them.
    pub fn registry(&self) -> Arc<dyn ObjectStoreRegistry> {
        Arc::new(self.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.by_bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.insert(url, store)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        Ok(self.get(url)?)
    }
}

fn bucket(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}

fn build(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    let failed = |source: object_store::Error| Error::Location {
        url: url.to_string(),
        reason: source.to_string(),
    };
    let need_bucket = || match url.host_str() {
        Some(host) if !host.is_empty() => Ok(host.to_owned()),
        _ => Err(Error::Location {
            url: url.to_string(),
            reason: "it names no bucket".to_owned(),
        }),
    };
    Ok(match url.scheme() {
        "file" => Arc::new(LocalFileSystem::new()),
        "memory" => Arc::new(InMemory::new()),
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(need_bucket()?)
                .with_retry(retry())
                .build()
                .map_err(failed)?,
        ),
        "s3" | "s3a" => Arc::new(
            AmazonS3Builder::from_env()
                .with_bucket_name(need_bucket()?)
                .with_retry(retry())
                .build()
                .map_err(failed)?,
        ),
        other => {
            return Err(Error::Location {
                url: url.to_string(),
                reason: format!("storage of kind '{other}' is not known"),
            });
        }
    })
}

/// Patient with a busy store, but short enough that a caller hears of a lost one within a minute.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 8,
        retry_timeout: Duration::from_secs(60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_store_serves_a_bucket() {
        let stores = Stores::from_env();
        let a = stores.get(&Url::parse("memory:///a").unwrap()).unwrap();
        let b = stores.get(&Url::parse("memory:///b").unwrap()).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        let other = stores.get(&Url::parse("memory://x/a").unwrap()).unwrap();
        assert!(!Arc::ptr_eq(&a, &other));
    }

    #[test]
    fn an_unknown_kind_of_storage_is_refused_by_name() {
        let error = Stores::from_env()
            .get(&Url::parse("ftp://host/x").unwrap())
            .unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::User);
        assert!(error.to_string().contains("'ftp'"), "{error}");
    }
}
