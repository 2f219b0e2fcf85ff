//! Earlier versions of a table: which there are, what made them, and what they hold.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Table;
use super::log::Known;
use super::state::State;
use crate::writer::child;
use crate::{AsOf, Error, Result, TableSnapshot, Version};

/// Earlier versions of one table that a process remembers.
const REMEMBERED: usize = 8;

pub(super) type Past = VecDeque<Arc<State>>;

impl Table {
    /// An earlier version, or the newest. A version that never was, or whose files are gone, is an error that
    /// says which there are.
    pub async fn snapshot_at(&self, at: AsOf) -> Result<TableSnapshot> {
        let newest = self.newest().await?;
        let version = match at {
            AsOf::Version(version) => version,
            AsOf::Time(time) => self.version_at(time, newest.state.version).await?,
        };
        if version == newest.state.version {
            return Ok(self.snapshot_of(&newest.state));
        }
        if version > newest.state.version {
            return Err(self.no_version(at, self.log.oldest().await?, newest.state.version));
        }
        if let Some(state) = self.remembered(version) {
            return Ok(self.snapshot_of(&state));
        }
        let state = match self.log.load_at(version).await {
            Ok(state) => Arc::new(state),
            Err(error) => {
                let oldest = self.log.oldest().await?;
                return Err(match version < oldest {
                    true => self.no_version(at, oldest, newest.state.version),
                    false => error,
                });
            }
        };
        if self.is_cleaned(&state, &newest.state).await? {
            let oldest = self.oldest_whole(version, &newest).await?;
            return Err(self.no_version(at, oldest, newest.state.version));
        }
        self.remember(&state);
        Ok(self.snapshot_of(&state))
    }

    /// The newest versions, the newest first: as many as are asked for and still told of.
    pub async fn history(&self, limit: usize) -> Result<Vec<Version>> {
        let newest = self.newest().await?.state.version;
        let oldest = newest.saturating_sub(limit.saturating_sub(1) as u64);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let reads: Vec<_> = (oldest..=newest)
            .rev()
            .map(|version| self.log.describe(version).boxed())
            .collect();
        let told: Vec<Option<Version>> = stream::iter(reads).buffered(32).try_collect().await?;
        Ok(told.into_iter().map_while(|version| version).collect())
    }

    async fn newest(&self) -> Result<Known> {
        let known = self.refresh().await?;
        self.complete(known).await
    }

    /// The newest version that is not newer than a time. Commits are taken to be in the order of their times.
    async fn version_at(&self, time: DateTime<Utc>, newest: u64) -> Result<u64> {
        let oldest = self.log.oldest().await?;
        let is_later = |version: u64| async move {
            let told = self.log.describe(version).await?;
            // Of a version whose record is gone only a checkpoint is left: it is old.
            Ok::<_, Error>(told.and_then(|told| told.at).is_some_and(|at| at > time))
        };
        if is_later(oldest).await? {
            return Err(self.no_version(AsOf::Time(time), oldest, newest));
        }
        let (mut low, mut high) = (oldest, newest);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match is_later(middle).await? {
                true => high = middle - 1,
                false => low = middle,
            }
        }
        Ok(low)
    }

    /// Whether files of an earlier version are gone. Those of the newest are there.
    async fn is_cleaned(&self, state: &State, newest: &State) -> Result<bool> {
        let kept: HashSet<&str> = newest.files.iter().map(|file| file.path.as_str()).collect();
        let location = self.log.location();
        let mut looked_for = HashSet::new();
        for file in state.files.iter() {
            if !kept.contains(file.path.as_str()) {
                looked_for.insert(child(location, &file.path)?);
            }
        }
        if looked_for.is_empty() {
            return Ok(false);
        }
        let mut listed = self.log.store().list(Some(location));
        while let Some(found) = listed.next().await {
            let found = found.map_err(|source| Error::store("list", location, source))?;
            looked_for.remove(&found.location);
        }
        drop(listed);
        let mut moved = self.replaced().await?;
        while let Some((_, before)) = moved.try_next().await? {
            looked_for.remove(&before);
        }
        Ok(!looked_for.is_empty())
    }

    /// The oldest version after one that is not whole whose files are all there. Only upkeep removes files, those
    /// longest out of use first, so the versions that are whole are the newest ones.
    async fn oldest_whole(&self, broken: u64, newest: &Known) -> Result<u64> {
        let (mut low, mut high) = (broken + 1, newest.state.version);
        while low < high {
            let middle = low + (high - low) / 2;
            let state = self.log.load_at(middle).await?;
            match self.is_cleaned(&state, &newest.state).await? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    fn no_version(&self, asked: AsOf, oldest: u64, newest: u64) -> Error {
        let there_is = match oldest == newest {
            true => format!("there is version {newest} only"),
            false => format!("there are versions {oldest} to {newest}"),
        };
        Error::NoVersion {
            table: self.name().to_string(),
            asked: asked.to_string(),
            there_is,
        }
    }

    fn remembered(&self, version: u64) -> Option<Arc<State>> {
        let past = self
            .shared
            .past
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        past.iter().find(|state| state.version == version).cloned()
    }

    fn remember(&self, state: &Arc<State>) {
        let mut past = self
            .shared
            .past
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        past.push_front(state.clone());
        past.truncate(REMEMBERED);
    }
}
