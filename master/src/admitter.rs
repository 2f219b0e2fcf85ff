//! Lets jobs wait for their turn: the part of admission that holds the state and wakes who may start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::WorkerTarget;
use tokio::sync::oneshot;

use crate::admission::{Admission, Event, JobNumber, Request};

/// The one line that all jobs of a master stand in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admitter {
    line: Arc<Mutex<Line>>,
}

#[derive(Debug)]
struct Line {
    admission: Admission,
    waiting: BTreeMap<JobNumber, oneshot::Sender<BTreeSet<String>>>,
    next: u64,
}

/// A job's place, in line or running: given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    job: JobNumber,
    admitter: Admitter,
    granted: Option<oneshot::Receiver<BTreeSet<String>>>,
}

impl Admitter {
    pub(crate) fn new(concurrent_jobs: usize) -> Self {
        Self {
            line: Arc::new(Mutex::new(Line {
                admission: Admission::new(concurrent_jobs),
                waiting: BTreeMap::new(),
                next: 0,
            })),
        }
    }

    pub(crate) fn workers_changed(&self, workers: &[WorkerTarget]) {
        let cores = |worker: &WorkerTarget| (worker.id.clone(), worker.cores.max(1));
        self.lock()
            .step(Event::WorkersChanged(workers.iter().map(cores).collect()));
    }

    /// Whether a job that runs may use this worker.
    pub(crate) fn holds(&self, worker: &str) -> bool {
        self.lock().admission.holds(worker)
    }

    /// Joins the line.
    pub(crate) fn request(&self, cores: Option<u32>, avoid: BTreeSet<String>) -> Place {
        let mut line = self.lock();
        line.next += 1;
        let job = JobNumber(line.next);
        let (sender, granted) = oneshot::channel();
        line.waiting.insert(job, sender);
        line.step(Event::Requested(Request { job, cores, avoid }));
        Place {
            job,
            admitter: self.clone(),
            granted: Some(granted),
        }
    }

    // A step cannot be left half done by a panic of its caller, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn step(&mut self, event: Event) {
        for grant in self.admission.step(event) {
            if let Some(waiting) = self.waiting.remove(&grant.job) {
                // Who has stopped waiting gives its place back when it is dropped.
                let _ = waiting.send(grant.workers);
            }
        }
    }
}

impl Place {
    /// Waits for the job's turn; the workers it may use. Answers once.
    pub(crate) async fn granted(&mut self) -> BTreeSet<String> {
        match self.granted.take() {
            Some(granted) => granted.await.unwrap_or_default(),
            None => BTreeSet::new(),
        }
    }

    /// Jobs before this one in line; `None` if it does not wait.
    pub(crate) fn position(&self) -> Option<usize> {
        self.admitter.lock().admission.position(self.job)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.admitter.lock();
        line.waiting.remove(&self.job);
        line.step(Event::Released(self.job));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn worker() -> WorkerTarget {
        WorkerTarget {
            id: "a".into(),
            url: "http://127.0.0.1:1".parse().unwrap(),
            cores: 1,
        }
    }

    #[tokio::test]
    async fn job_waits_until_the_one_before_is_dropped() {
        let admitter = Admitter::new(1);
        let mut first = admitter.request(None, BTreeSet::new());
        assert!(
            first.granted().now_or_never().is_none(),
            "there is no worker yet"
        );
        drop(first);

        admitter.workers_changed(&[worker()]);
        let mut first = admitter.request(None, BTreeSet::new());
        assert_eq!(first.granted().await, BTreeSet::from(["a".into()]));
        let mut second = admitter.request(None, BTreeSet::new());
        assert_eq!(second.position(), Some(0));
        drop(first);
        assert_eq!(second.granted().await, BTreeSet::from(["a".into()]));
        assert_eq!(second.position(), None);
    }
}
