//! What the writer thread works on: the database, the lines, and what each holds of whom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::lines::Lines;
use super::mark::Mark;
use super::retention::{self, Group, Limits};
use super::store::Store;
use super::{Fact, record};
use crate::facts::Event;

/// Milliseconds of facts without an application that are dropped together.
const HOUR: i64 = 3_600_000;

/// Why facts could not be written; the next try may succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{}: {source}", path.display())]
    Lines {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Database {
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error("{}: it failed while it was written to: {reason}", path.display())]
    Broken { path: PathBuf, reason: String },
}

/// Who a fact is kept with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Application(String),
    /// Since 1970.
    Hour(i64),
}

impl Key {
    pub(super) fn of(fact: &Fact) -> Self {
        match fact.event.application() {
            Some(application) => Self::Application(application.to_owned()),
            None => Self::Hour(fact.at / HOUR),
        }
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) path: PathBuf,
    /// None after a write that failed.
    store: Option<Store>,
    lines: Lines,
    limits: Limits,
    groups: BTreeMap<Key, Group>,
    sequences: BTreeMap<Key, Vec<u64>>,
    /// Up to here the lines have it: a batch may fail between them and the database.
    lines_upto: u64,
    mark: Mark,
}

impl Ledger {
    pub(super) fn new(
        path: PathBuf,
        store: Store,
        lines: Lines,
        mark: Mark,
        limits: Limits,
    ) -> Self {
        Self {
            path,
            store: Some(store),
            lines,
            limits,
            groups: BTreeMap::new(),
            sequences: BTreeMap::new(),
            lines_upto: 0,
            mark,
        }
    }

    /// Counts a fact that is there already.
    pub(super) fn remember(&mut self, fact: &Fact, bytes: u64) {
        self.lines_upto = self.lines_upto.max(fact.sequence);
        let key = Key::of(fact);
        let group = self.groups.entry(key.clone()).or_insert(Group {
            is_over: matches!(key, Key::Hour(_)),
            last_at: fact.at,
            bytes: 0,
        });
        group.last_at = group.last_at.max(fact.at);
        group.bytes += bytes;
        if let Event::ApplicationFinished { .. } = &fact.event {
            group.is_over = true;
        }
        self.sequences.entry(key).or_default().push(fact.sequence);
    }

    /// Writes facts to the lines, then to the database. Both are on the disk when it returns. Calling it again
    /// with the same facts after a failure is safe.
    pub(super) fn write(&mut self, facts: &[Arc<Fact>]) -> Result<(), WriteError> {
        let mut encoded = Vec::with_capacity(facts.len());
        for fact in facts {
            match record::json(fact) {
                Ok(json) => encoded.push((fact, json)),
                Err(error) => tracing::error!(%error, ?fact, "a fact cannot be written down"),
            }
        }
        let fresh: Vec<(u64, i64, &[u8])> = encoded
            .iter()
            .filter(|(fact, _)| fact.sequence > self.lines_upto)
            .map(|(fact, json)| (fact.sequence, fact.at, json.as_slice()))
            .collect();
        let appended = self.lines.append(&fresh);
        appended.map_err(|source| WriteError::Lines {
            path: self.lines.current().unwrap_or_else(|| self.path.clone()),
            source,
        })?;
        let records = encoded
            .iter()
            .map(|(fact, json)| (fact.sequence, json.as_slice()));
        if let Err(error) = self.with_store(|store| store.write(records, &[])) {
            // Whoever is told that it failed must not find it done after a restart.
            let sequences: Vec<u64> = encoded.iter().map(|(fact, _)| fact.sequence).collect();
            if let Err(error) = self.with_store(|store| store.write([], &sequences)) {
                tracing::debug!(%error, "what could not be written cannot be taken back either");
            }
            if !fresh.is_empty()
                && let Err(error) = self.lines.take_back()
            {
                tracing::error!(%error, "lines of what is not durable cannot be taken back");
            }
            return Err(error);
        }
        if let Some((sequence, ..)) = fresh.last() {
            self.lines_upto = *sequence;
        }
        for (fact, json) in &encoded {
            self.remember(fact, json.len() as u64);
        }
        if let Some((fact, _)) = encoded.last() {
            self.mark.set(fact.sequence);
        }
        Ok(())
    }

