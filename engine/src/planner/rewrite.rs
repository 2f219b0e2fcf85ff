//! What a statement that changes rows does to its table's files, whichever statement it is.
//!
//! Files are rewritten whole, and only those that hold a row which changes. So there are two plans: one that
//! searches, and answers with the files and how many rows of each change; and one that reads these files and
//! writes all their rows anew under a `LakeWrite` node. `changes.rs` makes both for `DELETE` and `UPDATE`,
//! `merge.rs` for `MERGE`, `upkeep.rs` for `OPTIMIZE`.

use super::held::Source;
use super::{Query, Write, WriteMode};
use crate::functions::{Curve, with_curve};
use crate::lake_write::Counts;
use crate::sql;
use crate::{Error, Result};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::LogicalPlan;
use drumline_lake::{Operation, Redefinition, SortColumn, TableSnapshot, WriteTarget};
use std::collections::{BTreeMap, BTreeSet};

/// What a `DELETE`, `UPDATE` or `MERGE` does to its table's files.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What kind of statement it is.
    pub operation: Operation,
    /// The table as it was planned for.
    pub snapshot: TableSnapshot,
    pub(super) search: Search,
    /// Files to take away, by place in the snapshot.
    pub(super) removed: BTreeSet<usize>,
    /// Those of them whose rows are written anew.
    pub(super) rewritten: BTreeSet<usize>,
    /// Whether rows may be written that are in no file yet.
    pub(super) inserts: bool,
    /// Set where its files are to be other ones than the table's properties ask for.
    pub(super) shape: Option<Shape>,
    /// Set where the table becomes another one.
    pub(super) redefined: Option<Redefine>,
    /// What is run once, before the search.
    pub(super) sources: Vec<Source>,
}

/// What a table becomes.
#[derive(Debug, Clone)]
pub(super) struct Redefine {
    /// All columns, as Delta writes schemas; none where they stay.
    pub(super) columns: Option<String>,
    pub(super) partition_columns: Vec<String>,
    /// Properties that change; none goes.
    pub(super) properties: BTreeMap<String, Option<String>>,
}

impl Redefine {
    /// What it is.
    pub(super) fn of(snapshot: &TableSnapshot) -> Self {
        Self {
            columns: None,
            partition_columns: snapshot.partition_columns.clone(),
            properties: BTreeMap::new(),
        }
    }

    pub(super) fn told(&self) -> Redefinition {
        Redefinition {
            partition_columns: self.partition_columns.clone(),
            properties: self.properties.clone(),
        }
    }
}

/// How files are written anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) sort_by: Vec<SortColumn>,
    pub(super) one_writer: bool,
}

/// How the files that change are found.
#[derive(Debug, Clone)]
pub(super) enum Search {
    /// Every row goes.
    AllGone,
    /// Every file changes, as far as anybody can tell.
    All,
    /// No file does.
    None,
    /// These do.
    Files(BTreeSet<usize>),
    /// None does, unless there are rows that must not be.
    Broken(Box<Broken>),
    /// These do, in an order that a sample of their rows tells.
    Sample(Box<Sample>),
    /// By a query.
    Plan(Box<SearchPlan>),
}

/// Rows that must not be.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    /// Yields one, if there is any.
    pub(super) plan: LogicalPlan,
    /// What is wrong then.
    pub(super) what: String,
}

/// How the order of rows is found out.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) files: BTreeSet<usize>,
    /// Yields the columns of some rows.
    pub(super) plan: LogicalPlan,
    pub(super) interleaved: bool,
    /// How many parts the order is cut into.
    pub(super) parts: usize,
}

impl Sample {
    fn curve(&self, found: &[RecordBatch]) -> Result<Curve> {
        let rows = concat_batches(self.plan.schema().inner(), found)
            .map_err(|error| Error::bug(format!("a sample: {error}")))?;
        Ok(Curve::of(rows.columns(), self.interleaved, self.parts)?)
    }
}

#[derive(Debug, Clone)]
pub(super) struct SearchPlan {
    /// Yields file, changes, changed rows.
    pub(super) files: LogicalPlan,
    /// Where a row may be changed twice: yields the names of one that is.
    pub(super) doubled: Option<LogicalPlan>,
}

