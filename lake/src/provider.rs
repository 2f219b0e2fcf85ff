//! Scans a snapshot as plain Parquet: an ordinary `DataSourceExec`, which codecs and optimizers know.
//!
//! Files are pruned here, by partition values and by statistics, so that a distributed plan names only files
//! that can hold an answer. Filters on partition columns alone are thereby done; all others stay above the
//! scan, where the optimizer may push them into it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{
    Column, ColumnStatistics, DFSchema, Result as PlanResult, ScalarValue, Statistics,
    project_schema,
};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::root::path_of;
use crate::snapshot::{FILE_COLUMN, ROW_COLUMN};
use crate::writer::child;
use crate::{DataFile, Error, Result, TableSnapshot, columns, statistics};

/// A snapshot as a table of DataFusion.
#[derive(Debug)]
pub(crate) struct SnapshotProvider {
    snapshot: TableSnapshot,
    store: ObjectStoreUrl,
    folder: Path,
    /// Columns in files.
    file_schema: SchemaRef,
    partition_fields: Vec<FieldRef>,
    /// Columns in files, then partition columns: the order of a scan.
    scan_schema: SchemaRef,
    /// Place in a scan of each column of the table.
    scan_order: Vec<usize>,
    tracked: Option<Tracked>,
}

/// What a scan that tells where its rows are has besides.
#[derive(Debug, Clone)]
struct Tracked {
    /// The table's columns, then the two of the place.
    schema: SchemaRef,
    fields: [FieldRef; 2],
    /// Place of each file in the snapshot, by path.
    places: Arc<HashMap<String, usize>>,
    /// The files to read; none for all.
    only: Option<BTreeSet<usize>>,
}

impl SnapshotProvider {
    pub(crate) fn new(snapshot: TableSnapshot) -> Result<Self> {
        let (file_schema, partition_fields) =
            columns::split(&snapshot.schema, &snapshot.partition_columns);
        let fields: Vec<FieldRef> = file_schema
            .fields()
            .iter()
            .chain(&partition_fields)
            .cloned()
            .collect();
        let scan_schema = Arc::new(Schema::new(fields));
        let scan_order = snapshot
            .schema
            .fields()
            .iter()
            .map(|field| scan_schema.index_of(field.name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::bug(format!("columns of '{}': {error}", snapshot.name)))?;
        let location = &snapshot.location;
        let bucket = format!("{}://{}", location.scheme(), location.authority());
        let store = ObjectStoreUrl::parse(&bucket).map_err(|error| Error::Location {
            url: location.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            folder: path_of(location)?,
            store,
            file_schema,
            partition_fields,
            scan_schema,
            scan_order,
            snapshot,
            tracked: None,
        })
    }

    pub(crate) fn snapshot(&self) -> &TableSnapshot {
        &self.snapshot
    }

    /// The same, with the columns that tell where a row is.
    pub(crate) fn tracked(mut self) -> Self {
        let fields = [
            Arc::new(Field::new(FILE_COLUMN, DataType::Int32, false)),
            Arc::new(Field::new(ROW_COLUMN, DataType::Int64, true)),
        ];
        let with_fields = |schema: &Schema| -> SchemaRef {
            let all = schema.fields().iter().chain(&fields).cloned();
            Arc::new(Schema::new(all.collect::<Vec<_>>()))
        };
        let schema = with_fields(&self.snapshot.schema);
        let width = self.scan_schema.fields().len();
        self.scan_order.extend([width, width + 1]);
        let files = self.snapshot.files.iter().enumerate();
        let places = files.map(|(place, file)| (file.path.clone(), place));
        self.tracked = Some(Tracked {
            schema,
            places: Arc::new(places.collect()),
            fields,
            only: None,
        });
        self
    }

    /// A tracked scan of some of the files.
    pub(crate) fn narrowed(&self, files: &BTreeSet<usize>) -> Option<Self> {
        let mut narrowed = Self::new(self.snapshot.clone()).ok()?;
        narrowed.scan_order.clone_from(&self.scan_order);
        narrowed.tracked = Some(Tracked {
            only: Some(files.clone()),
            ..self.tracked.clone()?
        });
        Some(narrowed)
    }

    /// Columns of what it scans.
    fn table_schema(&self) -> &SchemaRef {
        match &self.tracked {
            Some(tracked) => &tracked.schema,
            None => &self.snapshot.schema,
        }
    }

    /// Columns that are constant in a file, in the order of a scan.
    fn constant_fields(&self) -> Vec<FieldRef> {
        let tracked = self.tracked.iter().flat_map(|tracked| &tracked.fields);
        self.partition_fields
            .iter()
            .chain(tracked)
            .cloned()
            .collect()
    }

    /// Where a file is, for a scan that tells.
    fn place(&self, file: &DataFile) -> PlanResult<Option<usize>> {
        let Some(tracked) = &self.tracked else {
            return Ok(None);
        };
        match tracked.places.get(&file.path) {
            Some(place) => Ok(Some(*place)),
            None => Err(Error::bug(format!("'{}' is not in its snapshot", file.path)).into()),
        }
    }

    fn on_partitions_only(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !columns.is_empty()
            && !filter.is_volatile()
            && columns
                .iter()
                .all(|column| self.snapshot.partition_columns.contains(&column.name))
    }

    fn is_on_floats(&self, filter: &Expr) -> bool {
        filter.column_refs().iter().any(|column| {
            let field = self.scan_schema.field_with_name(&column.name);
            field.is_ok_and(|field| field.data_type().is_floating())
        })
    }

    /// Places of the files whose partitions pass a filter; `None` where it asks for other columns too.
    pub(crate) fn places_of(
        &self,
        state: &dyn Session,
        filter: Expr,
    ) -> PlanResult<Option<BTreeSet<usize>>> {
        if !self.on_partitions_only(&filter) {
            return Ok(None);
        }
        let kept = self.prune_by_partition(state, vec![filter])?;
        let kept: HashSet<&str> = kept.iter().map(|file| file.path.as_str()).collect();
        let files = self.snapshot.files.iter().enumerate();
        let places = files.filter(|(_, file)| kept.contains(file.path.as_str()));
        Ok(Some(places.map(|(place, _)| place).collect()))
    }

    /// Files that can hold an answer.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<Arc<DataFile>>> {
        if filters.iter().any(is_never) {
            return Ok(Vec::new());
        }
        let (on_partitions, others): (Vec<Expr>, Vec<Expr>) = filters
            .iter()
            .cloned()
            .partition(|filter| self.on_partitions_only(filter));
        let files = self.prune_by_partition(state, on_partitions)?;
        self.prune_by_statistics(state, files, others)
    }

