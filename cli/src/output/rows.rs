//! A statement's rows, written as they arrive.
//!
//! CSV and JSON are written as they come, a buffer at a time. A table needs its columns' widths first,
//! so it holds rows back, though never more than [`TABLE_ROWS`]: a longer answer is printed as several
//! tables. As long as nothing is out, an answer that broke off can be asked for again.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;

use crate::failure::{OrFail as _, Result};
use crate::output::{Written, written};

/// Rows that one printed table holds at most.
const TABLE_ROWS: usize = 10_000;
/// Bytes of CSV or JSON that are held back.
const HELD_BYTES: usize = 1 << 20;

const TABLE_CELLS: FormatOptions<'static> = FormatOptions::new()
    .with_null("NULL")
    .with_display_error(true);

/// Shape of rows on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Boxed columns, for people.
    #[default]
    Table,
    /// RFC 4180 with a header line; null is an empty field.
    Csv,
    /// One JSON object per row and line; null is written out.
    Json,
}

/// Writes the batches of one result to `out`.
pub(crate) struct RowWriter<W: Write> {
    format: Format,
    out: W,
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    held_rows: usize,
    bytes: Vec<u8>,
    /// The header, or the first table, has been made.
    begun: bool,
    /// Something was written to `out`.
    out_begun: bool,
}

impl<W: Write> RowWriter<W> {
    pub(crate) fn new(format: Format, schema: SchemaRef, out: W) -> Self {
        Self {
            format,
            out,
            schema,
            held: Vec::new(),
            held_rows: 0,
            bytes: Vec::new(),
            begun: false,
            out_begun: false,
        }
    }

    /// Something of this answer has been written out already.
    pub(crate) fn has_written(&self) -> bool {
        self.out_begun
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Written> {
        if batch.num_rows() == 0 {
            return Ok(Written::Yes);
        }
        match self.format {
            Format::Csv => self.csv(batch),
            Format::Json => self.json(batch),
            Format::Table => {
                let mut from = 0;
                while from < batch.num_rows() {
                    let take = (TABLE_ROWS - self.held_rows).min(batch.num_rows() - from);
                    self.held.push(batch.slice(from, take));
                    self.held_rows += take;
                    from += take;
                    if self.held_rows == TABLE_ROWS && self.table()? == Written::ReaderGone {
                        return Ok(Written::ReaderGone);
                    }
                }
                Ok(Written::Yes)
            }
        }
    }

    /// Writes what is held back, and the header of an answer without rows.
    pub(crate) fn finish(mut self) -> Result<Written> {
        let last = match self.format {
            Format::Table if self.begun && self.held.is_empty() => Written::Yes,
            Format::Table => self.table()?,
            Format::Csv if !self.begun => self.csv(&RecordBatch::new_empty(self.schema.clone()))?,
            Format::Csv | Format::Json => Written::Yes,
        };
        match last {
            Written::Yes => self.flush(),
            Written::ReaderGone => Ok(last),
        }
    }

    fn flush(&mut self) -> Result<Written> {
        self.out_begun |= !self.bytes.is_empty();
        let result = self
            .out
            .write_all(&self.bytes)
            .and_then(|()| self.out.flush());
        self.bytes.clear();
        written(result)
    }

    fn flush_when_full(&mut self) -> Result<Written> {
        if self.bytes.len() < HELD_BYTES {
            Ok(Written::Yes)
        } else {
            self.flush()
        }
    }

    fn table(&mut self) -> Result<Written> {
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            held.push(RecordBatch::new_empty(self.schema.clone()));
        }
        self.held_rows = 0;
        self.begun = true;
        let text = if is_plan(&self.schema) {
            plan_text(&held)?
        } else {
            let table =
                arrow::util::pretty::pretty_format_batches_with_options(&held, &TABLE_CELLS)
                    .or_fail(|| "cannot show the rows".to_owned())?;
            format!("{table}\n")
        };
        self.bytes.extend_from_slice(text.as_bytes());
        self.flush()
    }

    fn csv(&mut self, batch: &RecordBatch) -> Result<Written> {
        let batch = flat(batch)?;
        arrow::csv::WriterBuilder::new()
            .with_header(!self.begun)
            .build(&mut self.bytes)
            .write(&batch)
            .or_fail(|| "cannot write the rows as CSV".to_owned())?;
        self.begun = true;
        self.flush_when_full()
    }

    fn json(&mut self, batch: &RecordBatch) -> Result<Written> {
        let mut writer = arrow::json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::LineDelimited>(&mut self.bytes);
        writer
            .write(batch)
            .and_then(|()| writer.finish())
            .or_fail(|| "cannot write the rows as JSON".to_owned())?;
        drop(writer);
        self.begun = true;
        self.flush_when_full()
    }
}

