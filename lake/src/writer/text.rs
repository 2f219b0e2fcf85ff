//! CSV and JSON files: rows as text, streamed to the store.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::WriterBuilder as CsvWriter;
use datafusion::arrow::json::LineDelimitedWriter;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::file::Finished;
use crate::{Error, Result};

/// A text file that is open.
pub(super) struct TextFile {
    upload: BufWriter,
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
    pub(super) fn csv(upload: BufWriter, header: bool) -> Self {
        Self::new(upload, Kind::Csv { header })
    }

    pub(super) fn json(upload: BufWriter) -> Self {
        Self::new(upload, Kind::Json)
    }

    fn new(upload: BufWriter, kind: Kind) -> Self {
        Self {
            upload,
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
        let mut text = Vec::new();
        let written = match self.kind {
            Kind::Csv { header } => CsvWriter::new()
                .with_header(header)
                .build(&mut text)
                .write(rows),
            Kind::Json => {
                let mut writer = LineDelimitedWriter::new(&mut text);
                writer.write(rows).and_then(|()| writer.finish())
            }
        };
        written.map_err(|error| Error::Rows {
            table: table.to_owned(),
            reason: error.to_string(),
        })?;
        if let Kind::Csv { header } = &mut self.kind {
            *header = false;
        }
        self.upload
            .write_all(&text)
            .await
            .map_err(|error| failed(path, error))?;
        self.bytes += text.len() as u64;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    pub(super) async fn finish(&mut self, path: &Path) -> Result<Finished> {
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