    fn prune_by_partition(
        &self,
        state: &dyn Session,
        filters: Vec<Expr>,
    ) -> PlanResult<Vec<Arc<DataFile>>> {
        let only = self
            .tracked
            .as_ref()
            .and_then(|tracked| tracked.only.as_ref());
        let files: Vec<_> = match only {
            None => self.snapshot.files.to_vec(),
            Some(only) => only
                .iter()
                .filter_map(|place| self.snapshot.files.get(*place).cloned())
                .collect(),
        };
        let Some(filter) = conjunction(filters) else {
            return Ok(files);
        };
        if files.is_empty() {
            return Ok(files);
        }
        let schema = Arc::new(Schema::new(self.partition_fields.clone()));
        let mut values = vec![Vec::with_capacity(files.len()); schema.fields().len()];
        for file in &files {
            for (column, value) in values.iter_mut().zip(self.partition_values(file)?) {
                column.push(value);
            }
        }
        let columns = values
            .into_iter()
            .map(ScalarValue::iter_to_array)
            .collect::<PlanResult<Vec<_>>>()?;
        let rows = RecordBatch::try_new(schema.clone(), columns)?;
        let physical =
            state.create_physical_expr(filter, &DFSchema::try_from(schema.as_ref().clone())?)?;
        let kept = physical.evaluate(&rows)?.into_array(rows.num_rows())?;
        let kept = datafusion::common::cast::as_boolean_array(&kept)?.clone();
        Ok(keep(files, kept.iter().map(|kept| kept == Some(true))))
    }

