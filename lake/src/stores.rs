//! Object stores by URL: one per scheme and host (a bucket, the local disk), built on first use, shared by all.
//!
//! Builders are configured by the environment, with the names `object_store` knows (`GOOGLE_SERVICE_ACCOUNT`,
//! `GOOGLE_SERVICE_ACCOUNT_KEY`, `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, ...). A stand-in for Google Cloud Storage
//! is named by `gcs_base_url` in the service account's JSON. Settings of one bucket, by the same library's names, go
//! before those of the environment.

mod credentials;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, RetryConfig};
use url::Url;

use crate::moved::Following;
use crate::requests::Counting;
use crate::{Error, Result};

/// Settings of one bucket, by name; secrets among them.
pub type BucketSettings = BTreeMap<String, String>;

/// All object stores of a process. Cheap to clone; clones share the stores.
#[derive(Clone, Default)]
pub struct Stores {
    by_bucket: Arc<Mutex<HashMap<String, Arc<dyn ObjectStore>>>>,
    /// By scheme and bucket.
    settings: Arc<BTreeMap<String, BucketSettings>>,
}

/// Names the buckets alone: settings are secrets.
impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.lock().keys().cloned().collect();
        names.sort();
        f.debug_struct("Stores")
            .field("open", &names)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores configured by the environment.
    pub fn from_env() -> Self {
        Self::default()
    }

    /// Stores configured by the environment, and by settings of single buckets (`gs://bucket`, `s3://bucket`), which
    /// go before it.
    ///
    /// # Errors
    /// A bucket that is none, or a setting that its kind of store does not have. No value is ever in the error.
    pub fn configured(settings: BTreeMap<String, BucketSettings>) -> Result<Self> {
        let mut by_bucket = BTreeMap::new();
        for (name, settings) in settings {
            let wrong = |reason: String| Error::Location {
                url: name.clone(),
                reason,
            };
            let url = Url::parse(&name).map_err(|error| wrong(error.to_string()))?;
            for key in settings.keys() {
                let known = match url.scheme() {
                    "gs" => GoogleConfigKey::from_str(key).is_ok(),
                    "s3" | "s3a" => AmazonS3ConfigKey::from_str(key).is_ok(),
                    other => {
                        return Err(wrong(format!(
                            "storage of kind '{other}' has no settings; gs://bucket and s3://bucket do"
                        )));
                    }
                };
                if !known {
                    return Err(wrong(format!("its kind of store has no setting `{key}`")));
                }
            }
            by_bucket.insert(bucket(&url), settings);
        }
        Ok(Self {
            settings: Arc::new(by_bucket),
            ..Self::default()
        })
    }

    /// Which credentials a URL's store uses, in words.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn credentials(&self, url: &Url) -> Result<String, String> {
        if self.settings.contains_key(&bucket(url)) {
            return Ok("as set for this bucket".to_owned());
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match url.scheme() {
            "gs" => credentials::of_google(&variable),
            "s3" | "s3a" if variable("AWS_ACCESS_KEY_ID").is_some() => {
                Ok("the access key in AWS_ACCESS_KEY_ID".to_owned())
            }
            "s3" | "s3a" if variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() => {
                Ok("the web identity of AWS_WEB_IDENTITY_TOKEN_FILE".to_owned())
            }
            "s3" | "s3a" => Ok("this machine's own role (metadata server)".to_owned()),
            _ => Ok("this user's rights".to_owned()),
        }
    }

    /// The store for a URL, built on first use. Its paths start at the bucket (or at `/` for local ones).
    pub fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = bucket(url);
        if let Some(store) = self.lock().get(&key) {
            return Ok(store.clone());
        }
        let built = self.build(url)?;
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

    fn build(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
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
        let none = BucketSettings::new();
        let settings = self.settings.get(&bucket(url)).unwrap_or(&none);
        Ok(match url.scheme() {
            "file" => Arc::new(Counting(LocalFileSystem::new())),
            "memory" => Arc::new(Counting(InMemory::new())),
            "gs" => {
                self.credentials(url).map_err(|reason| Error::Location {
                    url: url.to_string(),
                    reason,
                })?;
                let mut builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(need_bucket()?)
                    .with_retry(retry());
                for (key, value) in settings {
                    let key = GoogleConfigKey::from_str(key).map_err(failed)?;
                    builder = builder.with_config(key, value);
                }
                Arc::new(Counting(builder.build().map_err(failed)?))
            }
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(need_bucket()?)
                    .with_retry(retry());
                for (key, value) in settings {
                    let key = AmazonS3ConfigKey::from_str(key).map_err(failed)?;
                    builder = builder.with_config(key, value);
                }
                Arc::new(Counting(builder.build().map_err(failed)?))
            }
            other => {
                return Err(Error::Location {
                    url: url.to_string(),
                    reason: format!("storage of kind '{other}' is not known"),
                });
            }
        })
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
        // Whoever scans reads files that were moved meanwhile where they are now.
        Ok(Arc::new(Following::new(self.get(url)?)))
    }
}

fn bucket(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
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

    #[test]
    fn settings_of_a_bucket_are_checked_by_name_and_never_shown() {
        let settings = |bucket: &str, key: &str| {
            let values = BTreeMap::from([(key.to_owned(), "hush".to_owned())]);
            Stores::configured(BTreeMap::from([(bucket.to_owned(), values)]))
        };
        let error = settings("s3://events", "acess_key_id")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("s3://events") && error.contains("`acess_key_id`"),
            "{error}"
        );
        assert!(!error.contains("hush"), "{error}");
        assert!(settings("/local", "x").is_err());
        assert!(settings("file:///local", "x").is_err());

        let stores = settings("s3://events", "aws_region").unwrap();
        let url = Url::parse("s3://events/lake").unwrap();
        assert_eq!(stores.credentials(&url).unwrap(), "as set for this bucket");
        stores.get(&url).unwrap();
        assert!(!format!("{stores:?}").contains("hush"), "{stores:?}");
    }
}
