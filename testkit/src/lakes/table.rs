//! A table as it lies in the bucket, read without Drumline: its log's entries one after another, and every file
//! that they name.
//!
//! Reading refuses what must never be: a file that is named twice, one that is not there or has other rows than its
//! entry says, a statement that two entries carry.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::plan::Format;
use super::rows::Row;
use super::{BUCKET, ROOT};
use crate::Gcs;

/// The newest version of a table.
#[derive(Debug)]
pub struct Table {
    /// Its number.
    pub version: u64,
    /// All rows, in order.
    pub rows: Vec<Row>,
    /// Keys of its files.
    pub files: BTreeSet<String>,
    /// Keys that listers of its folder take for data.
    pub listed: BTreeSet<String>,
}

struct Named {
    key: String,
    /// Where it was before it was published.
    staged: Option<String>,
    size: u64,
    rows: u64,
    /// Its partition, of a table that has any.
    p: Option<i64>,
}

/// Reads a table; none where no log of it lies.
pub fn read(gcs: &Gcs, format: Format, name: &str) -> Result<Option<Table>> {
    let Some(log) = replay(gcs, format, name)? else {
        return Ok(None);
    };
    let mut rows = Vec::new();
    for file in log.live.values() {
        rows.extend(rows_of(gcs, file).with_context(|| file.key.clone())?);
    }
    rows.sort();
    Ok(Some(Table {
        version: log.version,
        rows,
        files: log.live.into_keys().collect(),
        listed: data_under(gcs, &format!("{}/", log.folder)),
    }))
}

/// The version of a table, and the keys of its files; of a table of any columns.
pub fn files(gcs: &Gcs, format: Format, name: &str) -> Result<Option<(u64, BTreeSet<String>)>> {
    let log = replay(gcs, format, name)?;
    Ok(log.map(|log| (log.version, log.live.into_keys().collect())))
}

/// What a log comes to.
struct Log {
    version: u64,
    folder: String,
    live: BTreeMap<String, Named>,
}

fn replay(gcs: &Gcs, format: Format, name: &str) -> Result<Option<Log>> {
    let (log, folder) = match format {
        Format::Delta => {
            let Some(folder) = folder_of(gcs, name)? else {
                return Ok(None);
            };
            (format!("{folder}/_delta_log/"), folder)
        }
        Format::Parquet => {
            let Some(log) = commits_of(gcs, name)? else {
                return Ok(None);
            };
            let folder = match folder_of(gcs, name)? {
                Some(folder) => folder,
                // Nothing of it is published, or it holds nothing.
                None => format!("{ROOT}/default/{name}"),
            };
            (log, folder)
        }
    };
    let mut live: BTreeMap<String, Named> = BTreeMap::new();
    let mut statements = BTreeSet::new();
    let mut version = None;
    for number in 0.. {
        let key = format!("{log}{number:020}.json");
        let Some(bytes) = gcs.bytes(BUCKET, &key) else {
            break;
        };
        let entry = match format {
            Format::Delta => delta_entry(&bytes, &folder),
            Format::Parquet => plain_entry(&bytes, &folder),
        };
        let entry = entry.with_context(|| key.clone())?;
        if let Some(statement) = entry.statement {
            ensure!(
                statements.insert(statement.clone()),
                "{key}: statement {statement} is committed twice"
            );
        }
        for path in entry.removed {
            ensure!(
                live.remove(&path).is_some(),
                "{key} takes away '{path}', which is not there"
            );
        }
        for file in entry.added {
            let path = file.key.clone();
            ensure!(
                live.insert(path.clone(), file).is_none(),
                "{key} names '{path}' a second time"
            );
        }
        version = Some(number);
    }
    Ok(version.map(|version| Log {
        version,
        folder,
        live,
    }))
}

/// Parquet files under a prefix, logs left out.
pub fn data_under(gcs: &Gcs, prefix: &str) -> BTreeSet<String> {
    let keys = gcs.keys(BUCKET, prefix).into_iter();
    keys.filter(|key| key.ends_with(".parquet") && !key.contains("/_delta_log/"))
        .collect()
}

/// What lies in the lake's own folders for files that are to be named, or were: staged ones, replaced ones.
pub fn waiting(gcs: &Gcs) -> Vec<String> {
    let folders = ["staging", "replaced"].into_iter();
    let keys = folders.map(|folder| gcs.keys(BUCKET, &format!("{ROOT}/_drumline/{folder}/")));
    keys.flatten().collect()
}

/// The folder of a table: of its name, or of its name and id where the name's own was taken.
fn folder_of(gcs: &Gcs, name: &str) -> Result<Option<String>> {
    one_folder(gcs, &format!("{ROOT}/default/{name}"))
}

fn commits_of(gcs: &Gcs, name: &str) -> Result<Option<String>> {
    let found = one_folder(gcs, &format!("{ROOT}/_drumline/commits/default.{name}"))?;
    Ok(found.map(|folder| format!("{folder}/")))
}

