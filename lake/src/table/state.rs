//! What a table holds at one version, and what one record of its log does to it. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::{Commit, MadeBy, OffsetMove, OffsetRange};
use crate::{DataFile, Error, Result, StatementId, columns};

/// Next position to read, by topic and partition.
pub(crate) type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// Kafka's ids of topics, by name.
pub(crate) type TopicIds = BTreeMap<String, String>;

/// Columns and layout of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub schema: SchemaRef,
    pub partition_columns: Vec<String>,
    pub properties: BTreeMap<String, String>,
}

/// Prefix of the properties that are CHECK constraints.
pub(super) const CHECK: &str = "delta.constraints.";

/// The property that counts how often a table was redefined.
pub(crate) const NUMBER: &str = "drumline.definition";

impl Definition {
    /// What a commit makes of it; none where it stays.
    pub(crate) fn changed_by(&self, commit: &Commit) -> Result<Option<Arc<Self>>> {
        let Some(change) = &commit.change else {
            return Ok(None);
        };
        if change.columns.is_none() && change.redefines.is_none() {
            return Ok(None);
        }
        let mut changed = self.clone();
        if let Some(columns) = &change.columns {
            changed.schema = columns::from_json(columns)?;
        }
        if let Some(redefines) = &change.redefines {
            changed
                .partition_columns
                .clone_from(&redefines.partition_columns);
            for (key, value) in &redefines.properties {
                match value {
                    Some(value) => changed.properties.insert(key.clone(), value.clone()),
                    None => changed.properties.remove(key),
                };
            }
            let number = (self.number() + 1).to_string();
            changed.properties.insert(NUMBER.to_owned(), number);
        }
        Ok(Some(Arc::new(changed)))
    }

    /// How often the table was made another one: files that were staged for an earlier one do not fit it.
    pub(crate) fn number(&self) -> u64 {
        let number = self.properties.get(NUMBER);
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn has_checks(&self) -> bool {
        self.properties.keys().any(|key| key.starts_with(CHECK))
    }
}

/// The last statement that an application committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub ordinal: u32,
    pub text_hash: u64,
    pub version: u64,
    pub rows: u64,
    pub files: usize,
}

/// A committed file that may still lie where it was staged, or one taken away that may still lie where it was
/// published. Paths are whole paths of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpublished {
    pub version: u64,
    pub source: String,
    /// None for a file that is to be deleted.
    pub target: Option<String>,
    /// Taken away: whoever moved or deleted it first did all there is to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
}

/// A table at one version.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub version: u64,
    pub definition: Arc<Definition>,
    pub files: Arc<[Arc<DataFile>]>,
    pub offsets: Offsets,
    pub topic_ids: TopicIds,
    /// The last statement of each application that the log told of.
    pub statements: BTreeMap<String, Done>,
    pub unpublished: Vec<Unpublished>,
}

/// What one record does.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub version: u64,
    pub add: Vec<DataFile>,
    pub remove: HashSet<String>,
    /// The table's columns and layout after it, where it changes them.
    pub definition: Option<Arc<Definition>>,
    /// All offsets after it; none if the record does not tell.
    pub offsets: Option<Offsets>,
    /// All topics' ids after it; none if the record does not tell.
    pub topic_ids: Option<TopicIds>,
    pub statement: Option<(String, Done)>,
    pub publish: Vec<Unpublished>,
    /// Records below this version are published.
    pub published_below: u64,
}

/// A record to be made.
#[derive(Debug, Clone)]
pub(crate) struct Proposal<'a> {
    pub version: u64,
    pub attempt: uuid::Uuid,
    pub commit: Option<&'a Commit>,
    /// The files that it takes away.
    pub remove: Vec<Arc<DataFile>>,
    /// The table's columns and layout after it, where it changes them.
    pub definition: Option<Arc<Definition>>,
    /// Offsets after it.
    pub offsets: Offsets,
    /// Topics' ids after it.
    pub topic_ids: TopicIds,
    /// Records below this version are published.
    pub published_below: u64,
}

impl State {
    /// Before the first record.
    pub(crate) fn new(definition: Arc<Definition>) -> Self {
        Self {
            version: 0,
            definition,
            files: Arc::default(),
            offsets: Offsets::new(),
            topic_ids: TopicIds::new(),
            statements: BTreeMap::new(),
            unpublished: Vec::new(),
        }
    }