    fn prune_by_statistics(
        &self,
        state: &dyn Session,
        files: Vec<Arc<DataFile>>,
        filters: Vec<Expr>,
    ) -> PlanResult<Vec<Arc<DataFile>>> {
        let Some(filter) = conjunction(filters) else {
            return Ok(files);
        };
        let schema = DFSchema::try_from(self.scan_schema.as_ref().clone())?;
        // A filter that statistics say nothing about is no error: it stays above the scan.
        let Ok(physical) = state.create_physical_expr(filter, &schema) else {
            return Ok(files);
        };
        let builder = PruningPredicateBuilder::new().with_file_schema(self.scan_schema.clone());
        let Ok(predicate) = builder.try_build(physical) else {
            return Ok(files);
        };
        let statistics = files
            .iter()
            .map(|file| self.statistics_of(file))
            .collect::<PlanResult<Vec<_>>>()?;
        let bounds = Bounds {
            schema: &self.scan_schema,
            files: &statistics,
        };
        match predicate.prune(&bounds) {
            Ok(kept) => Ok(keep(files, kept)),
            Err(error) => {
                tracing::debug!(table = %self.snapshot.name, %error, "files are not pruned");
                Ok(files)
            }
        }
    }

    fn partition_value(&self, file: &DataFile, index: usize) -> PlanResult<ScalarValue> {
        let kind = self.partition_fields[index].data_type();
        match file.partition_values.get(index).and_then(Option::as_ref) {
            Some(value) => ScalarValue::try_from_string(value.clone(), kind),
            None => ScalarValue::try_from(kind),
        }
    }

    /// Read from text once: a file's statistics keep them.
    fn partition_values(&self, file: &DataFile) -> PlanResult<Vec<ScalarValue>> {
        let known = self.statistics_of(file)?;
        let statistics = known.column_statistics.iter();
        let of_partitions = statistics.skip(self.file_schema.fields().len());
        of_partitions
            .zip(&self.partition_fields)
            .map(|(column, field)| match column.min_value.get_value() {
                Some(value) => Ok(value.clone()),
                None => ScalarValue::try_from(field.data_type()),
            })
            .collect()
    }

    fn statistics_of(&self, file: &DataFile) -> PlanResult<Arc<Statistics>> {
        let slot = || file.for_scan.lock().unwrap_or_else(PoisonError::into_inner);
        // A table that has got columns since knows nothing of them in older files.
        let is_of_now = |known: &&Arc<Statistics>| {
            known.column_statistics.len() == self.scan_schema.fields().len()
        };
        if let Some(known) = slot().as_ref().filter(is_of_now) {
            return Ok(known.clone());
        }
        let values = (0..self.partition_fields.len())
            .map(|index| self.partition_value(file, index))
            .collect::<PlanResult<Vec<_>>>()?;
        let found = Arc::new(statistics::for_scan(
            file.statistics.as_ref(),
            file.rows,
            file.size,
            &self.file_schema,
            &values,
        ));
        *slot() = Some(found.clone());
        Ok(found)
    }

    fn to_scan(&self, file: &DataFile) -> PlanResult<PartitionedFile> {
        let location = child(&self.folder, &file.path)?;
        let meta = ObjectMeta {
            location,
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: file.size,
            e_tag: None,
            version: None,
        };
        let mut values = self.partition_values(file)?;
        if let Some(place) = self.place(file)? {
            values.extend([place_value(place), ScalarValue::Int64(None)]);
        }
        let mut scanned = PartitionedFile::new_from_meta(meta).with_partition_values(values);
        // Set, not `with_statistics`: that would take a null partition value for a value.
        scanned.statistics = Some(self.scan_statistics(file)?);
        Ok(scanned)
    }

    /// Statistics of all columns of a scan.
    fn scan_statistics(&self, file: &DataFile) -> PlanResult<Arc<Statistics>> {
        let known = self.statistics_of(file)?;
        let Some(place) = self.place(file)? else {
            return Ok(known);
        };
        let mut all = known.as_ref().clone();
        all.column_statistics.push(ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: Precision::Exact(place_value(place)),
            max_value: Precision::Exact(place_value(place)),
            ..ColumnStatistics::new_unknown()
        });
        all.column_statistics.push(ColumnStatistics::new_unknown());
        Ok(Arc::new(all))
    }
}

fn place_value(place: usize) -> ScalarValue {
    ScalarValue::Int32(i32::try_from(place).ok())
}

fn keep(files: Vec<Arc<DataFile>>, kept: impl IntoIterator<Item = bool>) -> Vec<Arc<DataFile>> {
    let pairs = files.into_iter().zip(kept);
    pairs
        .filter_map(|(file, kept)| kept.then_some(file))
        .collect()
}