/// Whether these are the rows of `EXPLAIN`.
fn is_plan(schema: &Schema) -> bool {
    schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .eq(["plan_type", "plan"])
}

/// Plans as they are: a box around lines that long could not be read.
fn plan_text(batches: &[RecordBatch]) -> Result<String> {
    let mut text = String::new();
    for batch in batches {
        let cell = |column: usize| {
            ArrayFormatter::try_new(batch.column(column), &TABLE_CELLS)
                .or_fail(|| "cannot show the plan".to_owned())
        };
        let (kinds, plans) = (cell(0)?, cell(1)?);
        for row in 0..batch.num_rows() {
            let plan = plans.value(row).to_string();
            text.push_str(&format!("-- {}\n{}\n\n", kinds.value(row), plan.trim_end()));
        }
    }
    Ok(text)
}

/// CSV has no nested values: those are written as text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    if !schema
        .fields()
        .iter()
        .any(|field| field.data_type().is_nested())
    {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(text(column)?);
        } else {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .or_fail(|| "cannot write the rows as CSV".to_owned())
}

fn text(column: &ArrayRef) -> Result<ArrayRef> {
    let formatter = ArrayFormatter::try_new(column.as_ref(), &TABLE_CELLS)
        .or_fail(|| "cannot show a column".to_owned())?;
    let mut cells = StringBuilder::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            cells.append_null();
        } else {
            cells.append_value(
                formatter
                    .value(row)
                    .try_to_string()
                    .or_fail(|| "cannot show a value".to_owned())?,
            );
        }
    }
    Ok(Arc::new(cells.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListBuilder, StringArray, StringBuilder};

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            (
                "artist",
                Arc::new(StringArray::from(vec![
                    Some("Muse"),
                    None,
                    Some("a, \"b\""),
                ])) as ArrayRef,
            ),
            (
                "listens",
                Arc::new(Int64Array::from(vec![Some(3), Some(2), None])) as ArrayRef,
            ),
        ])
        .unwrap()
    }

    fn show(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut writer = RowWriter::new(format, batch().schema(), &mut out);
        for batch in batches {
            assert_eq!(writer.write(batch).unwrap(), Written::Yes);
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_tell_null_from_empty() {
        insta::assert_snapshot!(show(Format::Table, &[batch()]), @r#"
        +--------+---------+
        | artist | listens |
        +--------+---------+
        | Muse   | 3       |
        | NULL   | 2       |
        | a, "b" | NULL    |
        +--------+---------+
        "#);
    }

    #[test]
    fn plans_are_printed_as_they_are() {
        let plan = RecordBatch::try_from_iter([
            (
                "plan_type",
                Arc::new(StringArray::from(vec!["logical_plan"])) as ArrayRef,
            ),
            (
                "plan",
                Arc::new(StringArray::from(vec!["Filter: a\n  TableScan: t"])) as ArrayRef,
            ),
        ])
        .unwrap();
        let mut out = Vec::new();
        let mut writer = RowWriter::new(Format::Table, plan.schema(), &mut out);
        assert_eq!(writer.write(&plan).unwrap(), Written::Yes);
        writer.finish().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "-- logical_plan\nFilter: a\n  TableScan: t\n\n"
        );
    }

    #[test]
    fn csv_has_one_header_whatever_the_number_of_batches() {
        insta::assert_snapshot!(show(Format::Csv, &[batch().slice(0, 1), batch().slice(1, 2)]), @r#"
        artist,listens
        Muse,3
        ,2
        "a, ""b""",
        "#);
    }

    #[test]
    fn json_lines_write_nulls_out() {
        insta::assert_snapshot!(show(Format::Json, &[batch()]), @r#"
        {"artist":"Muse","listens":3}
        {"artist":null,"listens":2}
        {"artist":"a, \"b\"","listens":null}
        "#);
    }

    #[test]
    fn an_empty_answer_still_has_its_header() {
        assert_eq!(show(Format::Csv, &[]), "artist,listens\n");
        assert_eq!(show(Format::Json, &[]), "");
        assert!(show(Format::Table, &[]).contains("| artist | listens |"));
    }

    #[test]
    fn a_long_table_is_printed_in_parts_and_loses_no_row() {
        let batches = vec![batch(); TABLE_ROWS / 3 + 1];
        let text = show(Format::Table, &batches);
        assert_eq!(text.matches("| Muse").count(), batches.len());
        assert_eq!(text.matches("| artist").count(), 2);
    }

    #[test]
    fn csv_writes_nested_values_as_text() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.values().append_value("x");
        lists.append(true);
        let batch =
            RecordBatch::try_from_iter([("l", Arc::new(lists.finish()) as ArrayRef)]).unwrap();
        assert_eq!(show(Format::Csv, &[batch]), "l\n[x]\n");
    }
}
