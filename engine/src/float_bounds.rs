//! Bounds of floats, which nobody may prune by.
//!
//! Parquet leaves NaN out of the bounds of files, row groups and pages. DataFusion orders NaN beyond all other
//! numbers: above them, and with its sign bit set below them. So a file whose largest number is 1 may well hold a
//! row with `a > 100`. Bounds of floats are therefore taken away, from whatever wrote the file, before a filter or
//! an aggregate sees them; what a file says of nulls stays.

use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    DefaultParquetFileReaderFactory, ParquetFileReaderFactory,
};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::{LogicalType, Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics as Bounds;
use parquet::schema::types::ColumnDescriptor;
use std::ops::Range;
use std::sync::Arc;

fn scan_of(node: &Arc<dyn ExecutionPlan>) -> Option<(&FileScanConfig, &ParquetSource)> {
    let exec = node.downcast_ref::<DataSourceExec>()?;
    let scan = exec.data_source().downcast_ref::<FileScanConfig>()?;
    Some((scan, scan.file_source().downcast_ref::<ParquetSource>()?))
}

/// The plan whose scans prune row groups and pages by no bound of a float. Does not travel: each process that runs a
/// part of the plan does this for its part.
pub(crate) fn without_float_pruning(
    plan: Arc<dyn ExecutionPlan>,
    runtime: &RuntimeEnv,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some((scan, source)) = scan_of(&node) else {
            return Ok(Transformed::no(node));
        };
        if source.filter().is_none() {
            return Ok(Transformed::no(node));
        }
        let inner = match source.parquet_file_reader_factory() {
            Some(readers) => Arc::clone(readers),
            None => {
                let store = runtime.object_store(&scan.object_store_url)?;
                Arc::new(DefaultParquetFileReaderFactory::new(store))
            }
        };
        let readers = Arc::new(Readers { inner });
        let source = source.clone().with_parquet_file_reader_factory(readers);
        let scan = FileScanConfigBuilder::from(scan.clone())
            .with_source(Arc::new(source))
            .build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(scan)))
    })
    .data()
}

/// The plan whose scans tell no bound of a float, neither of a file nor of all of them.
pub(crate) fn without_float_statistics(
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some((scan, _)) = scan_of(&node) else {
            return Ok(Transformed::no(node));
        };
        let groups = scan.file_groups.iter().map(|group| {
            let files = group.iter().map(|file| {
                let mut file = file.clone();
                file.statistics = file.statistics.map(|all| Arc::new(told(&all)));
                file
            });
            FileGroup::new(files.collect())
        });
        let all = told(&scan.statistics());
        let scan = FileScanConfigBuilder::from(scan.clone())
            .with_file_groups(groups.collect())
            .with_statistics(all)
            .build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(scan)))
    })
    .data()
}

fn told(all: &Statistics) -> Statistics {
    let is_float = |bound: &Precision<ScalarValue>| {
        let kind = bound.get_value().map(ScalarValue::data_type);
        kind.is_some_and(|kind| kind.is_floating())
    };
    let mut all = all.clone();
    for column in &mut all.column_statistics {
        if is_float(&column.min_value) || is_float(&column.max_value) {
            column.min_value = Precision::Absent;
            column.max_value = Precision::Absent;
        }
    }
    all
}

/// Opens files as another does, without the bounds of their floats.
#[derive(Debug)]
struct Readers {
    inner: Arc<dyn ParquetFileReaderFactory>,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self
            .inner
            .create_reader(partition, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { inner }))
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<bytes::Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<bytes::Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let read = self.inner.get_metadata(options);
        async move { without_floats(read.await?) }.boxed()
    }
}

fn is_float(column: &ColumnDescriptor) -> bool {
    matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
        || matches!(column.logical_type_ref(), Some(LogicalType::Float16))
}

fn without_floats(metadata: Arc<ParquetMetaData>) -> ParquetResult<Arc<ParquetMetaData>> {
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let is_float: Vec<bool> = columns.map(|column| is_float(column)).collect();
    if !is_float.contains(&true) {
        return Ok(metadata);
    }
    let mut builder = metadata.as_ref().clone().into_builder();
    let groups = builder.take_row_groups().into_iter();
    let groups = groups
        .map(|group| without_bounds(group, &is_float))
        .collect::<ParquetResult<Vec<_>>>()?;
    let mut pages = builder.take_column_index();
    for group in pages.iter_mut().flatten() {
        for (page, is_float) in group.iter_mut().zip(&is_float) {
            if *is_float {
                *page = ColumnIndexMetaData::NONE;
            }
        }
    }
    let builder = builder.set_row_groups(groups).set_column_index(pages);
    Ok(Arc::new(builder.build()))
}

fn without_bounds(group: RowGroupMetaData, is_float: &[bool]) -> ParquetResult<RowGroupMetaData> {
    let columns = group.columns().iter().zip(is_float);
    let columns = columns
        .map(|(column, is_float)| match is_float {
            true => unbounded(column.clone()),
            false => Ok(column.clone()),
        })
        .collect::<ParquetResult<Vec<_>>>()?;
    group.into_builder().set_column_metadata(columns).build()
}

/// Where its pages' bounds lie is forgotten too: they would be read from there later.
fn unbounded(column: ColumnChunkMetaData) -> ParquetResult<ColumnChunkMetaData> {
    let bounds = column.statistics();
    let nulls = bounds.and_then(Bounds::null_count_opt);
    let rest = match bounds {
        Some(Bounds::Float(_)) => Some(Bounds::float(None, None, None, nulls, false)),
        Some(Bounds::Double(_)) => Some(Bounds::double(None, None, None, nulls, false)),
        _ => None,
    };
    let builder = column
        .into_builder()
        .clear_statistics()
        .set_column_index_offset(None)
        .set_column_index_length(None);
    match rest {
        Some(rest) => builder.set_statistics(rest).build(),
        None => builder.build(),
    }
}
