//! Debezium's envelopes: a change of a row as the row, and what happened to it.
//!
//! The row is `after`, and `before` where the row was deleted. Beside its columns stand `_op` (`c`reated,
//! `u`pdated, `d`eleted, `r`ead by a snapshot, `t`runcated), `_ts_ms`, `_position` (the place in the source's
//! own log, as text that sorts as the log does) and `_source` (as JSON).

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Builder, RecordBatch, StringBuilder, StructArray,
};
use arrow::compute::{filter, interleave};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::flat::Json;
use super::{Format, Origins, Rows};
use crate::schema::{self, Declared};
use crate::{Error, Result};

/// The columns of a row, and those of its change.
pub(super) fn with_change(row: &Schema) -> SchemaRef {
    let own = [
        ("_op", DataType::Utf8),
        ("_ts_ms", DataType::Int64),
        ("_position", DataType::Utf8),
        ("_source", DataType::Utf8),
    ];
    let own = own.map(|(name, data_type)| Arc::new(Field::new(name, data_type, true)));
    let fields = row.fields().iter().cloned().chain(own);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns of the row in an envelope with a schema.
pub(super) fn row_schema(envelope: &Schema) -> Result<Schema, String> {
    let after = envelope.field_with_name("after").map_err(
        |_| "the registered schema has no field after, so it is no change of debezium's",
    )?;
    match after.data_type() {
        DataType::Struct(fields) => Ok(Schema::new(fields.clone())),
        _ => Err("the field after of the registered schema is no record".to_owned()),
    }
}

/// What happened, row by row.
#[derive(Debug, Default)]
struct Happened {
    op: StringBuilder,
    ts_ms: Int64Builder,
    position: StringBuilder,
    source: StringBuilder,
}

impl Happened {
    fn take(&mut self, op: &str, ts_ms: Option<i64>, source: Option<&str>) {
        self.op.append_value(op);
        self.ts_ms.append_option(ts_ms);
        let parsed: Option<Value> = source.and_then(|text| serde_json::from_str(text).ok());
        // Where the source says nothing of its log, what was seen later is newer.
        let place = parsed.as_ref().and_then(position);
        let seen = || {
            Some(in_nanos(
                u64::try_from(ts_ms?).ok()?.checked_mul(1_000_000)?,
            ))
        };
        self.position.append_option(place.or_else(seen));
        self.source.append_option(source);
    }

    fn take_null(&mut self) {
        self.op.append_null();
        self.ts_ms.append_null();
        self.position.append_null();
        self.source.append_null();
    }

    fn finish(&mut self) -> [ArrayRef; 4] {
        [
            Arc::new(self.op.finish()),
            Arc::new(self.ts_ms.finish()),
            Arc::new(self.position.finish()),
            Arc::new(self.source.finish()),
        ]
    }
}

fn in_nanos(moment: u64) -> String {
    format!("{moment:020}")
}

/// The place of a change in its source's log: compares as text in the order of the log.
fn position(source: &Value) -> Option<String> {
    let number = |key: &str| match source.get(key)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let text = |key: &str| source.get(key).and_then(Value::as_str).unwrap_or_default();
    let moment = || number("ts_ns").or_else(|| number("ts_ms")?.checked_mul(1_000_000));
    match text("connector") {
        "postgresql" => number("lsn").map(|lsn| format!("{lsn:020}")),
        "mysql" | "mariadb" => {
            let file: u64 = text("file").rsplit('.').next()?.parse().ok()?;
            let row = number("row").unwrap_or_default();
            Some(format!("{file:010}:{:020}:{row:010}", number("pos")?))
        }
        "sqlserver" => {
            let serial = number("event_serial_no").unwrap_or_default();
            // A snapshot has no place of its own within the commit: it comes first.
            let change = Some(text("change_lsn"))
                .filter(|it| *it != "NULL")
                .unwrap_or_default();
            Some(format!("{}:{change:22}:{serial:010}", text("commit_lsn")))
        }
        "oracle" => {
            let scn = text("scn");
            let commit = Some(text("commit_scn"))
                .filter(|it| !it.is_empty())
                .unwrap_or(scn);
            (!scn.is_empty()).then(|| format!("{commit:0>40}:{scn:0>40}"))
        }
        "mongodb" => Some(format!(
            "{:020}:{:010}",
            number("ts_ms")?,
            number("ord").unwrap_or_default()
        )),
        _ => None,
    }
    .or_else(|| moment().map(in_nanos))
}

#[derive(Debug, Default, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<Cow<'a, str>>,
    ts_ms: Option<i64>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    // Of converters that put the schema into every record.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Key<'a> {
    // Of converters that put the schema into every key.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

/// The columns of a record's key, if it is an object.
fn key_of(key: Option<&[u8]>) -> Option<&RawValue> {
    let key = key?;
    let whole: &RawValue = serde_json::from_slice(key).ok()?;
    match serde_json::from_slice(key).ok()? {
        Key {
            payload: Some(payload),
            schema: Some(_),
        } => Some(payload),
        _ => Some(whole),
    }
}

/// Changes in JSON, with or without their schema.
#[derive(Debug)]
pub(super) struct Changes {
    json: Json,
    happened: Happened,
    schema: SchemaRef,
}

impl Changes {
    pub(super) fn new(fields: Vec<Declared>, keys: &[String]) -> Result<Self> {
        Ok(Self {
            schema: with_change(&schema::input(&fields)),
            json: Json::new(fields)?.with_keys(keys),
            happened: Happened::default(),
        })
    }
}

impl Format for Changes {
    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        self.take_keyed(value, None)
    }

    fn take_keyed(&mut self, value: &[u8], key: Option<&[u8]>) -> Result<(), String> {
        let malformed = |error: serde_json::Error| format!("malformed change: {error}");
        let mut envelope: Envelope<'_> = serde_json::from_slice(value).map_err(malformed)?;
        if let (None, Some(payload)) = (&envelope.op, envelope.payload) {
            envelope = serde_json::from_str(payload.get()).map_err(malformed)?;
        }
        let op = envelope.op.ok_or(
            "malformed change: it has no op; envelope = \"debezium\" reads debezium's envelopes",
        )?;
        let row = match op.as_ref() {
            "c" | "u" | "r" => envelope
                .after
                .ok_or_else(|| format!("malformed change: op {op} without after"))?
                .get(),
            // A source that does not tell what it deleted tells its key.
            "d" => envelope
                .before
                .or_else(|| key_of(key))
                .ok_or("malformed change: op d without before and key; the source's table needs a replica identity")?
                .get(),
            "t" => "{}",
            _ => return Err(format!("a change with op {op:?} is none of a row")),
        };
        match op.as_ref() {
            "t" => self.json.take_null(),
            "d" => self.json.take_deleted(row.as_bytes())?,
            _ => self.json.take(row.as_bytes())?,
        }
        let source = envelope.source.map(RawValue::get);
        self.happened.take(&op, envelope.ts_ms, source);
        Ok(())
    }

    fn take_null(&mut self) {
        self.json.take_null();
        self.happened.take_null();
    }

    fn finish(&mut self, _: &Origins) -> Result<Rows> {
        let mut columns = self.json.columns();
        columns.extend(self.happened.finish());
        Ok(Rows {
            schema: Arc::clone(&self.schema),
            columns,
            refused: Vec::new(),
            order: None,
        })
    }
}

