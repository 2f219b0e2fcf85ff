//! `Streams::verify`: the master's account of a stream's tables, and what the rows themselves say.
//!
//! Where a table has `_topic, _partition, _offset`, its rows are asked in SQL, at the very version that the master
//! looked at: no position twice, none outside the commits' ranges, none missing of those that the commits counted.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use drumline_proto::v1::{self, VerifiedPartition, VerifiedTable, Violation};

use crate::{Client, Result};

/// Positions that are named one by one, of one partition.
const NAMED: usize = 5;
/// Ranges that are looked at in one query.
const RANGES: usize = 200;

/// What a table's rows say of one partition.
struct Held {
    rows: i64,
    positions: i64,
    first: i64,
    last: i64,
}

/// Adds what the rows say to what the master found.
pub(crate) async fn look_at_rows(client: &Client, answer: &mut v1::VerifyStreamResponse) {
    for table in answer.tables.clone() {
        if !table.metadata_columns || table.version == 0 {
            continue;
        }
        match look(client, &table).await {
            Ok(found) => {
                answer.violations.extend(found.violations);
                answer.notes.extend(found.notes);
            }
            // An old version's files may be gone by now, or its reader may not be let in.
            Err(error) => answer.notes.push(format!(
                "table {}: its rows were not looked at: {error}",
                table.table
            )),
        }
    }
}

/// What a table's rows say: what is wrong, and what is right in a way that wants a word.
#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
    notes: Vec<String>,
}

async fn look(client: &Client, table: &VerifiedTable) -> Result<Found> {
    let from = relation(table);
    let key = key(table);
    let sql = format!(
        "SELECT _topic, _partition, count(*), count(DISTINCT {key}), min(_offset), max(_offset) \
         FROM {from} GROUP BY _topic, _partition"
    );
    let mut held = BTreeMap::new();
    for batch in client.collect_sql(&sql).await? {
        let topics = texts(&batch, 0);
        for (row, topic) in topics.into_iter().enumerate() {
            let [partition, rows, positions, first, last] =
                [1, 2, 3, 4, 5].map(|column| number(&batch, column, row));
            let found = Held {
                rows,
                positions,
                first,
                last,
            };
            held.insert((topic, i32::try_from(partition).unwrap_or(-1)), found);
        }
    }
    let mut answer = Found::default();
    for partition in &table.partitions {
        let key = (partition.topic.clone(), partition.partition);
        let found = held.remove(&key).unwrap_or(Held {
            rows: 0,
            positions: 0,
            first: partition.from,
            last: partition.from - 1,
        });
        look_at(client, table, &from, partition, &found, &mut answer).await?;
    }
    for ((topic, partition), found) in held {
        if table.changed_by_others {
            answer.notes.push(format!(
                "table {}: others wrote {} rows of topic {topic} partition {partition}, which no commit of a stream names",
                table.table, found.rows
            ));
            continue;
        }
        answer.violations.push(Violation {
            table: table.table.clone(),
            topic,
            partition,
            version: table.version,
            from: found.first,
            to: found.last + 1,
            what: format!(
                "it holds {} rows of a partition that no commit names",
                found.rows
            ),
        });
    }
    Ok(answer)
}

