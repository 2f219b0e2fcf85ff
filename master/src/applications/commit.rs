//! Makes what an attempt staged visible: one commit, carrying the statement that made it.

use drumline_lake::{Commit, Committed, MadeBy, PreparedTable, StagedFile, StatementId, Table};

use crate::failure::Failure;

/// Files of a successful attempt, and where they belong.
pub(super) struct Staged {
    pub(super) target: Target,
    pub(super) statement: StatementId,
    pub(super) files: Vec<StagedFile>,
}

/// What a write writes to.
pub(super) enum Target {
    /// A table that is made with these rows.
    New(Box<PreparedTable>, String),
    Existing(Box<Table>),
}

/// What there is to tell of a statement that is done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) rows: u64,
    pub(super) table: String,
    pub(super) version: u64,
    pub(super) files: u64,
    /// Bytes of its files.
    pub(super) bytes: u64,
    pub(super) already_committed: bool,
    pub(super) message: String,
}

impl Target {
    fn table(&self) -> String {
        match self {
            Self::New(_, name) => name.clone(),
            Self::Existing(table) => table.name().to_string(),
        }
    }
}

/// Commits. Repeating it is safe: the lake knows the statement again.
pub(super) async fn commit(staged: Staged) -> Result<Summary, Failure> {
    let Staged {
        target,
        statement,
        files,
    } = staged;
    let table = target.table();
    let bytes = files.iter().map(|file| file.size).sum();
    let commit = Commit {
        made_by: MadeBy::Statement(statement),
        files,
    };
    let committed = match target {
        Target::New(prepared, _) => prepared
            .create(commit)
            .await
            .map(|(_, committed)| committed),
        Target::Existing(table) => table.commit(commit).await,
    };
    Ok(Summary {
        bytes,
        ..Summary::committed(table, committed?)
    })
}

impl Summary {
    pub(super) fn message(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }

    pub(super) fn committed(table: String, committed: Committed) -> Self {
        let Committed {
            version,
            already,
            rows,
            files,
        } = committed;
        let message = match already {
            true => format!("already committed to {table}: {rows} rows"),
            false => format!("wrote {rows} rows to {table}"),
        };
        Self {
            rows,
            table,
            version,
            files: files as u64,
            already_committed: already,
            message,
            ..Self::default()
        }
    }
}
