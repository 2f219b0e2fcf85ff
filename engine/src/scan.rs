//! How many tasks read a set of files, or a topic.

use datafusion::catalog::memory::DataSourceExec;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::error::Result;
use datafusion_distributed::{DesiredTaskCountEvent, DesiredTaskCountEventResponse};

use crate::settings;

/// One task per `drumline.bytes_per_task`. The planner caps it at the number of workers.
///
/// Only Parquet files can be cut at any byte; and a scan whose partitions mean something (all rows of a key
/// in one of them) must keep them together. The library's own rule would cut both, and rows would be lost
/// or read twice.
pub(crate) fn desired_tasks(
    event: DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    if let Some(tasks) = crate::topics::desired_tasks(&event) {
        return Some(tasks);
    }
    let source = event.plan.downcast_ref::<DataSourceExec>()?;
    let scan = source.data_source().downcast_ref::<FileScanConfig>()?;
    // Above a scan of one partition nothing is put together any more: DataFusion plans, say, an aggregate that is
    // final at once. Several tasks would each give one of their own.
    let is_whole = scan.file_groups.len() <= 1;
    let is_fixed = scan.output_partitioning.is_some() || is_whole;
    if is_fixed || !scan.file_source().is::<ParquetSource>() {
        return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
    }
    let bytes: u64 = scan
        .file_groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|file| file.effective_size())
        .sum();
    let per_task = settings::of(event.session_config).bytes_per_task.max(1) as u64;
    let tasks = usize::try_from(bytes.div_ceil(per_task)).unwrap_or(usize::MAX);
    Some(Ok(DesiredTaskCountEventResponse::desired(tasks.max(1))))
}