fn one_folder(gcs: &Gcs, prefix: &str) -> Result<Option<String>> {
    let mut found = BTreeSet::new();
    for key in gcs.keys(BUCKET, prefix) {
        let rest = key.strip_prefix(prefix).unwrap_or_default();
        let Some((more, _)) = rest.split_once('/') else {
            continue;
        };
        if more.is_empty() || more.starts_with('-') {
            found.insert(format!("{prefix}{more}"));
        }
    }
    ensure!(found.len() <= 1, "several tables at once: {found:?}");
    Ok(found.pop_first())
}

#[derive(Default)]
struct Entry {
    added: Vec<Named>,
    removed: Vec<String>,
    statement: Option<String>,
}

fn delta_entry(bytes: &[u8], folder: &str) -> Result<Entry> {
    let mut entry = Entry::default();
    for line in std::str::from_utf8(bytes)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let Some(add) = line.get("add") {
            let stats = text(add, "stats")?;
            let stats: Value = serde_json::from_str(stats)?;
            entry.added.push(Named {
                key: format!("{folder}/{}", decoded(text(add, "path")?)?),
                staged: None,
                size: number(add, "size")?,
                rows: number(&stats, "numRecords")?,
                p: partition(add.pointer("/partitionValues/p"))?,
            });
        }
        if let Some(remove) = line.get("remove") {
            let path = decoded(text(remove, "path")?)?;
            entry.removed.push(format!("{folder}/{path}"));
        }
        if let Some(statement) = line.pointer("/commitInfo/drumline.statement") {
            entry.statement = named(statement);
        }
    }
    Ok(entry)
}

fn plain_entry(bytes: &[u8], folder: &str) -> Result<Entry> {
    let record: Value = serde_json::from_slice(bytes)?;
    let list = |key: &str| record[key].as_array().cloned().unwrap_or_default();
    let mut entry = Entry {
        statement: record.get("made_by").and_then(named),
        ..Entry::default()
    };
    for add in list("add") {
        entry.added.push(Named {
            key: format!("{folder}/{}", text(&add, "path")?),
            staged: Some(text(&add, "staged")?.to_owned()),
            size: number(&add, "size")?,
            rows: number(&add, "rows")?,
            p: partition(add.pointer("/partition_values/0"))?,
        });
    }
    for path in list("remove") {
        let path = path.as_str().context("a path that is none")?;
        entry.removed.push(format!("{folder}/{path}"));
    }
    Ok(entry)
}

fn partition(value: Option<&Value>) -> Result<Option<i64>> {
    let value = value.and_then(Value::as_str);
    Ok(value.map(str::parse).transpose()?)
}

fn named(statement: &Value) -> Option<String> {
    let application = statement.get("application")?.as_str()?;
    Some(format!("{application}/{}", statement.get("ordinal")?))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    let found = value.get(key).and_then(Value::as_str);
    found.with_context(|| format!("no {key} in {value}"))
}

fn number(value: &Value, key: &str) -> Result<u64> {
    let found = value.get(key).and_then(Value::as_u64);
    found.with_context(|| format!("no {key} in {value}"))
}

/// Undoes `%41`.
fn decoded(path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex)?, 16)?);
            }
            other => bytes.push(other),
        }
    }
    Ok(String::from_utf8(bytes)?)
}

fn rows_of(gcs: &Gcs, file: &Named) -> Result<Vec<Row>> {
    let found = gcs.bytes(BUCKET, &file.key);
    let staged = || gcs.bytes(BUCKET, file.staged.as_deref()?);
    let Some(bytes) = found.or_else(staged) else {
        bail!("it is named, and not there");
    };
    ensure!(
        bytes.len() as u64 == file.size,
        "it is named with {} bytes and has {}",
        file.size,
        bytes.len()
    );
    let p = file.p.context("a file of no partition")?;
    let rows = parquet_rows(bytes, p)?;
    ensure!(
        rows.len() as u64 == file.rows,
        "it is named with {} rows and has {}",
        file.rows,
        rows.len()
    );
    Ok(rows)
}

/// How many rows a Parquet file says it has.
pub fn count_rows(bytes: &Bytes) -> Result<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
    Ok(reader.metadata().file_metadata().num_rows())
}

fn parquet_rows(bytes: Bytes, p: i64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let batch = batch?;
        let column = |name: &str, as_type: &DataType| -> Result<_> {
            let column = batch.column_by_name(name);
            let column = column.with_context(|| format!("no column {name}"))?;
            ensure!(column.null_count() == 0, "nulls in column {name}");
            Ok(cast(column, as_type)?)
        };
        let (id, v) = (
            column("id", &DataType::Int64)?,
            column("v", &DataType::Int64)?,
        );
        let t = column("t", &DataType::Utf8)?;
        let (id, v, t) = (
            id.as_primitive::<Int64Type>(),
            v.as_primitive::<Int64Type>(),
            t.as_string::<i32>(),
        );
        for place in 0..batch.num_rows() {
            rows.push(Row {
                id: id.value(place),
                v: v.value(place),
                t: t.value(place).to_owned(),
                p,
            });
        }
    }
    Ok(rows)
}
