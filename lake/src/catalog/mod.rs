//! The catalog: names of schemas, tables, views and streams, as a log of changes in the lake.
//!
//! `<root>/_drumline/catalog/<n>.json`, one record per atomic step, n counting up from 1. A reader folds the
//! records since the newest checkpoint into a [`CatalogSnapshot`]; a writer decides on the newest snapshot
//! and creates the next record, and who loses that race reads what the other did and decides again.

mod object;
mod snapshot;

use std::sync::Arc;

use chrono::{DateTime, Utc};
pub use object::{External, FileFormat, Format, Object, ObjectKind, StatementId, StreamObject};
use serde::{Deserialize, Serialize};
pub use snapshot::{CatalogSnapshot, Change};
use tokio::sync::watch;
use uuid::Uuid;

use crate::record_log::{CHECKPOINT_INTERVAL, Created, MAX_RACES, RecordLog, back_off};
use crate::record_log::{decode, encode};
use crate::{Error, Lake, Result};

/// What this build writes; a record of a newer one is refused rather than misread.
const RECORD_FORMAT: u32 = 2;

/// The catalog of a lake. Cheap to clone; all clones see the same current snapshot.
#[derive(Debug, Clone)]
pub struct Catalog {
    lake: Lake,
    log: RecordLog,
    current: Arc<watch::Sender<Arc<CatalogSnapshot>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    version: u64,
    attempt: Uuid,
    at: DateTime<Utc>,
    /// The statement that made it, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_by: Option<StatementId>,
    changes: Vec<Change>,
}

/// A record's frame, which every format has: what can be told of a record that cannot be read.
#[derive(Debug, Deserialize)]
struct Frame {
    format: u32,
    version: u64,
}

/// What became of a change that a statement makes.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The newest version.
    pub snapshot: Arc<CatalogSnapshot>,
    /// The statement had made its change before, and nothing was done now.
    pub already: bool,
    /// The catalog was changed now.
    pub changed: bool,
}

impl Catalog {
    /// Opens the catalog of a lake; an empty lake has an empty one.
    pub async fn open(lake: Lake) -> Result<Self> {
        let folder = lake.own_folder().join("catalog");
        let log = RecordLog::new(lake.store().clone(), folder, "the catalog".to_owned());
        let snapshot: CatalogSnapshot = match log.read_checkpoint().await? {
            Some(bytes) => decode(&log.path(0), &bytes)?,
            None => CatalogSnapshot::default(),
        };
        let catalog = Self {
            lake,
            log,
            current: Arc::new(watch::Sender::new(Arc::new(snapshot))),
        };
        catalog.refresh().await?;
        Ok(catalog)
    }

    /// The lake it belongs to.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The newest version this process has seen.
    pub fn current(&self) -> Arc<CatalogSnapshot> {
        self.current.borrow().clone()
    }

    /// Tells of every version this process sees from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<CatalogSnapshot>> {
        self.current.subscribe()
    }

    /// Reads what others have changed.
    pub async fn refresh(&self) -> Result<Arc<CatalogSnapshot>> {
        let known = self.current();
        let records = self.log.read_from(known.version + 1).await?;
        if records.is_empty() {
            return Ok(known);
        }
        let mut snapshot = known.as_ref().clone();
        for bytes in records {
            let path = self.log.path(snapshot.version + 1);
            let frame: Frame = decode(&path, &bytes)?;
            if frame.format > RECORD_FORMAT || frame.version != snapshot.version + 1 {
                return Err(Error::Corrupt {
                    path: path.to_string(),
                    reason: format!(
                        "it is version {} in format {}, and this build reads formats up to {RECORD_FORMAT}",
                        frame.version, frame.format
                    ),
                });
            }
            let record: Record = decode(&path, &bytes)?;
            snapshot = snapshot.apply_made_by(&record.changes, record.made_by.as_ref())?;
        }
        Ok(self.show(snapshot))
    }

    /// Makes one atomic step: `decide` sees the newest version and says what to change (nothing is fine).
    /// Who loses a race reads what the other did and decides again.
    pub async fn change(
        &self,
        decide: impl Fn(&CatalogSnapshot) -> Result<Vec<Change>> + Send + Sync,
    ) -> Result<Arc<CatalogSnapshot>> {
        Ok(self.step(None, decide).await?.snapshot)
    }

    /// The same for a statement, whose identity goes into the very record: repeated, it changes nothing.
    pub async fn change_by(
        &self,
        statement: &StatementId,
        decide: impl Fn(&CatalogSnapshot) -> Result<Vec<Change>> + Send + Sync,
    ) -> Result<Changed> {
        self.step(Some(statement), decide).await
    }

    async fn step(
        &self,
        statement: Option<&StatementId>,
        decide: impl Fn(&CatalogSnapshot) -> Result<Vec<Change>> + Send + Sync,
    ) -> Result<Changed> {
        let unchanged = |snapshot, already| Changed {
            snapshot,
            already,
            changed: false,
        };
        for race in 1..=MAX_RACES {
            let snapshot = self.refresh().await?;
            if let Some(statement) = statement
                && snapshot.has_done(statement)?
            {
                return Ok(unchanged(snapshot, true));
            }
            let changes = decide(&snapshot)?;
            if changes.is_empty() {
                return Ok(unchanged(snapshot, false));
            }
            let next = snapshot.apply_made_by(&changes, statement)?;
            snapshot.check_streams(&next)?;
            let attempt = Uuid::new_v4();
            let record = Record {
                format: RECORD_FORMAT,
                version: next.version,
                attempt,
                at: Utc::now(),
                made_by: statement.cloned(),
                changes,
            };
            let created = self
                .log
                .create(next.version, encode(&record)?, attempt)
                .await?;
            match created {
                Created::Landed => {
                    let snapshot = self.show(next);
                    self.checkpoint(&snapshot).await;
                    return Ok(Changed {
                        snapshot,
                        already: false,
                        changed: true,
                    });
                }
                Created::Taken => back_off(race.min(4)).await,
            }
        }
        Err(self.log.contended())
    }

    /// A checkpoint that fails costs the next opener some time, no more.
    async fn checkpoint(&self, snapshot: &CatalogSnapshot) {
        if !snapshot.version.is_multiple_of(CHECKPOINT_INTERVAL) {
            return;
        }
        let written = match encode(snapshot) {
            Ok(bytes) => self.log.write_checkpoint(snapshot.version, bytes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(version = snapshot.version, %error, "no checkpoint of the catalog");
        }
    }

    fn show(&self, snapshot: CatalogSnapshot) -> Arc<CatalogSnapshot> {
        let snapshot = Arc::new(snapshot);
        self.current.send_if_modified(|current| {
            let newer = snapshot.version > current.version;
            if newer {
                *current = snapshot.clone();
            }
            newer
        });
        self.current()
    }
}
