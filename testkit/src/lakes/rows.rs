//! What the tables of a seed hold, and what each statement makes of it. Pure.

use super::plan::{Format, Kind, Plan};

/// A row of every table here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Told apart by this, unless something was written twice.
    pub id: i64,
    /// Changed by statements.
    pub v: i64,
    /// A text.
    pub t: String,
    /// Its partition.
    pub p: i64,
}

/// Rows that each of the first inserts brings.
const BATCH: i64 = 120;
const BATCHES: i64 = 3;

/// What a table holds before its statement, in order.
pub fn before() -> Vec<Row> {
    let row = |id: i64| Row {
        id,
        v: id * 7 % 101,
        t: format!("t{}", id % 13),
        p: id % 2,
    };
    (1..=BATCH * BATCHES).map(row).collect()
}

/// The statements that make the table of a seed: several commits, so that there are several files to read.
pub fn setup(plan: &Plan) -> String {
    let table = plan.table();
    let mut sql = format!(
        "CREATE TABLE {table} (id BIGINT, v BIGINT, t VARCHAR, p BIGINT){} PARTITIONED BY (p)",
        stored_as(plan.format)
    );
    for batch in 0..BATCHES {
        let (from, to) = (batch * BATCH + 1, (batch + 1) * BATCH);
        sql += &format!(
            "; INSERT INTO {table} SELECT value, value * 7 % 101, concat('t', CAST(value % 13 AS varchar)), value % 2 \
             FROM generate_series({from}, {to})"
        );
    }
    sql
}

fn stored_as(format: Format) -> &'static str {
    match format {
        Format::Delta => "",
        Format::Parquet => " STORED AS PARQUET",
    }
}

/// The statement of a seed.
pub fn statement(plan: &Plan) -> String {
    let (table, target) = (plan.table(), plan.target());
    match plan.kind {
        Kind::Insert => {
            format!("INSERT INTO {table} SELECT id + 1000, v + 1, t, p FROM {table}")
        }
        Kind::CreateAs => format!(
            "CREATE TABLE {target}{} PARTITIONED BY (p) AS SELECT id, v * 2 AS v, t, p FROM {table}",
            stored_as(plan.format)
        ),
        Kind::Delete => format!("DELETE FROM {table} WHERE id % 3 = 0"),
        Kind::Update => format!("UPDATE {table} SET v = v + 1000 WHERE id % 4 = 1"),
        Kind::Merge => format!(
            "MERGE INTO {table} USING (SELECT id + 200 AS id, v, t, p FROM {table}) AS s ON {table}.id = s.id \
             WHEN MATCHED THEN UPDATE SET v = {table}.v + s.v + 1 \
             WHEN NOT MATCHED THEN INSERT (id, v, t, p) VALUES (s.id, s.v, s.t, s.p)"
        ),
        Kind::Overwrite => {
            format!("INSERT OVERWRITE {table} SELECT id, v + 7, t, p FROM {table} WHERE id % 2 = 0")
        }
        Kind::Optimize => format!("OPTIMIZE {table}"),
    }
}

/// What the target holds after it, in order.
pub fn after(kind: Kind) -> Vec<Row> {
    let rows = before();
    let mut after: Vec<Row> = match kind {
        Kind::Insert => {
            let more = rows.iter().map(|row| Row {
                id: row.id + 1000,
                v: row.v + 1,
                ..row.clone()
            });
            rows.iter().cloned().chain(more).collect()
        }
        Kind::CreateAs => map(rows, |row| row.v *= 2),
        Kind::Delete => rows.into_iter().filter(|row| row.id % 3 != 0).collect(),
        Kind::Update => map(rows, |row| {
            if row.id % 4 == 1 {
                row.v += 1000;
            }
        }),
        Kind::Merge => {
            let mut all = rows.clone();
            for source in rows {
                let id = source.id + 200;
                match all.iter_mut().find(|row| row.id == id) {
                    Some(row) => row.v += source.v + 1,
                    None => all.push(Row { id, ..source }),
                }
            }
            all
        }
        Kind::Overwrite => {
            let kept = rows.into_iter().filter(|row| row.id % 2 == 0);
            map(kept.collect(), |row| row.v += 7)
        }
        Kind::Optimize => rows,
    };
    after.sort();
    after
}

fn map(mut rows: Vec<Row>, change: impl Fn(&mut Row)) -> Vec<Row> {
    rows.iter_mut().for_each(change);
    rows
}

/// What does not depend on the order of rows: their count, and sums that no loss and no doubling leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// How many.
    pub rows: i64,
    /// Of the ids.
    pub ids: i64,
    /// Of the values, each times its id.
    pub values: i64,
    /// Of the texts' lengths, each times its id, and of the partitions.
    pub texts: i64,
}

impl Checksum {
    /// Of some rows.
    pub fn of(rows: &[Row]) -> Self {
        let sum = |of: fn(&Row) -> i64| rows.iter().map(of).sum();
        Self {
            rows: rows.len() as i64,
            ids: sum(|row| row.id),
            values: sum(|row| row.id * row.v),
            texts: sum(|row| row.id * row.t.len() as i64 + row.p),
        }
    }

    /// The query that answers it.
    pub fn query(table: &str) -> String {
        format!(
            "SELECT count(*) AS rows, coalesce(sum(id), 0) AS ids, coalesce(sum(id * v), 0) AS \"values\", \
             coalesce(sum(id * length(t) + p), 0) AS texts FROM {table}"
        )
    }
}
