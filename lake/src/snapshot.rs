//! One version of a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::logical_expr::Expr;
use url::Url;

use crate::provider::SnapshotProvider;
use crate::table::{NUMBER, check_properties, checkpoint_interval};
use crate::{Error, Format, MadeBy, Result, TableName, Wishes, WriteOptions, columns};

/// Column of a tracked scan: the file's place in [`TableSnapshot::files`].
pub const FILE_COLUMN: &str = "_drumline_file";

/// Column of a tracked scan: the row's place in its file. Planned as a partition column of nulls; before the
/// plan runs, whoever runs it lets the Parquet reader count instead.
pub const ROW_COLUMN: &str = "_drumline_row";

/// A visible file of a table.
#[derive(Debug)]
pub struct DataFile {
    /// Path relative to the table's location.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Value of each partition column, in the order of [`TableSnapshot::partition_columns`]; none is null.
    pub partition_values: Vec<Option<String>>,
    /// Statistics as Delta writes them (`numRecords`, `minValues`, `maxValues`, `nullCount`).
    pub statistics: Option<serde_json::Value>,
    /// The same as DataFusion wants them, for the columns that the table had when they were worked out: files
    /// outlive snapshots, so this is done once.
    pub(crate) for_scan: Mutex<Option<Arc<Statistics>>>,
}

impl DataFile {
    pub(crate) fn new(
        path: String,
        size: u64,
        rows: u64,
        partition_values: Vec<Option<String>>,
        statistics: Option<serde_json::Value>,
    ) -> Self {
        Self {
            path,
            size,
            rows,
            partition_values,
            statistics,
            for_scan: Mutex::default(),
        }
    }
}

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The version of this number.
    Version(u64),
    /// The newest version that was there at this time.
    Time(DateTime<Utc>),
}

impl AsOf {
    /// A time in microseconds since 1970; times that no calendar has are taken for the nearest one.
    pub fn at_micros(micros: i64) -> Self {
        let nearest = match micros < 0 {
            true => DateTime::<Utc>::MIN_UTC,
            false => DateTime::<Utc>::MAX_UTC,
        };
        Self::Time(DateTime::from_timestamp_micros(micros).unwrap_or(nearest))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::Time(at) => write!(
                f,
                "version as old as {}",
                at.format("%Y-%m-%d %H:%M:%S%.f UTC")
            ),
        }
    }
}

/// What is told of one version of a table, by the commit that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// When it was made.
    pub at: Option<DateTime<Utc>>,
    /// What was done, as the writer calls it.
    pub operation: Option<String>,
    /// What made it, if Drumline did.
    pub made_by: Option<MadeBy>,
    /// The program that wrote it.
    pub engine: Option<String>,
    /// Rows in files it added; none where the commit does not tell.
    pub rows_added: Option<u64>,
    /// Files it added.
    pub files_added: u64,
    /// Files it removed.
    pub files_removed: u64,
    /// Bytes of files it added.
    pub bytes_added: u64,
}

/// One version of a table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Name of the table.
    pub name: TableName,
    /// Folder of its files, ending in a slash.
    pub location: Url,
    /// How it keeps its files.
    pub format: Format,
    /// Free properties, and those of Delta's own.
    pub properties: BTreeMap<String, String>,
    /// Number of the commit that made this version.
    pub version: u64,
    /// All columns, partition columns included.
    pub schema: SchemaRef,
    /// Columns whose values are folders.
    pub partition_columns: Vec<String>,
    /// Visible files.
    pub files: Arc<[Arc<DataFile>]>,
    /// The table's own offset of each (topic, partition): the next position to read.
    pub offsets: BTreeMap<(String, i32), i64>,
    /// The id that each topic had when the table took its records, where Kafka's brokers give one.
    pub topic_ids: BTreeMap<String, String>,
}

impl TableSnapshot {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Places of the files whose partitions pass a filter over columns without qualifiers; `None` where it asks for
    /// columns that the table is not partitioned by.
    pub fn places(
        &self,
        session: &dyn Session,
        filter: Expr,
    ) -> datafusion::error::Result<Option<BTreeSet<usize>>> {
        SnapshotProvider::new(self.clone())?.places_of(session, filter)
    }