impl Write {
    /// What is to be run first, and its rows kept aside until the statement is done.
    pub fn sources(&self) -> &[Source] {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => &rewrite.sources,
            _ => &[],
        }
    }

    /// What is to run before the write, if its files are not known: its rows are for [`Write::narrowed`].
    pub fn search(&self) -> Option<Query> {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => match &rewrite.search {
                Search::Plan(plan) => Some(self.query(plan.files.clone())),
                Search::Sample(sample) => Some(self.query(sample.plan.clone())),
                Search::Broken(broken) => Some(self.query(broken.plan.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    /// What is to run when a row was found to be changed twice: its rows name it.
    pub fn doubled(&self) -> Option<Query> {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => match &rewrite.search {
                Search::Plan(plan) => plan.doubled.clone().map(|plan| self.query(plan)),
                _ => None,
            },
            _ => None,
        }
    }

    fn query(&self, plan: LogicalPlan) -> Query {
        Query {
            plan,
            settings: self.input.settings.clone(),
        }
    }

    /// The write of those files alone that the search found.
    ///
    /// # Errors
    /// [`Doubled`] where a row would be changed twice.
    pub fn narrowed(mut self, found: &[RecordBatch]) -> Result<Result<Self, Doubled>> {
        let WriteMode::Rewrite(rewrite) = &mut self.mode else {
            return Ok(Ok(self));
        };
        let all = || 0..rewrite.snapshot.files.len();
        match &rewrite.search {
            Search::None => {}
            Search::Broken(broken) => {
                let row = first_row(found);
                if !row.is_empty() {
                    return Err(sql::Error::Invalid {
                        reason: format!("{}{row}", broken.what),
                        position: None,
                        hint: Some("UPDATE or DELETE them first".to_owned()),
                    }
                    .into());
                }
            }
            Search::Files(files) => {
                rewrite.removed.clone_from(files);
                rewrite.rewritten.clone_from(files);
            }
            Search::Sample(sample) => {
                rewrite.removed.clone_from(&sample.files);
                rewrite.rewritten.clone_from(&sample.files);
                self.input.plan = with_curve(self.input.plan, &sample.curve(found)?)?;
            }
            Search::AllGone => rewrite.removed = all().collect(),
            Search::All => {
                rewrite.removed = all().collect();
                rewrite.rewritten = all().collect();
            }
            Search::Plan(plan) => {
                let is_once = plan.doubled.is_some();
                for (file, changes, rows) in files_found(found)? {
                    if is_once && changes != rows {
                        return Ok(Err(Doubled {
                            operation: rewrite.operation,
                            table: self.table.to_string(),
                        }));
                    }
                    let size = rewrite.snapshot.files.get(file).map(|file| file.rows);
                    let is_gone = rewrite.operation == Operation::Delete && size == Some(rows);
                    rewrite.removed.insert(file);
                    if !is_gone {
                        rewrite.rewritten.insert(file);
                    }
                }
            }
        }
        self.input.plan = narrowed(self.input.plan, &rewrite.rewritten)?;
        Ok(Ok(self))
    }

    /// Whether the statement leaves the table as it is, and needs no version to say so.
    pub fn is_idle(&self) -> bool {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => {
                rewrite.operation == Operation::Optimize && rewrite.removed.is_empty()
            }
            _ => false,
        }
    }

    /// Whether there is nothing to write, and thus nothing to run.
    pub fn is_empty(&self) -> bool {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => rewrite.rewritten.is_empty() && !rewrite.inserts,
            _ => false,
        }
    }
}

/// A row of the target that more than one row would change.
#[derive(Debug)]
pub struct Doubled {
    operation: Operation,
    table: String,
}

impl Doubled {
    /// The error that names the row, by what [`Write::doubled`] yielded.
    pub fn error(self, row: &[RecordBatch]) -> Error {
        let Self { operation, table } = self;
        let row = first_row(row);
        let what = match operation {
            Operation::Merge => "MERGE matches more than one row of its source with",
            _ => "UPDATE … FROM finds more than one new value for",
        };
        sql::Error::Invalid {
            reason: format!("{what} a row of `{table}`{row}"),
            position: None,
            hint: Some(
                "leave one row for each, with GROUP BY or DISTINCT in a query behind USING or FROM"
                    .to_owned(),
            ),
        }
        .into()
    }
}

