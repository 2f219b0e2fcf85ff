//! Who keeps the tables of a lake fit by itself: one owner at a time, whatever number of masters there is.
//!
//! `<root>/_drumline/upkeep/<epoch>.json` is made by create-only put: whoever makes the next epoch is the owner, and
//! everybody else of an older one is not any more. An owner says that it lives by a file beside it that grows; others
//! judge by their own clocks how long it has not grown, so that no two clocks are ever compared. What an owner commits
//! names its epoch, and is refused under an older one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore as _, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::record_log::{Created, RecordLog, decode, encode};
use crate::{Error, Lake, Result};

/// An owner that is not heard of for so long has lost it.
const SILENCE: Duration = Duration::from_secs(30);

/// The ownership of a lake's upkeep.
#[derive(Debug, Clone)]
pub struct Lease {
    lake: Lake,
    log: RecordLog,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    epoch: u64,
    attempt: Uuid,
    owner: String,
    at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Beat {
    beat: u64,
    /// The owner has gone, and anybody may follow at once.
    released: bool,
}

/// What is seen of an ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number; 0 before the first.
    pub epoch: u64,
    beat: u64,
    released: bool,
}

/// What a master knows of an ownership, and does about it. Pure.
#[derive(Debug, Default)]
pub struct Candidate {
    /// The epoch that is ours, and when the store was last told that we live.
    held: Option<(u64, Instant)>,
    seen: Option<(Seen, Instant)>,
}

/// What a [`Candidate`] is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It owns this epoch: say that it lives.
    Own(u64),
    /// Nobody does: try to make this one.
    Take(u64),
    /// Another is the owner.
    Wait,
}

