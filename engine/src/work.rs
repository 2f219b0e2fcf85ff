//! Reads what a plan's operators have done from their metrics, while they run and after.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_distributed::NetworkBoundaryExt;
use drumline_proto::v1::{OperatorReport, TaskReport};

use crate::job::{OperatorWork, Work};

/// The names under which operators say how much memory they held at most.
const MEMORY_PEAKS: [&str; 2] = ["peak_mem_used", "build_mem_used"];

impl Work {
    /// What a plan has done in this process. Exchanges are leaves: what is below them runs elsewhere.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut reader = Reader::default();
        // The reader does not fail.
        let _ = plan.visit(&mut reader);
        let mut work = reader.work;
        let first = work.operators.first();
        work.rows_out = first.map_or(0, |operator| operator.rows_out);
        for operator in &work.operators {
            work.spilled_bytes += operator.spilled_bytes;
            work.memory_peak_bytes += operator.memory_peak_bytes;
        }
        work
    }

    pub(crate) fn to_report(&self) -> TaskReport {
        let operators = self.operators.iter().map(|operator| OperatorReport {
            name: operator.name.clone(),
            depth: operator.depth,
            rows_out: operator.rows_out,
            compute_micros: u64::try_from(operator.compute.as_micros()).unwrap_or(u64::MAX),
            spilled_bytes: operator.spilled_bytes,
            memory_peak_bytes: operator.memory_peak_bytes,
        });
        TaskReport {
            rows_read: self.rows_read,
            bytes_read: self.bytes_read,
            rows_out: self.rows_out,
            spilled_bytes: self.spilled_bytes,
            memory_peak_bytes: self.memory_peak_bytes,
            operators: operators.collect(),
            ..TaskReport::default()
        }
    }

    pub(crate) fn from_report(report: &TaskReport) -> Self {
        let operators = report.operators.iter().map(|operator| OperatorWork {
            name: operator.name.clone(),
            depth: operator.depth,
            rows_out: operator.rows_out,
            compute: Duration::from_micros(operator.compute_micros),
            spilled_bytes: operator.spilled_bytes,
            memory_peak_bytes: operator.memory_peak_bytes,
        });
        Self {
            rows_read: report.rows_read,
            bytes_read: report.bytes_read,
            rows_out: report.rows_out,
            spilled_bytes: report.spilled_bytes,
            memory_peak_bytes: report.memory_peak_bytes,
            operators: operators.collect(),
        }
    }
}

#[derive(Default)]
struct Reader {
    depth: u32,
    work: Work,
}

impl<'n> TreeNodeVisitor<'n> for Reader {
    type Node = Arc<dyn ExecutionPlan>;

    fn f_down(&mut self, node: &'n Self::Node) -> datafusion::error::Result<TreeNodeRecursion> {
        let metrics = node.metrics().unwrap_or_default();
        let rows_out = metrics.output_rows().unwrap_or_default() as u64;
        self.work.operators.push(OperatorWork {
            name: node.name().to_owned(),
            depth: self.depth,
            rows_out,
            compute: Duration::from_nanos(metrics.elapsed_compute().unwrap_or_default() as u64),
            spilled_bytes: metrics.spilled_bytes().unwrap_or_default() as u64,
            memory_peak_bytes: MEMORY_PEAKS.iter().map(|name| sum(&metrics, name)).sum(),
        });
        // What comes out of an exchange was read by other tasks.
        if node.is_network_boundary() {
            return Ok(TreeNodeRecursion::Jump);
        }
        if node.children().is_empty() {
            self.work.rows_read += rows_out;
            self.work.bytes_read += sum(&metrics, "bytes_scanned");
        }
        self.depth += 1;
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, node: &'n Self::Node) -> datafusion::error::Result<TreeNodeRecursion> {
        // A boundary was not entered.
        if !node.is_network_boundary() {
            self.depth = self.depth.saturating_sub(1);
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

fn sum(metrics: &MetricsSet, name: &str) -> u64 {
    metrics
        .sum_by_name(name)
        .map_or(0, |value| value.as_usize() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::physical_plan::collect;
    use drumline_lake::Stores;

    use super::*;

    #[tokio::test]
    async fn operators_tell_what_they_did_parents_before_children() {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::Options::new(Stores::from_env(), folder.path());
        let session =
            crate::local_session(&crate::runtime(&options).unwrap(), &BTreeMap::new()).unwrap();
        let frame = session
            .sql("SELECT value % 10 AS k, count(*) FROM generate_series(1, 1000) GROUP BY 1 ORDER BY 1")
            .await
            .unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        collect(Arc::clone(&plan), session.task_ctx())
            .await
            .unwrap();
        let work = Work::of(&plan);
        assert_eq!(work.rows_out, 10, "{work:?}");
        assert_eq!(work.rows_read, 1000, "{work:?}");
        let depths: Vec<u32> = work
            .operators
            .iter()
            .map(|operator| operator.depth)
            .collect();
        assert_eq!(depths[0], 0);
        assert!(depths.is_sorted(), "one line of operators: {depths:?}");
        assert_eq!(Work::from_report(&work.to_report()), rounded(work));
    }

    #[tokio::test]
    async fn a_join_tells_how_much_memory_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::Options::new(Stores::from_env(), folder.path());
        let session =
            crate::local_session(&crate::runtime(&options).unwrap(), &BTreeMap::new()).unwrap();
        let frame = session
            .sql("SELECT a.value FROM generate_series(1, 500) a JOIN generate_series(1, 500) b ON a.value = b.value")
            .await
            .unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        collect(Arc::clone(&plan), session.task_ctx())
            .await
            .unwrap();
        let work = Work::of(&plan);
        assert_eq!((work.rows_read, work.rows_out), (1000, 500), "{work:?}");
        assert!(work.memory_peak_bytes > 0, "{work:?}");
    }

    /// As it crosses the wire: in whole microseconds.
    fn rounded(mut work: Work) -> Work {
        for operator in &mut work.operators {
            operator.compute = Duration::from_micros(operator.compute.as_micros() as u64);
        }
        work
    }
}
