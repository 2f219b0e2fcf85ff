//! What a job's tasks report, for those who watch the job.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use datafusion_distributed::TaskKey;
use drumline_proto::v1::TaskReport;
use tokio::sync::watch;

use crate::WorkerTarget;
use crate::job::{TaskFacts, TaskId, TaskStatus, Work};

/// Collects reports of one job.
pub(crate) struct Board {
    tasks: watch::Sender<BTreeMap<TaskId, TaskStatus>>,
    ids: HashMap<String, String>,
}

impl Board {
    pub(crate) fn new(workers: &[WorkerTarget]) -> Self {
        let ids = workers
            .iter()
            .map(|worker| (worker.url.to_string(), worker.id.clone()));
        Self {
            tasks: watch::Sender::default(),
            ids: ids.collect(),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<TaskId, TaskStatus>> {
        self.tasks.subscribe()
    }

    /// The id of the worker at a URL; the URL itself where it is none of this job's.
    pub(crate) fn worker_id(&self, url: &str) -> String {
        self.ids.get(url).cloned().unwrap_or_else(|| url.to_owned())
    }

    pub(crate) fn started(&self, key: &TaskKey, url: &str) {
        let (id, worker) = (task_id(key), self.worker_id(url));
        let facts = TaskFacts {
            stage: id.0,
            task: id.1,
            worker: worker.clone(),
            ..Default::default()
        };
        self.tasks.send_modify(|tasks| {
            tasks.insert(
                id,
                TaskStatus {
                    worker,
                    finished: false,
                    facts,
                },
            );
        });
    }

    pub(crate) fn reported(&self, key: &TaskKey, report: &TaskReport) {
        self.tasks.send_modify(|tasks| {
            if let Some(task) = tasks.get_mut(&task_id(key)) {
                task.finished = report.finished;
                task.facts.rows_exchanged = report.rows_exchanged;
                task.facts.bytes_exchanged = report.bytes_exchanged;
                task.facts.work = Work::from_report(report);
                task.facts.steps = report.steps;
                task.facts.elapsed = Duration::from_micros(report.elapsed_micros);
            }
        });
    }
}

fn task_id(key: &TaskKey) -> TaskId {
    (key.stage_id as u32, key.task_number as u32)
}