    pub(crate) fn apply(&self, step: Step) -> Self {
        let mut next = self.clone();
        next.version = step.version;
        if !step.add.is_empty() || !step.remove.is_empty() {
            // A path added again (statistics computed anew) replaces its older entry.
            let added: HashSet<&str> = step.add.iter().map(|file| file.path.as_str()).collect();
            let gone = |path: &str| step.remove.contains(path) || added.contains(path);
            let kept = self.files.iter().filter(|file| !gone(&file.path)).cloned();
            let files: Vec<_> = kept.collect();
            next.files = files
                .into_iter()
                .chain(step.add.into_iter().map(Arc::new))
                .collect();
        }
        if let Some(offsets) = step.offsets {
            next.offsets = offsets;
        }
        if let Some(topic_ids) = step.topic_ids {
            next.topic_ids = topic_ids;
        }
        if let Some(definition) = step.definition {
            next.definition = definition;
        }
        next.statements.extend(step.statement);
        next.unpublished
            .retain(|file| file.version >= step.published_below);
        next.unpublished.extend(step.publish);
        next
    }

    /// Offsets after a commit; refuses one that does not start where the table is.
    pub(crate) fn offsets_after(&self, table: &str, made_by: &MadeBy) -> Result<Offsets> {
        let mut offsets = self.offsets.clone();
        let mut seen = HashSet::new();
        if let MadeBy::Reset { moves, .. } = made_by {
            for OffsetMove {
                topic,
                partition,
                from,
                to,
            } in moves
            {
                if *to < 0 || !seen.insert((topic, partition)) {
                    return Err(Error::bug(format!(
                        "a reset of table '{table}' names {topic}/{partition} twice or before 0: {to}"
                    )));
                }
                let partitions = offsets.entry(topic.clone()).or_default();
                let found = partitions.insert(*partition, *to);
                if found != *from {
                    return Err(Error::OffsetsMoved {
                        table: table.to_owned(),
                        topic: topic.clone(),
                        partition: *partition,
                        expected: from.unwrap_or(-1),
                        found: found.unwrap_or(-1),
                    });
                }
            }
        }
        let MadeBy::Stream { ranges, .. } = made_by else {
            return Ok(offsets);
        };
        for range in ranges {
            let OffsetRange {
                topic,
                partition,
                from,
                to,
                ..
            } = range;
            if to < from || !seen.insert((topic, partition)) {
                return Err(Error::bug(format!(
                    "a commit to table '{table}' names {topic}/{partition} twice or backwards: {from} to {to}"
                )));
            }
            if let (Some(held), Some(offered)) = (self.topic_ids.get(topic), &range.topic_id)
                && held != offered
            {
                return Err(Error::TopicReplaced {
                    table: table.to_owned(),
                    topic: topic.clone(),
                    held: held.clone(),
                    offered: offered.clone(),
                });
            }
            let partitions = offsets.entry(topic.clone()).or_default();
            if let Some(found) = partitions.insert(*partition, *to)
                && found != *from
            {
                return Err(Error::OffsetsMoved {
                    table: table.to_owned(),
                    topic: topic.clone(),
                    partition: *partition,
                    expected: *from,
                    found,
                });
            }
        }
        Ok(offsets)
    }

    /// Topics' ids after a commit: those that it was read from.
    pub(crate) fn topic_ids_after(&self, made_by: &MadeBy) -> TopicIds {
        let mut ids = self.topic_ids.clone();
        if let MadeBy::Stream { ranges, .. } = made_by {
            let told = |range: &OffsetRange| Some((range.topic.clone(), range.topic_id.clone()?));
            ids.extend(ranges.iter().filter_map(told));
        }
        // Whoever moves a position by hand means the topic that is there now.
        if let MadeBy::Reset { moves, .. } = made_by {
            for moved in moves {
                ids.remove(&moved.topic);
            }
        }
        ids
    }

    /// The files that a commit takes away; `None` if one of them is not there any more.
    pub(crate) fn removed_by(&self, commit: &Commit) -> Option<Vec<Arc<DataFile>>> {
        let Some(change) = &commit.change else {
            return Some(Vec::new());
        };
        let mut wanted: HashSet<&str> = change.remove.iter().map(String::as_str).collect();
        let files = self.files.iter();
        let found: Vec<_> = files
            .filter(|file| wanted.remove(file.path.as_str()))
            .cloned()
            .collect();
        wanted.is_empty().then_some(found)
    }

    pub(crate) fn published_below(&self) -> u64 {
        let oldest = self.unpublished.iter().map(|file| file.version).min();
        oldest.unwrap_or(self.version + 1)
    }
}

impl Done {
    pub(crate) fn of(commit: &Commit, version: u64) -> Option<(String, Self)> {
        let id = commit.made_by.statement()?;
        let done = Self {
            ordinal: id.ordinal,
            text_hash: id.text_hash,
            version,
            rows: commit.rows(),
            files: commit.files.len(),
        };
        Some((id.application.clone(), done))
    }

    /// Same place in the same application, but was it the same text?
    pub(crate) fn matches(&self, table: &str, id: &StatementId) -> Result<()> {
        if self.text_hash == id.text_hash {
            return Ok(());
        }
        Err(Error::StatementChanged {
            table: table.to_owned(),
            application: id.application.clone(),
            ordinal: id.ordinal,
        })
    }
}

#[cfg(test)]
mod tests;
