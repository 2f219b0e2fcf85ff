//! Open files of one topic: its table's and the dead letters', between two closings.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use drumline_lake::{StagedFile, Stores, WriteTarget, Writer};

use crate::counts::{Counts, Fate};
use crate::machine::Positions;
use crate::{Error, Result};

/// A table that a topic writes to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub table: String,
    pub write: WriteTarget,
    /// Where it goes on: rows below are in it already.
    pub start: Positions,
}

/// Files of one table that are being written.
pub(crate) struct Roll {
    target: Target,
    writer: Option<Writer>,
    rows: u64,
    lookups: BTreeMap<String, u64>,
    counts: Counts,
    reasons: BTreeMap<String, u64>,
}

/// Files of one table that are closed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rolled {
    pub table: String,
    pub files: Vec<StagedFile>,
    pub rows: u64,
    /// Versions of the tables that the rows' transform looked things up in.
    pub lookups: BTreeMap<String, u64>,
    pub counts: Counts,
    /// Dead letters by what is wrong with them.
    pub reasons: BTreeMap<String, u64>,
}

/// Tells of a position whether a table that goes on from these holds it already. Positions come in runs of one
/// partition: it is looked up once for each run.
fn held(start: &Positions) -> impl FnMut((i32, i64)) -> bool {
    let mut last: Option<(i32, Option<i64>)> = None;
    move |(partition, offset)| {
        let start = match last {
            Some((same, start)) if same == partition => start,
            _ => {
                let found = start.get(&partition).copied();
                last = Some((partition, found));
                found
            }
        };
        start.is_some_and(|start| offset < start)
    }
}

impl Roll {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            writer: None,
            rows: 0,
            lookups: BTreeMap::new(),
            counts: Counts::default(),
            reasons: BTreeMap::new(),
        }
    }

    pub(crate) fn target(&self) -> &WriteTarget {
        &self.target.write
    }

    /// Counts dead letters by what is wrong with them.
    pub(crate) fn refused(&mut self, reasons: BTreeMap<String, u64>) {
        for (reason, count) in reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }

    /// Counts those records that the table has not met yet.
    pub(crate) fn tally(&mut self, fate: Fate, positions: impl IntoIterator<Item = (i32, i64)>) {
        let mut is_held = held(&self.target.start);
        let new = positions.into_iter().filter(|position| !is_held(*position));
        self.counts
            .add_all(fate, new.map(|(partition, _)| partition));
    }

    /// Writes those rows that the table does not hold yet. `positions` has one entry per row.
    pub(crate) async fn write(
        &mut self,
        stores: &Stores,
        rows: RecordBatch,
        positions: &[(i32, i64)],
    ) -> Result<()> {
        let rows = self.without_held(rows, positions)?;
        self.tally(Fate::Row, positions.iter().copied());
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                Writer::new(stores, &self.target.write).map_err(|source| self.failed(source))?
            }
        };
        let written = writer.write(&rows).await;
        self.writer = Some(writer);
        self.rows += rows.num_rows() as u64;
        written.map_err(|source| self.failed(source))
    }

    /// Those rows that the table does not hold yet.
    fn without_held(&self, rows: RecordBatch, positions: &[(i32, i64)]) -> Result<RecordBatch> {
        let mut is_held = held(&self.target.start);
        if !positions.iter().any(|position| is_held(*position)) {
            return Ok(rows);
        }
        let keep = positions.iter().map(|position| Some(!is_held(*position)));
        let keep: BooleanArray = keep.collect();
        filter_record_batch(&rows, &keep).map_err(|error| Error::Bug {
            context: format!("dropping written rows: {error}"),
        })
    }

    /// Has what is written from here on be of these versions of other tables.
    pub(crate) fn looked_up_in(&mut self, lookups: BTreeMap<String, u64>) {
        self.lookups = lookups;
    }

    /// Bytes in memory.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::buffered_bytes)
    }

    /// Closes the largest open files until the others hold no more than this.
    pub(crate) async fn shrink(&mut self, bytes: u64) -> Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let shrunk = writer.shrink(bytes).await;
        shrunk.map_err(|source| self.failed(source))
    }

    /// Bytes of the largest file, closed ones included.
    pub(crate) fn largest_file(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::largest_file)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the open files away; what is written next goes to new ones.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            target: self.target.clone(),
            writer: self.writer.take(),
            rows: std::mem::take(&mut self.rows),
            lookups: self.lookups.clone(),
            counts: std::mem::take(&mut self.counts),
            reasons: std::mem::take(&mut self.reasons),
        }
    }

    /// Closes the files; they are durable when this returns.
    pub(crate) async fn finish(mut self) -> Result<Rolled> {
        let files = match self.writer.take() {
            Some(writer) => writer
                .finish()
                .await
                .map_err(|source| self.failed(source))?,
            None => Vec::new(),
        };
        Ok(Rolled {
            table: self.target.table,
            files,
            rows: self.rows,
            lookups: self.lookups,
            counts: self.counts,
            reasons: self.reasons,
        })
    }

    pub(crate) async fn abort(self) {
        if let Some(writer) = self.writer {
            writer.abort().await;
        }
    }

    fn failed(&self, source: drumline_lake::Error) -> Error {
        Error::Stage {
            table: self.target.table.clone(),
            source: Box::new(source),
        }
    }
}
