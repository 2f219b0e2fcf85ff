//! What a commit says and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{StagedFile, StatementId};

/// What made a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum MadeBy {
    /// A statement of an application.
    Statement(StatementId),
    /// A stream's offer.
    Stream {
        /// Name of the stream.
        stream: String,
        /// Epoch of the assignment.
        epoch: u64,
        /// What the commit consumed.
        ranges: Vec<OffsetRange>,
        /// Which definition of the stream wrote its rows, counted from 1; 0: not known.
        #[serde(default)]
        definition: u64,
        /// Versions of the tables that its rows were made with.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        lookups: BTreeMap<String, u64>,
    },
    /// Somebody moved where a stream goes on, by hand.
    Reset {
        /// Name of the stream.
        stream: String,
        /// From where to where; the table must stand where they begin.
        moves: Vec<OffsetMove>,
    },
    /// Dead letters of a stream, decoded again.
    Replay {
        /// Which replay of the stream's letters.
        id: StatementId,
        /// Name of the stream.
        stream: String,
        /// The letters whose rows these are, or that left none: they are dead no more.
        letters: Vec<OffsetRange>,
    },
}

impl MadeBy {
    /// The identity of what is committed once, however often it is tried.
    pub fn statement(&self) -> Option<&StatementId> {
        match self {
            Self::Statement(id) | Self::Replay { id, .. } => Some(id),
            Self::Stream { .. } | Self::Reset { .. } => None,
        }
    }
}

impl std::fmt::Display for MadeBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Statement(id) => write!(
                f,
                "statement {} of application {}",
                id.ordinal, id.application
            ),
            Self::Stream { stream, .. } => write!(f, "stream '{stream}'"),
            Self::Reset { stream, .. } => write!(f, "a reset of stream '{stream}'"),
            Self::Replay { stream, .. } => {
                write!(f, "a replay of dead letters of stream '{stream}'")
            }
        }
    }
}

/// Half-open range of Kafka positions, `[from, to)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// First position. Must be the table's own offset when it has one.
    pub from: i64,
    /// Position after the last.
    pub to: i64,
    /// What became of its records; commits of older builds do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RangeCounts>,
    /// Kafka's own id of the topic, where its brokers give one: a topic made anew has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
}

/// What became of the records of a range, as far as they concern one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RangeCounts {
    /// Records that were read: those of committed transactions, without control records.
    pub records: u64,
    /// Rows that the table got.
    pub rows: u64,
    /// Records that the transform left out.
    pub filtered: u64,
    /// Records that became dead letters instead.
    pub dead_letters: u64,
}

/// A position that moves without rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetMove {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// The table's offset before; none where it has none.
    pub from: Option<i64>,
    /// Its offset after.
    pub to: i64,
}

/// Files to make visible, and what made them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// What made it.
    pub made_by: MadeBy,
    /// The staged files; none is fine.
    pub files: Vec<StagedFile>,
    /// Set where it rests on what the table held; none for an append, which never conflicts.
    pub change: Option<TableChange>,
    /// Set where upkeep made it by itself: refused once somebody owns a later epoch of the lake's upkeep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upkeep_epoch: Option<u64>,
}

impl Commit {
    /// A commit of new rows.
    pub fn append(made_by: MadeBy, files: Vec<StagedFile>) -> Self {
        Self {
            made_by,
            files,
            change: None,
            upkeep_epoch: None,
        }
    }

    /// Rows that it adds or changes.
    pub fn rows(&self) -> u64 {
        let added = || self.files.iter().map(|file| file.rows).sum();
        match &self.change {
            Some(change) => change.rows.unwrap_or_else(added),
            None => added(),
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        self.change
            .as_ref()
            .map_or(Operation::Append, |change| change.operation)
    }
}

/// What a commit does to rows that were there before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableChange {
    /// What kind of statement made it.
    pub operation: Operation,
    /// Version of the snapshot that it was worked out from: of what was committed since, only appends of new
    /// rows may stand beside it.
    pub base: u64,
    /// Files of that snapshot that it takes away: paths relative to the table's location.
    pub remove: Vec<String>,
    /// Rows that it changed; none where that is the rows it adds.
    pub rows: Option<u64>,
    /// All columns after it, as Delta writes schemas; none where they stay.
    pub columns: Option<String>,
    /// Set where rows that were written for the table as it was do not fit it any more: nothing but a
    /// rearrangement may have come before it, and files that were staged before are refused after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redefines: Option<Redefinition>,
}

/// What a table becomes, besides its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redefinition {
    /// Its partition columns.
    pub partition_columns: Vec<String>,
    /// Properties of its log that change; none goes.
    pub properties: BTreeMap<String, Option<String>>,
}

/// Kinds of statements that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `INSERT INTO`.
    Append,
    /// `INSERT OVERWRITE`.
    Overwrite,
    /// `DELETE` and `TRUNCATE`.
    Delete,
    /// `UPDATE`.
    Update,
    /// `MERGE INTO`.
    Merge,
    /// `ALTER TABLE … ADD COLUMN`.
    AddColumns,
    /// `OPTIMIZE`: the same rows in other files.
    Optimize,
    /// `ALTER TABLE … DROP COLUMN`.
    DropColumns,
    /// `ALTER TABLE … RENAME COLUMN`.
    RenameColumn,
    /// `ALTER TABLE … ALTER COLUMN`.
    ChangeColumn,
    /// `ALTER TABLE … ADD CONSTRAINT`.
    AddConstraint,
    /// `ALTER TABLE … DROP CONSTRAINT`.
    DropConstraint,
    /// `ALTER TABLE … SET TBLPROPERTIES`, of Delta's own.
    SetProperties,
    /// `ALTER TABLE … UNSET TBLPROPERTIES`, of Delta's own.
    UnsetProperties,
}

impl Operation {
    /// As Delta tables name it in their history.
    pub(crate) fn delta_name(self) -> &'static str {
        match self {
            Self::Append | Self::Overwrite => "WRITE",
            Self::Delete => "DELETE",
            Self::Update => "UPDATE",
            Self::Merge => "MERGE",
            Self::AddColumns => "ADD COLUMNS",
            Self::Optimize => "OPTIMIZE",
            Self::DropColumns => "DROP COLUMNS",
            Self::RenameColumn => "RENAME COLUMN",
            Self::ChangeColumn => "CHANGE COLUMN",
            Self::AddConstraint => "ADD CONSTRAINT",
            Self::DropConstraint => "DROP CONSTRAINT",
            Self::SetProperties => "SET TBLPROPERTIES",
            Self::UnsetProperties => "UNSET TBLPROPERTIES",
        }
    }
}

/// A commit that is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Version of the table it made.
    pub version: u64,
    /// Whether it had been committed before this call.
    pub already: bool,
    /// Rows it added or changed.
    pub rows: u64,
    /// Files it added.
    pub files: usize,
}