impl Candidate {
    /// What to do, after the newest ownership was looked at.
    pub fn step(&mut self, now: Instant, found: &Seen) -> Turn {
        if let Some((epoch, _)) = self.held {
            match epoch == found.epoch {
                true => return Turn::Own(epoch),
                false => self.held = None,
            }
        }
        let is_news = self.seen.as_ref().is_none_or(|(seen, _)| seen != found);
        if is_news {
            self.seen = Some((found.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let is_free = found.epoch == 0 || found.released;
        match is_free || now.duration_since(since) >= SILENCE {
            true => Turn::Take(found.epoch + 1),
            false => Turn::Wait,
        }
    }

    /// The store was told that the owner of this epoch lives.
    pub fn told(&mut self, now: Instant, epoch: u64) {
        self.held = Some((epoch, now));
    }

    /// The epoch that is ours, while nobody else can have taken it.
    pub fn epoch(&self, now: Instant) -> Option<u64> {
        let (epoch, told) = self.held?;
        (now.duration_since(told) < SILENCE / 2).then_some(epoch)
    }
}

impl Lease {
    /// That of a lake.
    pub fn of(lake: &Lake) -> Self {
        let folder = lake.own_folder().join("upkeep");
        let log = RecordLog::new(lake.store().clone(), folder, "the lake's upkeep".to_owned());
        Self {
            lake: lake.clone(),
            log,
        }
    }

    fn beat_of(&self, epoch: u64) -> Path {
        self.log
            .folder()
            .clone()
            .join(format!("{epoch:020}.alive.json"))
    }

    /// The newest epoch; 0 before the first.
    ///
    /// # Errors
    /// The lake cannot be read.
    pub async fn epoch(&self) -> Result<u64> {
        let folder = self.log.folder();
        let listed: Vec<_> = self
            .lake
            .store()
            .list(Some(folder))
            .try_collect()
            .await
            .map_err(|source| Error::store("list", folder, source))?;
        let names = listed.iter().filter_map(|meta| meta.location.filename());
        let epochs = names.filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
        Ok(epochs.max().unwrap_or_default())
    }

    /// What there is to see of the newest ownership.
    ///
    /// # Errors
    /// The lake cannot be read.
    pub async fn look(&self) -> Result<Seen> {
        let epoch = self.epoch().await?;
        let path = self.beat_of(epoch);
        let failed = |source| Error::store("read", &path, source);
        let beat = match self.lake.store().get(&path).await {
            Ok(found) => decode(&path, &found.bytes().await.map_err(failed)?)?,
            Err(StoreError::NotFound { .. }) => Beat {
                beat: 0,
                released: false,
            },
            Err(error) => return Err(failed(error)),
        };
        Ok(Seen {
            epoch,
            beat: beat.beat,
            released: beat.released,
        })
    }

    /// Tries to own an epoch.
    ///
    /// # Errors
    /// The lake cannot be written, or nobody knows whether it was.
    pub async fn take(&self, epoch: u64, owner: &str) -> Result<bool> {
        let record = Record {
            epoch,
            attempt: Uuid::new_v4(),
            owner: owner.to_owned(),
            at: Utc::now(),
        };
        let created = self.log.create(epoch, encode(&record)?, record.attempt);
        Ok(matches!(created.await?, Created::Landed))
    }

    /// Says that the owner of an epoch lives; `released`: that it goes.
    ///
    /// # Errors
    /// The lake cannot be written.
    pub async fn beat(&self, epoch: u64, beat: u64, released: bool) -> Result<()> {
        let path = self.beat_of(epoch);
        let body = encode(&Beat { beat, released })?;
        let put = self.lake.store().put(&path, body.into()).await;
        put.map(|_| ())
            .map_err(|source| Error::store("write", &path, source))
    }

    /// Refuses what an owner does that is none any more.
    ///
    /// # Errors
    /// [`Error::NotOwner`], or the lake cannot be read.
    pub async fn check(&self, epoch: u64) -> Result<()> {
        let newest = self.epoch().await?;
        match newest == epoch {
            true => Ok(()),
            false => Err(Error::NotOwner { epoch, newest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stores;

    fn seen(epoch: u64, beat: u64) -> Seen {
        Seen {
            epoch,
            beat,
            released: false,
        }
    }

    #[test]
    fn an_owner_that_is_silent_is_followed_and_one_that_speaks_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut candidate = Candidate::default();
        assert_eq!(candidate.step(at(0), &seen(3, 1)), Turn::Wait);
        assert_eq!(candidate.step(at(29), &seen(3, 2)), Turn::Wait);
        assert_eq!(candidate.step(at(58), &seen(3, 2)), Turn::Wait);
        assert_eq!(candidate.step(at(59), &seen(3, 2)), Turn::Take(4));
        candidate.told(at(59), 4);
        assert_eq!(candidate.step(at(60), &seen(4, 0)), Turn::Own(4));
        assert_eq!(candidate.epoch(at(73)), Some(4));
        // Long before others may follow, it takes itself for none.
        assert_eq!(candidate.epoch(at(75)), None);
        assert_eq!(candidate.step(at(80), &seen(5, 0)), Turn::Wait);
        assert_eq!(candidate.epoch(at(80)), None);
    }

    #[test]
    fn one_that_went_is_followed_at_once() {
        let now = Instant::now();
        let gone = Seen {
            released: true,
            ..seen(7, 9)
        };
        assert_eq!(Candidate::default().step(now, &gone), Turn::Take(8));
        assert_eq!(Candidate::default().step(now, &seen(0, 0)), Turn::Take(1));
    }

    #[tokio::test]
    async fn of_two_that_take_an_epoch_one_has_it_and_the_former_is_fenced() {
        let lake = Lake::open("memory:///lake", Stores::from_env())
            .await
            .unwrap();
        let (one, other) = (Lease::of(&lake), Lease::of(&lake));
        assert_eq!(one.look().await.unwrap().epoch, 0);
        let (a, b) = tokio::join!(one.take(1, "a"), other.take(1, "b"));
        assert_ne!(a.unwrap(), b.unwrap());
        one.beat(1, 5, false).await.unwrap();
        assert_eq!(other.look().await.unwrap(), seen(1, 5));
        one.check(1).await.unwrap();
        assert!(other.take(2, "b").await.unwrap());
        let error = one.check(1).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotOwner {
                    epoch: 1,
                    newest: 2
                }
            ),
            "{error}"
        );
        assert_eq!(other.look().await.unwrap(), seen(2, 0));
    }
}