    /// Marks the newest fact that there is.
    pub(super) fn mark(&self) {
        let newest = self.sequences.values().filter_map(|all| all.last());
        self.mark.set(newest.max().copied().unwrap_or(0));
    }

    /// Drops what is over and too old or too much; the applications among it.
    pub(super) fn retain(&mut self, now: i64) -> Result<Vec<String>, WriteError> {
        let dropped = retention::overdue(now, self.limits, &self.groups);
        let groups = dropped.iter().filter_map(|key| self.groups.get(key));
        if let Some(newest) = groups.map(|group| group.last_at).max() {
            self.mark.let_go(newest);
        }
        let sequences: Vec<u64> = dropped
            .iter()
            .filter_map(|key| self.sequences.get(key))
            .flatten()
            .copied()
            .collect();
        if !sequences.is_empty() {
            self.with_store(|store| store.write([], &sequences))?;
        }
        for key in &dropped {
            self.groups.remove(key);
            self.sequences.remove(key);
        }
        if !dropped.is_empty() {
            self.mark();
        }
        let open = self.groups.iter().filter(|(_, group)| !group.is_over);
        let needed = open
            .filter_map(|(key, _)| self.sequences.get(key)?.first().copied())
            .min()
            .unwrap_or(u64::MAX);
        let files = retention::old_files(now, self.limits, needed, self.lines.files());
        self.lines.remove_oldest(files);
        Ok(dropped
            .into_iter()
            .filter_map(|key| match key {
                Key::Application(id) => Some(id),
                Key::Hour(_) => None,
            })
            .collect())
    }

    /// After a failure the database is closed, and opened again by the next write.
    fn with_store(
        &mut self,
        write: impl FnOnce(&Store) -> Result<(), redb::Error>,
    ) -> Result<(), WriteError> {
        let store = self.store.take();
        let written = store
            .map_or_else(|| Store::reopen(&self.path), Ok)
            .and_then(|store| write(&store).map(|()| store));
        match written {
            Ok(store) => {
                self.store = Some(store);
                Ok(())
            }
            Err(source) => Err(WriteError::Database {
                path: self.path.clone(),
                source: Box::new(source),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::journal::{open, tests};

    /// A disk that takes lines and no database.
    #[test]
    fn what_the_database_did_not_take_is_not_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let fact = |sequence: u64| {
            let event = tests::accepted(&format!("application-{sequence}"));
            Arc::new(Fact {
                sequence,
                at: 0,
                event,
            })
        };
        let mut opened = open(folder.path(), tests::LIMITS).unwrap();
        opened.ledger.write(&[fact(1)]).unwrap();
        let lines = folder.path().join("events/00000001.jsonl");
        let before = fs::read(&lines).unwrap();
        let (path, kept) = (
            folder.path().join("journal.redb"),
            folder.path().join("kept"),
        );
        opened.ledger.store = None;
        fs::rename(&path, &kept).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            opened.ledger.write(&[fact(2)]),
            Err(WriteError::Database { .. })
        ));
        assert_eq!(fs::read(&lines).unwrap(), before, "its line is there");
        fs::remove_dir(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
        // As when it is killed now, and as when it lives on.
        let killed = tempfile::tempdir().unwrap();
        fs::create_dir(killed.path().join("events")).unwrap();
        for file in ["journal.redb", "events/00000001.jsonl"] {
            fs::copy(folder.path().join(file), killed.path().join(file)).unwrap();
        }
        assert_eq!(open(killed.path(), tests::LIMITS).unwrap().facts.len(), 1);
        opened.ledger.write(&[fact(2), fact(3)]).unwrap();
        drop(opened);
        let again = open(folder.path(), tests::LIMITS).unwrap();
        assert_eq!((again.facts.len(), again.repaired), (3, None));
    }
}
