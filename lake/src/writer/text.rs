//! CSV and JSON files: rows as text, streamed to the store.

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use std::borrow::Cow;
use tokio::io::AsyncWriteExt;

use super::file::Finished;
use crate::{Error, Result};

/// A text file that is open.
pub(super) struct TextFile {
    upload: BufWriter,
    schema: SchemaRef,
    kind: Kind,
    bytes: u64,
    rows: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Whether the columns' names are still to be written.
    Csv {
        header: bool,
    },
    Json,
}

impl TextFile {
    pub(super) fn csv(upload: BufWriter, schema: SchemaRef, header: bool) -> Self {
        Self::new(upload, schema, Kind::Csv { header })
    }

    pub(super) fn json(upload: BufWriter, schema: SchemaRef) -> Self {
        Self::new(upload, schema, Kind::Json)
    }

    fn new(upload: BufWriter, schema: SchemaRef, kind: Kind) -> Self {
        Self {
            upload,
            schema,
            kind,
            bytes: 0,
            rows: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn into_inner(self) -> BufWriter {
        self.upload
    }

    pub(super) async fn write(
        &mut self,
        table: &str,
        path: &Path,
        rows: &RecordBatch,
    ) -> Result<()> {
        let mut text = self.header();
        let written = match self.kind {
            Kind::Csv { .. } => csv(rows, &mut text),
            Kind::Json => {
                let mut writer = LineDelimitedWriter::new(&mut text);
                writer.write(rows).and_then(|()| writer.finish())
            }
        };
        written.map_err(|error| Error::Rows {
            table: table.to_owned(),
            reason: error.to_string(),
        })?;
        self.put(path, &text).await?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// The line of names, where it is still to be written.
    fn header(&mut self) -> Vec<u8> {
        let Kind::Csv { header } = &mut self.kind else {
            return Vec::new();
        };
        match std::mem::take(header) {
            false => Vec::new(),
            true => {
                let names = self.schema.fields().iter();
                let names = names.map(|field| quoted(field.name()).into_owned());
                let line = names.collect::<Vec<_>>().join(",");
                format!("{line}\n").into_bytes()
            }
        }
    }

    async fn put(&mut self, path: &Path, text: &[u8]) -> Result<()> {
        self.upload
            .write_all(text)
            .await
            .map_err(|error| failed(path, error))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    pub(super) async fn finish(&mut self, path: &Path) -> Result<Finished> {
        let header = self.header();
        self.put(path, &header).await?;
        self.upload
            .shutdown()
            .await
            .map_err(|error| failed(path, error))?;
        Ok(Finished {
            size: self.bytes,
            rows: self.rows,
            statistics: None,
        })
    }
}

/// Rows as lines. An empty text is `""`, null is nothing; only where a line would be blank, and thus no row to most
/// readers, null is `""` too.
fn csv(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let mut columns = Vec::with_capacity(rows.num_columns());
    let schema = rows.schema();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if field.data_type().is_nested() {
            return Err(ArrowError::CsvError(format!(
                "column '{}' is {}, which CSV cannot hold",
                field.name(),
                field.data_type()
            )));
        }
        columns.push((column, ArrayFormatter::try_new(column, &options)?));
    }
    let is_narrow = columns.len() == 1;
    let mut text = String::new();
    for row in 0..rows.num_rows() {
        for (at, (column, values)) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if column.is_valid(row) {
                text.clear();
                values.value(row).write(&mut text)?;
                out.extend_from_slice(quoted(&text).as_bytes());
            } else if is_narrow {
                out.extend_from_slice(b"\"\"");
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

/// A value as a field of CSV (RFC 4180).
fn quoted(text: &str) -> Cow<'_, str> {
    match text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    let source = match error.downcast::<object_store::Error>() {
        Ok(source) => source,
        Err(error) => object_store::Error::Generic {
            store: "upload",
            source: Box::new(error),
        },
    };
    Error::store("write", path, source)
}
