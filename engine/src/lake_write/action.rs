//! What becomes of each row of a statement that rewrites files: a column beside the table's own.

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Int8Type;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{Expr, lit};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// The column; it is never written.
pub(crate) const ACTION: &str = "_drumline_action";

/// Where a row lies in the order of a rewrite, beside the table's columns; it is never written either.
pub(crate) const PLACE: &str = "_drumline_place";

/// A value of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Written as it was.
    Keep = 0,
    /// Written with new values.
    Update = 1,
    /// Written for the first time.
    Insert = 2,
    /// Not written.
    Delete = 3,
}

impl Action {
    pub(crate) fn expression(self) -> Expr {
        lit(self as i8)
    }
}

/// How many rows a write kept, and how many it changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Written as they were, because another row of their file changed.
    pub kept: u64,
    /// Written with new values.
    pub updated: u64,
    /// New.
    pub inserted: u64,
    /// Gone.
    pub deleted: u64,
}

impl Counts {
    /// Rows that are not what they were.
    pub fn changed(&self) -> u64 {
        self.updated + self.inserted + self.deleted
    }

    /// Rows that came out of the table's own files.
    pub fn read(&self) -> u64 {
        self.kept + self.updated + self.deleted
    }

    /// Counts a batch's rows; gives those that are to be written, without the column.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let at = batch.schema().index_of(ACTION)?;
        let Some(actions) = batch.column(at).as_primitive_opt::<Int8Type>() else {
            return internal_err!("{ACTION} is {}", batch.column(at).data_type());
        };
        for action in actions {
            match action {
                Some(0) => self.kept += 1,
                Some(1) => self.updated += 1,
                Some(2) => self.inserted += 1,
                Some(3) => self.deleted += 1,
                other => return internal_err!("{ACTION} holds {other:?}"),
            }
        }
        let stays: BooleanArray = actions
            .iter()
            .map(|action| Some(action != Some(Action::Delete as i8)))
            .collect();
        let columns: Vec<usize> = (0..batch.num_columns())
            .filter(|column| *column != at && batch.schema_ref().field(*column).name() != PLACE)
            .collect();
        Ok(filter_record_batch(&batch.project(&columns)?, &stays)?)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.updated += other.updated;
        self.inserted += other.inserted;
        self.deleted += other.deleted;
    }
}