#[async_trait]
impl TableProvider for SnapshotProvider {
    fn schema(&self) -> SchemaRef {
        self.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(self.table_schema());
        let rows = usize::try_from(self.snapshot.rows()).ok()?;
        statistics.num_rows = Precision::Exact(rows);
        statistics.total_byte_size =
            Precision::Inexact(usize::try_from(self.snapshot.bytes()).ok()?);
        Some(statistics)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let pushdown = |filter: &&Expr| match self.on_partitions_only(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(pushdown).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let mut files = self.prune(state, filters)?;
        let exact = filters.iter().all(|filter| self.on_partitions_only(filter));
        if let Some(limit) = limit
            && exact
        {
            let mut rows = 0_u64;
            files = files
                .into_iter()
                .take_while(|file| {
                    let wanted = rows < limit as u64;
                    rows += file.rows;
                    wanted
                })
                .collect();
        }
        if files.is_empty() {
            let schema = project_schema(self.table_schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let summary = self.summary(&files)?;
        let scanned = files.iter().map(|file| self.to_scan(file));
        let groups = FileGroup::new(scanned.collect::<PlanResult<Vec<_>>>()?)
            .split_files(state.config().target_partitions());
        let mut options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        if filters.iter().any(|filter| self.is_on_floats(filter)) {
            // Statistics inside of files pass over NaN, and the reader believes them: rows would be lost.
            options.global.pruning = false;
            options.global.enable_page_index = false;
        }
        let table_schema = TableSchema::builder(self.file_schema.clone())
            .with_table_partition_cols(self.constant_fields())
            .build();
        let source = ParquetSource::new(table_schema).with_table_parquet_options(options);
        let projection: Vec<usize> = match projection {
            Some(wanted) => wanted.iter().map(|&index| self.scan_order[index]).collect(),
            None => self.scan_order.clone(),
        };
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(summary)
            .with_projection_indices(Some(projection))?
            .with_limit(if exact { limit } else { None })
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl SnapshotProvider {
    /// Statistics of all files together.
    fn summary(&self, files: &[Arc<DataFile>]) -> PlanResult<Statistics> {
        let mut all = files.iter().map(|file| self.scan_statistics(file));
        let Some(first) = all.next() else {
            return Ok(Statistics::new_unknown(&self.scan_schema));
        };
        let mut summary = first?.as_ref().clone();
        for next in all {
            let next = next?;
            summary.num_rows = summary.num_rows.add(&next.num_rows);
            summary.total_byte_size = summary.total_byte_size.add(&next.total_byte_size);
            for (sum, column) in summary
                .column_statistics
                .iter_mut()
                .zip(&next.column_statistics)
            {
                let ColumnStatistics {
                    null_count,
                    min_value,
                    max_value,
                    ..
                } = column;
                sum.null_count = sum.null_count.add(null_count);
                sum.min_value = sum.min_value.min(min_value);
                sum.max_value = sum.max_value.max(max_value);
            }
        }
        Ok(summary)
    }
}

/// Whether no row passes: `k NOT IN (1, NULL)` on a partition column is simplified to `k <> 1` and this, when nothing but
/// the scan has it any more.
fn is_never(filter: &Expr) -> bool {
    use ScalarValue::{Boolean, Null};
    matches!(filter, Expr::Literal(Boolean(Some(false) | None) | Null, _))
}

/// Bounds of files for pruning: a bound that is not exact still bounds.
struct Bounds<'a> {
    schema: &'a Schema,
    files: &'a [Arc<Statistics>],
}

impl Bounds<'_> {
    fn values(
        &self,
        column: &Column,
        pick: impl Fn(&ColumnStatistics) -> &Precision<ScalarValue>,
    ) -> Option<ArrayRef> {
        let index = self.schema.index_of(&column.name).ok()?;
        let null = ScalarValue::try_from(self.schema.field(index).data_type()).ok()?;
        let values = self.files.iter().map(|file| {
            let value = file.column_statistics.get(index).map(&pick);
            let value = value.and_then(Precision::get_value).cloned();
            value.unwrap_or_else(|| null.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }

    fn counts(&self, pick: impl Fn(&Statistics) -> Option<usize>) -> ArrayRef {
        let counts = self.files.iter().map(|file| pick(file).map(|n| n as u64));
        Arc::new(counts.collect::<UInt64Array>())
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |statistics| &statistics.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |statistics| &statistics.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(&column.name).ok()?;
        Some(self.counts(|file| {
            let statistics = file.column_statistics.get(index)?;
            statistics.null_count.get_value().copied()
        }))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(self.counts(|file| file.num_rows.get_value().copied()))
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}