/// The first row that was found, in words; nothing where there is none.
fn first_row(rows: &[RecordBatch]) -> String {
    let named = rows.iter().find(|batch| batch.num_rows() > 0);
    named.map_or_else(String::new, |batch| {
        let options = FormatOptions::default().with_null("NULL");
        let fields = batch.schema();
        let values = batch.columns().iter().zip(fields.fields());
        let values = values.filter_map(|(values, field)| {
            let value = ArrayFormatter::try_new(values, &options).ok()?;
            Some(format!("{} = {}", field.name(), value.value(0)))
        });
        format!(" ({})", values.collect::<Vec<_>>().join(", "))
    })
}

impl Rewrite {
    /// Asks of a target what the statement does.
    pub(super) fn shape(&self, target: &mut WriteTarget) {
        if let Some(redefined) = &self.redefined {
            if let Some(columns) = &redefined.columns {
                target.schema_json.clone_from(columns);
            }
            target
                .partition_columns
                .clone_from(&redefined.partition_columns);
        }
        let Some(shape) = &self.shape else {
            return;
        };
        target.one_writer = shape.one_writer;
        if !shape.sort_by.is_empty() {
            target.sort_by.clone_from(&shape.sort_by);
        }
    }

    /// Paths of the files that it takes away.
    pub(super) fn removed(&self) -> Vec<String> {
        let files = self.removed.iter();
        files
            .filter_map(|place| self.snapshot.files.get(*place))
            .map(|file| file.path.clone())
            .collect()
    }

    /// Rows of files that go without being read.
    fn dropped(&self) -> u64 {
        self.rows_of(self.removed.difference(&self.rewritten))
    }

    fn rows_of<'a>(&self, places: impl Iterator<Item = &'a usize>) -> u64 {
        let files = places.filter_map(|place| self.snapshot.files.get(*place));
        files.map(|file| file.rows).sum()
    }

    /// All that changed. Refuses a run that read more or fewer rows than there are.
    pub(super) fn changed(&self, counts: Counts) -> Result<Counts> {
        let expected = self.rows_of(self.rewritten.iter());
        if counts.read() != expected {
            return Err(Error::Failed {
                kind: drumline_lake::ErrorKind::Retryable,
                message: format!(
                    "the statement's files hold {expected} rows, and {} came back: what it reads gave other rows the second time",
                    counts.read()
                ),
                hint: Some(
                    "write what random() and the like yield to a table first, and read that"
                        .to_owned(),
                ),
                worker: None,
            });
        }
        Ok(Counts {
            deleted: counts.deleted + self.dropped(),
            ..counts
        })
    }
}

fn files_found(rows: &[RecordBatch]) -> Result<Vec<(usize, u64, u64)>> {
    let broken = |what: String| Error::bug(format!("a search answered with {what}"));
    let mut found = Vec::new();
    for batch in rows {
        let mut columns = Vec::with_capacity(3);
        for column in batch.columns() {
            let column = cast(column, &DataType::Int64).map_err(|e| broken(e.to_string()))?;
            columns.push(column.as_primitive::<Int64Type>().clone());
        }
        let [file, changes, places] = columns.as_slice() else {
            return Err(broken(format!("{} columns", columns.len())));
        };
        for row in 0..batch.num_rows() {
            let whole = |value: i64| u64::try_from(value).unwrap_or_default();
            if file.is_null(row) {
                return Err(broken("no file".to_owned()));
            }
            let place = usize::try_from(file.value(row)).unwrap_or(usize::MAX);
            found.push((place, whole(changes.value(row)), whole(places.value(row))));
        }
    }
    Ok(found)
}

/// The plan with its tracked scans narrowed to some files.
pub(super) fn narrowed(plan: LogicalPlan, files: &BTreeSet<usize>) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else {
            return Ok(Transformed::no(node));
        };
        let provider = source_as_provider(&scan.source)?;
        Ok(match TableSnapshot::narrowed(&provider, files) {
            Some(provider) => {
                scan.source = provider_as_source(provider);
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            None => Transformed::no(LogicalPlan::TableScan(scan)),
        })
    })?;
    Ok(plan.data)
}
