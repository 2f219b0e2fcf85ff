//! Where a statement's rows are written to, and whether they have been already.

use drumline_engine::{TableRef, Write, WriteMode};
use drumline_lake::{Error, NewTable, Result, StatementId, Table, TableName, WriteTarget};

use super::commit::{Summary, Target};
use crate::catalog::{Names, PinnedTables, check_schema};

/// What to do about a write.
pub(super) enum Prepared {
    /// Run it; its tasks stage files as the `WriteTarget` says.
    Run(Target, Box<WriteTarget>),
    /// There is nothing to run.
    Skip(Summary),
}

/// Prepares one attempt's write. `attempt` keeps its files apart from those of other attempts.
pub(super) async fn prepare(
    write: &Write,
    names: &Names,
    tables: &PinnedTables,
    statement: &StatementId,
    attempt: &str,
) -> Result<Prepared> {
    check_schema(&write.table.schema)?;
    match &write.mode {
        WriteMode::Append
        | WriteMode::Extend(_)
        | WriteMode::Overwrite(_)
        | WriteMode::Rewrite(_) => existing(&write.table, names, tables, statement, attempt).await,
        WriteMode::Create(_) => create(write, names, tables, statement, attempt).await,
    }
}

/// A table that is there: the statement may have been committed to it already.
async fn existing(
    table: &TableRef,
    names: &Names,
    tables: &PinnedTables,
    statement: &StatementId,
    attempt: &str,
) -> Result<Prepared> {
    let name = TableName::new(&table.schema, &table.name);
    let Some(object) = tables.catalog().get(&name) else {
        return Err(Error::NotFound {
            kind: "table",
            name: name.to_string(),
        });
    };
    let table = names.open(&name, object).await?;
    if let Some(committed) = table.find_statement(statement).await? {
        return Ok(Prepared::Skip(Summary::committed(
            name.to_string(),
            committed,
        )));
    }
    let mut write_target = table.write_target(attempt).await?;
    // As it was planned for: what it has become since, the commit is refused for.
    write_target.definition = tables.snapshot_of(&name, object).await?.definition();
    Ok(Prepared::Run(
        Target::Existing(Box::new(table)),
        Box::new(write_target),
    ))
}

async fn create(
    write: &Write,
    names: &Names,
    tables: &PinnedTables,
    statement: &StatementId,
    attempt: &str,
) -> Result<Prepared> {
    let WriteMode::Create(create) = &write.mode else {
        return Err(Error::Bug {
            context: "a write that makes no table".to_owned(),
        });
    };
    let name = TableName::new(&write.table.schema, &write.table.name);
    let existing = tables.catalog().get(&name);
    let is_ours = existing.is_some_and(|object| object.created_by.as_ref() == Some(statement));
    if existing.is_some() && create.if_not_exists && !is_ours {
        return Ok(Prepared::Skip(Summary::message(format!(
            "{name} exists: nothing was done"
        ))));
    }
    let new = NewTable {
        name: name.clone(),
        format: create.format,
        location: create.location.clone(),
        schema: write.input.schema(),
        partition_columns: create.partition_by.clone(),
        properties: create.properties.clone(),
        comment: create.comment.clone(),
        column_comments: create.column_comments.clone(),
        or_replace: create.or_replace,
        created_by: Some(statement.clone()),
    };
    let prepared = Table::prepare(names.catalog(), new).await?;
    if let Some(committed) = prepared.already() {
        return Ok(Prepared::Skip(Summary::committed(
            name.to_string(),
            committed,
        )));
    }
    let write_target = prepared.write_target(attempt)?;
    Ok(Prepared::Run(
        Target::New(Box::new(prepared), name.to_string()),
        Box::new(write_target),
    ))
}

#[cfg(test)]
mod tests;