async fn look_at(
    client: &Client,
    table: &VerifiedTable,
    from: &str,
    partition: &VerifiedPartition,
    found: &Held,
    answer: &mut Found,
) -> Result<()> {
    let wrong = |(version, from, to), what| Violation {
        table: table.table.clone(),
        topic: partition.topic.clone(),
        partition: partition.partition,
        version,
        from,
        to,
        what,
    };
    let of = format!(
        "_topic = '{}' AND _partition = {}",
        partition.topic.replace('\'', "''"),
        partition.partition
    );
    let violations = &mut answer.violations;
    let name = format!(
        "table {}: topic {} partition {}",
        table.table, partition.topic, partition.partition
    );
    if found.rows != found.positions {
        // Read again because somebody moved the stream: once more for each time.
        let allowed = partition.moves + 1;
        let copies = format!(
            "SELECT min(_offset) AS offset, count(*) AS rows FROM {from} WHERE {of} GROUP BY {} HAVING count(*) > {allowed}",
            key(table)
        );
        let sum = format!("SELECT sum(rows - {allowed}), count(*) FROM ({copies})");
        let more = pairs(&client.collect_sql(&sum).await?)
            .first()
            .map_or(0, |(more, _)| (*more).max(0));
        if more > 0 {
            let sql = format!("{copies} ORDER BY 1 LIMIT {NAMED}");
            for (offset, rows) in pairs(&client.collect_sql(&sql).await?) {
                let at = (version_of(partition, offset), offset, offset + 1);
                violations.push(wrong(at, format!("{rows} rows are of this one record")));
            }
            let all = (table.version, partition.from, partition.to);
            violations.push(wrong(all, format!("{more} rows too many in all")));
        }
        if partition.moves > 0 {
            let again = found.rows - found.positions - more;
            answer.notes.push(format!(
                "{name} was read again after a reset: {again} rows are of records that were there"
            ));
        }
    }
    let begins_in_sight = !partition.earlier_commits_gone;
    let lies_before = found.first < partition.from && begins_in_sight;
    // Behind where a reset moved the stream back to stand the rows of before.
    let lies_behind = found.last >= partition.to && partition.moves == 0;
    if lies_before || lies_behind {
        let at = (table.version, found.first, found.last + 1);
        let what = format!(
            "rows lie outside the commits' ranges, which are [{}, {})",
            partition.from, partition.to
        );
        match table.changed_by_others {
            true => answer
                .notes
                .push(format!("{name}: {what}: others wrote them")),
            false => violations.push(wrong(at, what)),
        }
    }
    let is_counted = begins_in_sight && partition.commits_without_counts == 0;
    let expected = i64::try_from(partition.rows).unwrap_or(i64::MAX);
    if is_counted && !table.changed_by_others && found.positions != expected {
        for ranges in partition.ranges.chunks(RANGES) {
            violations.extend(
                look_at_ranges(client, from, &of, ranges)
                    .await?
                    .into_iter()
                    .map(|(range, what)| wrong(range, what)),
            );
        }
        let all = (table.version, partition.from, partition.to);
        let what = format!(
            "the commits tell of {expected} rows, there are {}",
            found.positions
        );
        violations.push(wrong(all, what));
    }
    Ok(())
}

/// Which of these ranges have other numbers of rows than their commits say.
async fn look_at_ranges(
    client: &Client,
    from: &str,
    of: &str,
    ranges: &[v1::VerifiedRange],
) -> Result<Vec<((u64, i64, i64), String)>> {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return Ok(Vec::new());
    };
    let begins: Vec<String> = ranges
        .iter()
        .map(|range| format!("CASE WHEN _offset >= {} THEN 1 ELSE 0 END", range.from))
        .collect();
    let sql = format!(
        "SELECT range, count(*) FROM (SELECT {} AS range FROM {from} WHERE {of} AND _offset >= {} AND _offset < {}) \
         GROUP BY range",
        begins.join(" + "),
        first.from,
        last.to
    );
    let found: BTreeMap<i64, i64> = pairs(&client.collect_sql(&sql).await?)
        .into_iter()
        .collect();
    let mut wrong = Vec::new();
    for (number, range) in (1..).zip(ranges) {
        let rows = found.get(&number).copied().unwrap_or(0);
        if rows != i64::try_from(range.rows).unwrap_or(i64::MAX) {
            let what = format!("the commit tells of {} rows, there are {rows}", range.rows);
            wrong.push(((range.version, range.from, range.to), what));
        }
    }
    Ok(wrong)
}

fn version_of(partition: &VerifiedPartition, offset: i64) -> u64 {
    let ranges = partition.ranges.iter();
    let mut holding = ranges.filter(|range| range.from <= offset && offset < range.to);
    holding.next().map_or(0, |range| range.version)
}

/// What tells a table's rows apart. A record may be a dead letter for each of several tables.
fn key(table: &VerifiedTable) -> &'static str {
    match table.kind.as_str() {
        "dead letters" => "CAST(_offset AS VARCHAR) || ' ' || reason",
        _ => "_offset",
    }
}

fn relation(table: &VerifiedTable) -> String {
    let parts = table.table.split('.');
    let quoted: Vec<_> = parts
        .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
        .collect();
    format!("{} VERSION AS OF {}", quoted.join("."), table.version)
}

/// Rows of two numbers.
fn pairs(batches: &[RecordBatch]) -> Vec<(i64, i64)> {
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(move |row| (number(batch, 0, row), number(batch, 1, row)))
    });
    rows.collect()
}

fn number(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    let Some(column) = batch.columns().get(column) else {
        return -1;
    };
    let Ok(numbers) = cast(column, &DataType::Int64) else {
        return -1;
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    match numbers.is_valid(row) {
        true => numbers.value(row),
        false => -1,
    }
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let found = batch.columns().get(column);
    let found = found.and_then(|column| cast(column, &DataType::Utf8).ok());
    let found = found.map(|texts| {
        let texts = texts.as_string::<i32>();
        texts
            .iter()
            .map(|t| t.unwrap_or_default().to_owned())
            .collect()
    });
    found.unwrap_or_default()
}
