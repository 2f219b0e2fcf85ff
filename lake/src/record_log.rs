//! A log of numbered objects, written by create-only put: what the catalog and every table's log rest on.
//!
//! Whoever creates number n wins it. A put whose answer is lost (a time-out, a 503 after it landed) is
//! resolved by looking: each record carries the id of the attempt that wrote it. Checkpoints only make
//! opening quick; records are never deleted here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode};
use rand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

/// A checkpoint is written when a record's number is a multiple of this.
pub(crate) const CHECKPOINT_INTERVAL: u64 = 100;

/// How often a put with an unclear outcome is tried.
const PUT_ATTEMPTS: u32 = 6;

/// How many races one change may lose before it gives up.
pub(crate) const MAX_RACES: u32 = 100;

/// What became of creating a record.
#[derive(Debug)]
pub(crate) enum Created {
    /// It is ours.
    Landed,
    /// Somebody else was faster.
    Taken,
}

/// A log in a folder.
#[derive(Debug, Clone)]
pub(crate) struct RecordLog {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// What the log is of, for messages.
    object: String,
}

/// What a log's folder holds.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) records: BTreeSet<u64>,
    pub(crate) checkpoints: BTreeSet<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastCheckpoint {
    version: u64,
}

impl RecordLog {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, folder: Path, object: String) -> Self {
        Self {
            store,
            folder,
            object,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, version: u64) -> Path {
        self.folder.clone().join(format!("{version:020}.json"))
    }

    fn checkpoint_path(&self, version: u64) -> Path {
        self.folder
            .clone()
            .join(format!("{version:020}.checkpoint.json"))
    }

    /// A record, if it is there.
    pub(crate) async fn read(&self, version: u64) -> Result<Option<Bytes>> {
        self.get(&self.path(version)).await
    }

    /// All records from a version on, in order, up to the first gap.
    pub(crate) async fn read_from(&self, first: u64) -> Result<Vec<Bytes>> {
        let mut records = Vec::new();
        // Mostly there is nothing new: ask for one record first, then for more and more at a time.
        let mut batch = 1;
        let mut next = first;
        loop {
            let found: Vec<Option<Bytes>> = stream::iter(
                (next..next + batch)
                    .map(|version| self.read(version).boxed())
                    .collect::<Vec<_>>(),
            )
            .buffered(batch as usize)
            .try_collect()
            .await?;
            let present = found.iter().take_while(|record| record.is_some()).count();
            records.extend(found.into_iter().map_while(|record| record));
            if (present as u64) < batch {
                return Ok(records);
            }
            next += batch;
            batch = (batch * 4).min(32);
        }
    }

    /// A record and when it was put there.
    pub(crate) async fn read_dated(&self, version: u64) -> Result<Option<(Bytes, DateTime<Utc>)>> {
        let path = self.path(version);
        let failed = |source| Error::store("read", &path, source);
        match self.store.get(&path).await {
            Ok(found) => {
                let at = found.meta.last_modified;
                Ok(Some((found.bytes().await.map_err(failed)?, at)))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// The records from `first` to `last`, without those that are not there.
    pub(crate) async fn read_between(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        let reads: Vec<_> = (first..=last)
            .map(|version| self.read(version).boxed())
            .collect();
        let found: Vec<Option<Bytes>> = stream::iter(reads).buffered(32).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The newest checkpoint that is not newer than a version.
    pub(crate) async fn read_checkpoint_before(&self, version: u64) -> Result<Option<Bytes>> {
        let mut at = version / CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL;
        while at > 0 {
            if let Some(found) = self.get(&self.checkpoint_path(at)).await? {
                return Ok(Some(found));
            }
            at -= CHECKPOINT_INTERVAL;
        }
        Ok(None)
    }

    /// The numbers of all records and checkpoints that are there, whoever wrote them.
    pub(crate) async fn numbers(&self) -> Result<Numbers> {
        let mut numbers = Numbers::default();
        let mut listed = self.store.list(Some(&self.folder));
        while let Some(found) = listed.next().await {
            let found = found.map_err(|source| Error::store("list", &self.folder, source))?;
            let name = found.location.filename().unwrap_or_default();
            let Some((number, rest)) = name.split_once('.') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            if rest == "json" {
                numbers.records.insert(number);
            } else if rest.starts_with("checkpoint") {
                numbers.checkpoints.insert(number);
            }
        }
        Ok(numbers)
    }

    /// Creates a record. `attempt` must stand in the payload.
    pub(crate) async fn create(
        &self,
        version: u64,
        payload: Bytes,
        attempt: Uuid,
    ) -> Result<Created> {
        let path = self.path(version);
        let mut tries = 0;
        loop {
            let put = self
                .store
                .put_opts(&path, payload.clone().into(), PutMode::Create.into())
                .await;
            let error = match put {
                Ok(_) => return Ok(Created::Landed),
                Err(error) if is_final(&error) => {
                    return Err(Error::store("write", &path, error));
                }
                Err(error) => error,
            };
            // It may have landed all the same: look whose record it is.
            match self.read(version).await {
                Ok(Some(found)) if contains(&found, attempt) => return Ok(Created::Landed),
                Ok(Some(_)) => return Ok(Created::Taken),
                Ok(None) | Err(_) => {}
            }
            tries += 1;
            if tries == PUT_ATTEMPTS {
                return Err(Error::OutcomeUnknown {
                    object: self.object.clone(),
                    source: error,
                });
            }
            back_off(tries).await;
        }
    }

    /// The newest checkpoint that is announced.
    pub(crate) async fn read_checkpoint(&self) -> Result<Option<Bytes>> {
        let hint = self.folder.clone().join("_last_checkpoint");
        let Some(bytes) = self.get(&hint).await? else {
            return Ok(None);
        };
        let last: LastCheckpoint = decode(&hint, &bytes)?;
        self.get(&self.checkpoint_path(last.version)).await
    }

    /// Writes a checkpoint of a version and announces it.
    pub(crate) async fn write_checkpoint(&self, version: u64, payload: Bytes) -> Result<()> {
        let path = self.checkpoint_path(version);
        self.store
            .put(&path, payload.into())
            .await
            .map_err(|source| Error::store("write", &path, source))?;
        let hint = self.folder.clone().join("_last_checkpoint");
        let body = encode(&LastCheckpoint { version })?;
        self.store
            .put(&hint, body.into())
            .await
            .map_err(|source| Error::store("write", &hint, source))?;
        Ok(())
    }

    pub(crate) fn contended(&self) -> Error {
        Error::Contended {
            object: self.object.clone(),
            attempts: MAX_RACES,
        }
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let failed = |source| Error::store("read", path, source);
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }
}

/// Waits a little, longer each time, never in step with others.
pub(crate) async fn back_off(tries: u32) {
    let ceiling = 25_u64 << tries.min(7);
    let millis = rand::rng().random_range(ceiling / 2..=ceiling);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::bug(format!("a record cannot be encoded: {error}")))
}

pub(crate) fn decode<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Corrupt {
        path: path.to_string(),
        reason: error.to_string(),
    })
}

fn contains(record: &[u8], attempt: Uuid) -> bool {
    let id = attempt.to_string();
    record
        .windows(id.len())
        .any(|window| window == id.as_bytes())
}

/// Errors that say for sure that nothing was written, and will say so again.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::NotFound { .. }
            | StoreError::InvalidPath { .. }
            | StoreError::NotSupported { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::UnknownConfigurationKey { .. }
    )
}
