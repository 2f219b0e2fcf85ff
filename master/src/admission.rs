//! Decides which job may start, and on which workers: first come, first served.
//!
//! A job takes cores of workers. Without a wish of its own it takes an equal share of the cluster (its
//! cores divided by the number of jobs that may run at a time) and may use every worker; with
//! `drumline.cores` it is given that many cores and only the workers that hold them. Pure: see `admitter.rs`
//! for the part that waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A job's place in admission, unique within a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobNumber(pub(crate) u64);

/// What a job asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) job: JobNumber,
    /// `None`: a fair share.
    pub(crate) cores: Option<u32>,
    /// Workers to leave out, as long as there are others.
    pub(crate) avoid: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Requested(Request),
    /// The job has ended, or waits no longer.
    Released(JobNumber),
    /// The workers that are there, with their cores.
    WorkersChanged(BTreeMap<String, u32>),
}

/// The job may start on these workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    pub(crate) job: JobNumber,
    pub(crate) workers: BTreeSet<String>,
}

/// Who runs, who waits.
#[derive(Debug)]
pub(crate) struct Admission {
    concurrent_jobs: usize,
    workers: BTreeMap<String, u32>,
    /// Cores that each running job takes, by worker.
    running: BTreeMap<JobNumber, BTreeMap<String, u32>>,
    /// The workers that each running job may use.
    granted: BTreeMap<JobNumber, BTreeSet<String>>,
    queue: VecDeque<Request>,
}

impl Admission {
    pub(crate) fn new(concurrent_jobs: usize) -> Self {
        Self {
            concurrent_jobs: concurrent_jobs.max(1),
            workers: BTreeMap::new(),
            running: BTreeMap::new(),
            granted: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn step(&mut self, event: Event) -> Vec<Grant> {
        match event {
            Event::Requested(request) => self.queue.push_back(request),
            Event::Released(job) => {
                self.running.remove(&job);
                self.granted.remove(&job);
                self.queue.retain(|request| request.job != job);
            }
            Event::WorkersChanged(workers) => self.workers = workers,
        }
        let mut grants = vec![];
        while let Some(grant) = self.grant_first() {
            grants.push(grant);
        }
        grants
    }

    /// Jobs before this one in line; `None` if it does not wait.
    pub(crate) fn position(&self, job: JobNumber) -> Option<usize> {
        self.queue.iter().position(|request| request.job == job)
    }

    /// Whether a job that runs may use this worker.
    pub(crate) fn holds(&self, worker: &str) -> bool {
        self.granted
            .values()
            .any(|workers| workers.contains(worker))
    }

    /// Nobody overtakes the first in line: a large job is not starved by small ones.
    fn grant_first(&mut self) -> Option<Grant> {
        let request = self.queue.front()?;
        if self.running.len() >= self.concurrent_jobs {
            return None;
        }
        let mut free = self.free_cores(&request.avoid);
        let total: u32 = free
            .keys()
            .filter_map(|worker| self.workers.get(worker))
            .sum();
        let share = (total / u32::try_from(self.concurrent_jobs).unwrap_or(u32::MAX)).max(1);
        let wanted = request.cores.unwrap_or(share).clamp(1, total.max(1));
        // A worker that left may have made its jobs' cores overcommitted: with nothing running, the first goes.
        let fits = free.values().sum::<u32>() >= wanted;
        if free.is_empty() || !(fits || self.running.is_empty()) {
            return None;
        }
        let taken = deal(&mut free, wanted);
        let workers: BTreeSet<String> = match request.cores {
            Some(_) => taken.keys().cloned().collect(),
            None => free.keys().cloned().collect(),
        };
        let job = request.job;
        self.queue.pop_front();
        self.running.insert(job, taken);
        self.granted.insert(job, workers.clone());
        Some(Grant { job, workers })
    }

    /// Free cores of the workers that may be used. With every worker to be avoided, all may be.
    fn free_cores(&self, avoid: &BTreeSet<String>) -> BTreeMap<String, u32> {
        let free = |worker: &String, cores: &u32| {
            let taken: u32 = self
                .running
                .values()
                .filter_map(|job| job.get(worker))
                .sum();
            (worker.clone(), cores.saturating_sub(taken))
        };
        let all_avoided = self.workers.keys().all(|worker| avoid.contains(worker));
        self.workers
            .iter()
            .filter(|(worker, _)| all_avoided || !avoid.contains(*worker))
            .map(|(worker, cores)| free(worker, cores))
            .collect()
    }
}

/// Takes cores one by one from the worker with most of them free.
fn deal(free: &mut BTreeMap<String, u32>, wanted: u32) -> BTreeMap<String, u32> {
    let mut taken = BTreeMap::new();
    for _ in 0..wanted {
        // `rev` lets the first name win among equals, since `max_by_key` keeps the last.
        let Some((worker, cores)) = free.iter_mut().rev().max_by_key(|(_, cores)| **cores) else {
            break;
        };
        if *cores == 0 {
            break;
        }
        *cores -= 1;
        *taken.entry(worker.clone()).or_insert(0) += 1;
    }
    taken
}

#[cfg(test)]
mod tests;
