//! Makes what an attempt staged visible: one commit, carrying the statement that made it.

use drumline_engine::Counts;
use drumline_lake::{
    Commit, Committed, Error, MadeBy, Operation, PreparedCopy, PreparedTable, StagedFile,
    StatementId, Table, TableChange,
};

use crate::failure::Failure;

/// Files of a successful attempt, and where they belong.
pub(super) struct Staged {
    pub(super) target: Target,
    pub(super) statement: StatementId,
    pub(super) files: Vec<StagedFile>,
    /// What it does to rows that are there, and how many of them.
    pub(super) change: Option<(TableChange, Counts)>,
    /// Set where upkeep does it by itself.
    pub(super) upkeep_epoch: Option<u64>,
}

/// A commit that is not in.
#[derive(Debug)]
pub(super) struct NotCommitted {
    pub(super) failure: Failure,
    /// Somebody else changed what it rests on: planned anew, it may succeed.
    pub(super) is_conflict: bool,
}

impl From<Error> for NotCommitted {
    fn from(error: Error) -> Self {
        Self {
            is_conflict: matches!(error, Error::Conflict { .. }),
            failure: error.into(),
        }
    }
}

/// What a write writes to.
pub(super) enum Target {
    /// A table that is made with these rows.
    New(Box<PreparedTable>, String),
    Existing(Box<Table>),
    /// Files that belong to no table.
    Folder(Box<PreparedCopy>),
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
            Self::Folder(copy) => copy.location().to_string(),
        }
    }
}

/// Commits. Repeating it is safe: the lake knows the statement again.
pub(super) async fn commit(staged: Staged) -> Result<Summary, NotCommitted> {
    let Staged {
        target,
        statement,
        files,
        change,
        upkeep_epoch,
    } = staged;
    let table = target.table();
    let bytes = files.iter().map(|file| file.size).sum();
    let (change, counts) = change.unzip();
    let operation = change.as_ref().map(|change| change.operation);
    let commit = Commit {
        change,
        upkeep_epoch,
        ..Commit::append(MadeBy::Statement(statement), files)
    };
    let committed = match target {
        Target::New(prepared, _) => prepared
            .create(commit)
            .await
            .map(|(_, committed)| committed),
        Target::Existing(table) => table.commit(commit).await,
        Target::Folder(copy) => {
            let committed = copy.publish(commit.files).await?;
            return Ok(Summary::copied(&table, committed));
        }
    };
    let committed = committed?;
    let told = operation.zip(counts);
    let message = match told {
        Some((operation, counts)) if !committed.already => {
            Some(done(operation, counts, &table, committed.rows))
        }
        _ => None,
    };
    let summary = Summary::committed(table, committed);
    Ok(Summary {
        bytes,
        message: message.unwrap_or(summary.message),
        ..summary
    })
}

/// What a statement did to rows that were there, in words.
fn done(operation: Operation, counts: Counts, table: &str, rows: u64) -> String {
    let changed = counted(rows);
    match operation {
        Operation::Delete => format!("deleted {changed} from {table}"),
        Operation::Update => format!("updated {changed} of {table}"),
        Operation::Merge => {
            let Counts {
                inserted,
                updated,
                deleted,
                ..
            } = counts;
            format!(
                "merged into {table}: {inserted} inserted, {updated} updated, {deleted} deleted"
            )
        }
        Operation::Overwrite => format!("wrote {changed} over those of {table}"),
        Operation::Append | Operation::AddColumns => format!("wrote {changed} to {table}"),
        Operation::DropColumns
        | Operation::RenameColumn
        | Operation::ChangeColumn
        | Operation::AddConstraint
        | Operation::DropConstraint
        | Operation::SetProperties
        | Operation::UnsetProperties => match counts.kept {
            0 => format!("changed {table}"),
            kept => format!("changed {table}, and wrote its {} anew", counted(kept)),
        },
        Operation::Optimize => {
            format!("wrote {} of {table} to fuller files", counted(counts.kept))
        }
    }
}

fn counted(rows: u64) -> String {
    match rows {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    }
}

impl Summary {
    pub(super) fn message(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }

    /// Files for others; no table has a new version.
    pub(super) fn copied(location: &str, committed: Committed) -> Self {
        let Committed {
            already,
            rows,
            files,
            ..
        } = committed;
        Self {
            rows,
            files: files as u64,
            already_committed: already,
            message: match already {
                true => format!("already copied to {location}: {}", counted(rows)),
                false => format!("copied {} to {location}", counted(rows)),
            },
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
            true => format!("already committed to {table}: {}", counted(rows)),
            false => format!("wrote {} to {table}", counted(rows)),
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
