//! What a commit says and answers.

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
    },
}

/// Half-open range of Kafka positions, `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// First position. Must be the table's own offset when it has one.
    pub from: i64,
    /// Position after the last.
    pub to: i64,
}

/// Files to make visible, and what made them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// What made it.
    pub made_by: MadeBy,
    /// The staged files; none is fine.
    pub files: Vec<StagedFile>,
}

impl Commit {
    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

/// A commit that is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Version of the table it made.
    pub version: u64,
    /// Whether it had been committed before this call.
    pub already: bool,
    /// Rows it added.
    pub rows: u64,
    /// Files it added.
    pub files: usize,
}
