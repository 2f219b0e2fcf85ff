//! The tasks that a worker process has open, and what they have done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::TaskKey;
use drumline_proto::v1::TaskReport;
use tokio::sync::watch;

use crate::interrupt::Interrupt;
use crate::job::Work;
use crate::server::Totals;

/// Header by which the session of a task finds its [`Task`]; set by the worker itself on each call.
pub(crate) const TASK_HEADER: &str = "drumline-task";

/// What all tasks of a process have done together.
#[derive(Debug, Default)]
struct Counts {
    tasks: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// One task, from its plan's arrival to the end of its control call.
#[derive(Debug)]
pub(crate) struct Task {
    totals: Arc<Counts>,
    opened: Instant,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Microseconds from `opened` to the last row sent; 0: none yet.
    last_sent: AtomicU64,
    plan: OnceLock<Arc<dyn ExecutionPlan>>,
    /// Raised when nobody wants the task any more.
    interrupt: Interrupt,
}

impl Task {
    fn new(totals: Arc<Counts>) -> Self {
        Self {
            totals,
            opened: Instant::now(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_sent: AtomicU64::new(0),
            plan: OnceLock::new(),
            interrupt: Interrupt::default(),
        }
    }

    pub(crate) fn runs(&self, plan: &Arc<dyn ExecutionPlan>) {
        // The first plan is the one that runs: the library decodes a task's plan once.
        let _ = self.plan.set(Arc::clone(plan));
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(crate) fn sent(&self, rows: usize, bytes: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.totals.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.totals.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_sent.fetch_max(self.age(), Ordering::Relaxed);
    }

    pub(crate) fn report(&self, finished: bool) -> TaskReport {
        let last_sent = self.last_sent.load(Ordering::Relaxed);
        let work = self.plan.get().map(Work::of).unwrap_or_default();
        TaskReport {
            rows_exchanged: self.rows.load(Ordering::Relaxed),
            bytes_exchanged: self.bytes.load(Ordering::Relaxed),
            elapsed_micros: if finished && last_sent > 0 {
                last_sent
            } else {
                self.age()
            },
            finished,
            steps: self.interrupt.steps(),
            ..work.to_report()
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The open tasks of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    open: Arc<Mutex<HashMap<String, Arc<Task>>>>,
    running: watch::Sender<u32>,
    totals: Arc<Counts>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            open: Arc::default(),
            running: watch::Sender::new(0),
            totals: Arc::default(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            tasks: self.totals.tasks.load(Ordering::Relaxed),
            rows_exchanged: self.totals.rows.load(Ordering::Relaxed),
            bytes_exchanged: self.totals.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn running(&self) -> watch::Receiver<u32> {
        self.running.subscribe()
    }

    /// Opens a task until the answer is dropped.
    pub(crate) fn open(&self, key: &TaskKey) -> OpenTask {
        self.totals.tasks.fetch_add(1, Ordering::Relaxed);
        let task = Task::new(Arc::clone(&self.totals));
        let (name, task) = (name_of(key), Arc::new(task));
        self.change(|open| {
            open.insert(name.clone(), Arc::clone(&task));
        });
        OpenTask {
            tasks: self.clone(),
            name,
            task,
        }
    }

    pub(crate) fn get(&self, key: &TaskKey) -> Option<Arc<Task>> {
        self.named(&name_of(key))
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<Task>> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Arc<Task>>)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open);
        self.running
            .send_replace(u32::try_from(open.len()).unwrap_or(u32::MAX));
    }
}

/// An open task; closes when dropped, and stops what still computes for it.
pub(crate) struct OpenTask {
    tasks: Tasks,
    name: String,
    task: Arc<Task>,
}

impl OpenTask {
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        self.task.interrupt.raise();
        self.tasks.change(|open| {
            open.remove(&self.name);
        });
    }
}

fn name_of(key: &TaskKey) -> String {
    format!("{}/{}/{}", key.query_id, key.stage_id, key.task_number)
}