    /// A provider that scans this very version as plain Parquet.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(SnapshotProvider::new(self.clone())?))
    }

    /// The table's columns and more of them, as it would hold them; and the same as Delta writes schemas.
    pub fn extended(&self, more: &Schema) -> Result<(SchemaRef, String)> {
        let table = self.name.to_string();
        let more = columns::stored(&table, more, columns::Naive::of(self.format))?;
        for field in more.fields() {
            let same = |known: &&FieldRef| known.name().eq_ignore_ascii_case(field.name());
            let refuse = |reason: &str| Error::Column {
                table: table.clone(),
                column: field.name().clone(),
                reason: reason.to_owned(),
            };
            if self.schema.fields().iter().find(same).is_some() {
                return Err(refuse("there is a column of that name"));
            }
            if !field.is_nullable() {
                return Err(refuse(
                    "rows that are there would have none: it cannot be NOT NULL",
                ));
            }
        }
        let all = self.schema.fields().iter().chain(more.fields()).cloned();
        let schema = Arc::new(Schema::new(all.collect::<Vec<_>>()));
        let json = columns::to_json(&schema)?;
        Ok((schema, json))
    }

    /// Checks properties that the table is to have, `set` among them.
    ///
    /// # Errors
    /// One that is set and that we would not keep, or a value that says nothing to us.
    pub fn check_properties(
        &self,
        set: &BTreeMap<String, String>,
        properties: &BTreeMap<String, String>,
    ) -> Result<()> {
        let table = self.name.to_string();
        check_properties(set)?;
        checkpoint_interval(&table, properties)?;
        WriteOptions::checked(&table, properties, &self.schema)?;
        Wishes::checked(
            &table,
            properties,
            &self.schema,
            &self.partition_columns,
            self.format,
        )?;
        Ok(())
    }

    /// Properties that people set: those of Delta's own as the log has them, all others as the catalog has them.
    pub fn shown_properties(&self) -> BTreeMap<String, String> {
        let all = self.properties.iter();
        all.filter(|(name, _)| *name != NUMBER)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// How often it was redefined: see [`crate::WriteTarget::definition`].
    pub fn definition(&self) -> u64 {
        let number = self.properties.get(NUMBER);
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    /// Other columns of the table, as Delta writes schemas.
    ///
    /// # Errors
    /// A column that the table cannot hold.
    pub fn reshaped(&self, schema: &Schema, partition_columns: &[String]) -> Result<String> {
        let table = self.name.to_string();
        let marked = schema.fields().iter().map(|field| {
            let field = field.as_ref().clone();
            match field.is_nullable() {
                true => field,
                false => {
                    field.with_metadata([(columns::NOT_NULL.to_owned(), "true".to_owned())].into())
                }
            }
        });
        let marked = Schema::new(marked.collect::<Vec<_>>());
        let stored = columns::stored(&table, &marked, columns::Naive::of(self.format))?;
        columns::check_partitions(&table, &stored, partition_columns)?;
        columns::to_json(&stored)
    }

    /// The snapshot that a provider scans, if it is one of these.
    pub fn of(provider: &Arc<dyn TableProvider>) -> Option<&Self> {
        let provider = provider.downcast_ref::<SnapshotProvider>()?;
        Some(provider.snapshot())
    }

    /// A provider of the same rows and, behind the table's columns, of where each row is: [`FILE_COLUMN`] and
    /// [`ROW_COLUMN`].
    pub fn tracked(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(SnapshotProvider::new(self.clone())?.tracked()))
    }

    /// What [`TableSnapshot::tracked`] gave, narrowed to some of its files; `None` for any other provider.
    pub fn narrowed(
        provider: &Arc<dyn TableProvider>,
        files: &BTreeSet<usize>,
    ) -> Option<Arc<dyn TableProvider>> {
        let provider = provider.downcast_ref::<SnapshotProvider>()?;
        Some(Arc::new(provider.narrowed(files)?))
    }
}
