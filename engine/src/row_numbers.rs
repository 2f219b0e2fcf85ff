//! Where rows are: the row numbers that statements which rewrite files plan with.
//!
//! DataFusion's codec does not carry columns that a Parquet reader makes up. So a scan that tells where its
//! rows are ([`drumline_lake::TableSnapshot::tracked`]) is planned with a partition column of nulls, which
//! travels, and here, last before a plan runs, the reader's own row numbers take its place: both stand at the
//! end of a scan's columns.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use drumline_lake::ROW_COLUMN;
use parquet::arrow::RowNumber;

/// The plan with row numbers where they are wanted.
pub(crate) fn with_row_numbers(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| match numbered(&node)? {
        Some(node) => Ok(Transformed::yes(node)),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

/// A scan's filter without what it asks of row numbers, which its reader does not know yet. Only joins ask, to
/// spare themselves rows that they would throw away: no statement can name the column.
fn without_rows(filter: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let asks = |part: &Arc<dyn PhysicalExpr>| {
        let columns = collect_columns(part);
        columns.iter().any(|column| column.name() == ROW_COLUMN)
    };
    let parts = split_conjunction(filter).into_iter();
    let kept: Vec<_> = parts.filter(|part| !asks(part)).cloned().collect();
    (!kept.is_empty()).then(|| conjunction(kept))
}

fn numbered(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = node
        .downcast_ref::<DataSourceExec>()
        .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
    else {
        return Ok(None);
    };
    let constants: Vec<FieldRef> = scan.table_partition_cols().iter().cloned().collect();
    let (Some((last, constants)), Some(source)) = (
        constants.split_last(),
        scan.file_source().downcast_ref::<ParquetSource>(),
    ) else {
        return Ok(None);
    };
    if last.name() != ROW_COLUMN {
        return Ok(None);
    }
    let number = Field::new(ROW_COLUMN, DataType::Int64, true).with_extension_type(RowNumber);
    let schema = TableSchema::builder(Arc::clone(scan.file_schema()))
        .with_table_partition_cols(constants.to_vec())
        .with_virtual_columns(vec![Arc::new(number)])
        .build();
    let mut numbering = ParquetSource::new(schema)
        .with_table_parquet_options(source.table_parquet_options().clone());
    if let Some(predicate) = source.filter().and_then(|filter| without_rows(&filter)) {
        numbering = numbering.with_predicate(predicate);
    }
    if let Some(readers) = source.parquet_file_reader_factory() {
        numbering = numbering.with_parquet_file_reader_factory(Arc::clone(readers));
    }
    let mut numbering: Arc<dyn FileSource> = Arc::new(numbering);
    if let Some(projection) = source.projection()
        && let Some(projected) = numbering.try_pushdown_projection(projection)?
    {
        numbering = projected;
    }
    let groups = scan.file_groups.iter().map(|group| {
        let files = group.iter().map(|file| {
            let mut file = file.clone();
            file.partition_values.truncate(constants.len());
            file
        });
        FileGroup::new(files.collect())
    });
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(numbering)
        .with_file_groups(groups.collect())
        .build();
    Ok(Some(DataSourceExec::from_data_source(scan)))
}
