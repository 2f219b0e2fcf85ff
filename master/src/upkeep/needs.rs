//! What a table needs, said in SQL: pure.

use arrow::datatypes::DataType;
use chrono::{DateTime, Utc};
use drumline_lake::{Expired, Format, Result, Retention, TableName, TableSnapshot, Wishes};

/// Partitions of a plain Parquet table that one application empties.
const PARTITIONS_AT_ONCE: usize = 50;

/// What can be needed, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Old rows go.
    Expire,
    /// Small files are put together.
    Compact,
    /// Files that no version names go.
    Vacuum,
    /// What tables without a name left goes.
    Sweep,
}

/// One thing that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) kind: Kind,
    /// Tells it from others of its kind, and from itself at another time.
    pub(super) key: String,
    /// What people read.
    pub(super) name: String,
    pub(super) script: String,
}

/// All that a version of a table needs.
pub(super) fn of(
    wishes: &Wishes,
    snapshot: &TableSnapshot,
    now: DateTime<Utc>,
) -> Result<Vec<Need>> {
    let table = quoted_name(&snapshot.name);
    let shown = &snapshot.name;
    let mut needs = Vec::new();
    if let Some(retention) = &wishes.retention
        && let Some(expired) = snapshot.expired(retention, now)
    {
        needs.push(Need {
            kind: Kind::Expire,
            key: format!(
                "{} {:?}",
                expired.before,
                expired.partitions.as_ref().map(|all| all.len())
            ),
            name: format!("retention of {shown}"),
            script: expire(snapshot, retention, &expired),
        });
    }
    if let Some(least) = wishes.compact {
        for values in snapshot.to_compact(least)?.into_iter().take(1) {
            let condition = partition(snapshot, &values);
            needs.push(Need {
                kind: Kind::Compact,
                key: format!("{} {condition}", snapshot.version),
                name: format!("compaction of {shown}"),
                script: match condition.is_empty() {
                    true => format!("OPTIMIZE {table}"),
                    false => format!("OPTIMIZE {table} WHERE {condition}"),
                },
            });
        }
    }
    if let Some(keep) = wishes.vacuum {
        needs.push(Need {
            kind: Kind::Vacuum,
            key: String::new(),
            name: format!("vacuum of {shown}"),
            script: format!("VACUUM {table} RETAIN {} HOURS", keep.as_secs() / 3600),
        });
    }
    Ok(needs)
}

/// What the lake itself needs.
pub(super) fn sweep(tables: usize, keep: std::time::Duration) -> Need {
    Need {
        kind: Kind::Sweep,
        key: tables.to_string(),
        name: "vacuum of the lake".to_owned(),
        script: format!("VACUUM RETAIN {} HOURS", keep.as_secs() / 3600),
    }
}

pub(super) fn expire(snapshot: &TableSnapshot, retention: &Retention, expired: &Expired) -> String {
    let table = quoted_name(&snapshot.name);
    match (snapshot.format, &expired.partitions) {
        (Format::Parquet, Some(partitions)) => {
            let others = snapshot.schema.fields().iter();
            let others = others.filter(|field| !snapshot.partition_columns.contains(field.name()));
            let others: Vec<String> = others.map(|field| quoted(field.name())).collect();
            let others = others.join(", ");
            let emptied = partitions.iter().take(PARTITIONS_AT_ONCE).map(|values| {
                let partition = each(snapshot, values)
                    .map(|(column, value)| format!("{column} = {}", value.unwrap_or("NULL".into())));
                let partition = partition.collect::<Vec<_>>().join(", ");
                format!(
                    "INSERT OVERWRITE {table} PARTITION ({partition}) SELECT {others} FROM {table} WHERE false"
                )
            });
            emptied.collect::<Vec<_>>().join(";\n")
        }
        _ => format!(
            "DELETE FROM {table} WHERE {}",
            older(snapshot, retention, expired.before)
        ),
    }
}

/// The condition of rows before a time.
fn older(snapshot: &TableSnapshot, retention: &Retention, before: DateTime<Utc>) -> String {
    let first = retention
        .columns
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let kind = snapshot.schema.field_with_name(first);
    let column = quoted(first);
    let day = before.format("%Y-%m-%d");
    match kind.map(|field| field.data_type()) {
        Ok(DataType::Date32) => format!("{column} < DATE '{day}'"),
        // A month is older only when all of it is.
        Ok(DataType::Utf8) => format!("{column} < left('{day}', character_length({column}))"),
        Ok(kind) if kind.is_integer() => {
            let numbers = retention.numbers(before);
            let columns: Vec<String> = retention.columns.iter().map(|name| quoted(name)).collect();
            let branches = (0..columns.len()).map(|at| {
                let same = (0..at).map(|same| format!("{} = {}", columns[same], numbers[same]));
                let less = format!("{} < {}", columns[at], numbers[at]);
                let all: Vec<String> = same.chain([less]).collect();
                format!("({})", all.join(" AND "))
            });
            branches.collect::<Vec<_>>().join(" OR ")
        }
        _ => format!(
            "{column} < TIMESTAMP '{}'",
            before.format("%Y-%m-%d %H:%M:%S")
        ),
    }
}

/// The condition of one partition; empty where there are none.
fn partition(snapshot: &TableSnapshot, values: &[Option<String>]) -> String {
    let parts = each(snapshot, values).map(|(column, value)| match value {
        Some(value) => format!("{column} = {value}"),
        None => format!("{column} IS NULL"),
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

/// Partition columns and literals of their values.
fn each<'a>(
    snapshot: &'a TableSnapshot,
    values: &'a [Option<String>],
) -> impl Iterator<Item = (String, Option<String>)> + 'a {
    let columns = snapshot.partition_columns.iter().zip(values);
    columns.map(|(column, value)| {
        let kind = snapshot.schema.field_with_name(column);
        let literal = value
            .as_ref()
            .map(|value| match kind.map(|field| field.data_type()) {
                Ok(DataType::Date32) => format!("DATE '{value}'"),
                Ok(DataType::Boolean) => value.clone(),
                Ok(kind) if kind.is_integer() => value.clone(),
                _ => format!("'{}'", value.replace('\'', "''")),
            });
        (quoted(column), literal)
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_name(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}