/// Changes as records of a format with a schema of its own.
#[derive(Debug)]
pub(super) struct ChangedRows<F>(F);

impl<F: Format> ChangedRows<F> {
    pub(super) fn new(inner: F) -> Self {
        Self(inner)
    }
}

impl<F: Format> Format for ChangedRows<F> {
    fn waits(&mut self, value: &[u8]) -> Option<String> {
        self.0.waits(value)
    }

    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        self.0.take(value)
    }

    fn take_null(&mut self) {
        self.0.take_null();
    }

    fn kept(&mut self, origins: &Origins) {
        self.0.kept(origins);
    }

    fn finish(&mut self, origins: &Origins) -> Result<Rows> {
        let Rows {
            schema,
            columns,
            mut refused,
            order,
        } = self.0.finish(origins)?;
        let bug = |error: arrow::error::ArrowError| Error::Bug {
            context: format!("changes do not fit: {error}"),
        };
        let row = row_schema(&schema).map_err(|context| Error::Bug { context })?;
        let count = columns.first().map_or(0, |column| column.len());
        // Rows of the batch that these columns have.
        let gone: std::collections::BTreeSet<usize> = refused.iter().map(|(row, _)| *row).collect();
        let in_order = || (0..).filter(|row| !gone.contains(row)).take(count);
        let mut rows: Vec<usize> = order.unwrap_or_else(|| in_order().collect());

        let column = |name: &str| schema.index_of(name).ok().and_then(|at| columns.get(at));
        let after = column("after");
        let after = after.ok_or_else(|| Error::Bug {
            context: "changes without after".to_owned(),
        })?;
        let before = column("before").filter(|it| it.data_type() == after.data_type());
        let before = before.unwrap_or(after);
        let op = column("op").and_then(|column| column.as_string_opt::<i32>());
        let ts_ms = column("ts_ms").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let sources = column("source").map(json_lines).transpose();
        let sources = sources.map_err(bug)?;

        let mut keep = vec![true; count];
        let mut places = Vec::with_capacity(count);
        let mut happened = Happened::default();
        for at in 0..count {
            let own = op.filter(|op| op.is_valid(at)).map(|op| op.value(at));
            let is_tombstone = own.is_none() && after.is_null(at) && before.is_null(at);
            let (place, failure) = match own {
                Some("c" | "u" | "r") if after.is_null(at) => (1, Some("it has no after")),
                Some("d") if before.is_null(at) => (0, Some("it has no before")),
                Some("d") => (0, None),
                Some("c" | "u" | "r" | "t") => (1, None),
                None if is_tombstone => (1, None),
                _ => (1, Some("its op is none of a row")),
            };
            places.push((place, at));
            if let Some(failure) = failure {
                refused.push((rows[at], format!("malformed change: {failure}")));
                keep[at] = false;
            }
            let ts_ms = ts_ms.filter(|it| it.is_valid(at)).map(|it| it.value(at));
            let source = sources.as_ref().and_then(|lines| lines.get(at));
            match own {
                Some(op) => happened.take(op, ts_ms, source.and_then(Option::as_deref)),
                None => happened.take_null(),
            }
        }
        let chosen = interleave(&[before.as_ref(), after.as_ref()], &places).map_err(bug)?;
        let mut columns = unnested(chosen.as_struct()).map_err(bug)?;
        columns.extend(happened.finish());
        if keep.contains(&false) {
            let mut kept = keep.iter();
            rows.retain(|_| kept.next().copied().unwrap_or(true));
            let keep = BooleanArray::from(keep);
            for column in &mut columns {
                *column = filter(column, &keep).map_err(bug)?;
            }
            refused.sort_unstable();
        }
        Ok(Rows {
            schema: with_change(&row),
            columns,
            refused,
            order: Some(rows),
        })
    }
}

/// A struct's columns, null where it is.
fn unnested(rows: &StructArray) -> arrow::error::Result<Vec<ArrayRef>> {
    let Some(nulls) = rows.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(rows.columns().to_vec());
    };
    let absent = BooleanArray::new(!nulls.inner(), None);
    let columns = rows.columns().iter();
    columns
        .map(|column| arrow::compute::nullif(column, &absent))
        .collect()
}

/// Each row of a struct as JSON.
fn json_lines(source: &ArrayRef) -> arrow::error::Result<Vec<Option<String>>> {
    let Some(rows) = source.as_struct_opt() else {
        return Ok(vec![None; source.len()]);
    };
    let batch = RecordBatch::from(StructArray::try_new_with_length(
        rows.fields().clone(),
        rows.columns().to_vec(),
        None,
        rows.len(),
    )?);
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner())
        .map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()))?;
    let lines = text.lines().enumerate();
    Ok(lines
        .map(|(row, line)| rows.is_valid(row).then(|| line.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests;
