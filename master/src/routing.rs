//! Decides which worker runs each task of a stage: the least loaded, and different ones within a stage.
//!
//! The decision ([`place`]) is pure. The load is what the master itself has put on its workers and not
//! yet taken off; [`Placements`] keeps it across jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::WorkerTarget;
use drumline_engine::route::{RouteFn, StageToRoute};

/// Tasks on each worker, by worker id.
pub(crate) type Load = BTreeMap<String, u32>;

/// Chooses a worker, by its index, for each task of a stage, and adds the tasks to the load.
///
/// A worker gets a second task of a stage only when every other has one, so that a stage spreads as far
/// as it can. Among equals goes first who sends rows to a stage of one task, then who has fewest tasks
/// per core, then the first by id.
pub(crate) fn place(stage: &StageToRoute<'_>, load: &mut Load) -> Vec<usize> {
    let mut of_stage = vec![0u32; stage.workers.len()];
    let mut chosen = Vec::with_capacity(stage.tasks);
    for _ in 0..stage.tasks {
        let rank = |index: usize, worker: &WorkerTarget| {
            let is_far = stage.tasks == 1 && !stage.inputs.contains(&index);
            let tasks = load.get(&worker.id).copied().unwrap_or(0);
            // tasks per core in thousandths: integers, so that the order is total
            let busy = u64::from(tasks) * 1000 / u64::from(worker.cores.max(1));
            (of_stage.get(index).copied().unwrap_or(0), is_far, busy)
        };
        let least = stage
            .workers
            .iter()
            .enumerate()
            .min_by_key(|(index, worker)| (rank(*index, worker), worker.id.as_str()));
        let Some((index, worker)) = least else { break };
        *load.entry(worker.id.clone()).or_insert(0) += 1;
        if let Some(tasks) = of_stage.get_mut(index) {
            *tasks += 1;
        }
        chosen.push(index);
    }
    chosen
}

/// The load of all jobs that run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placements {
    load: Arc<Mutex<Load>>,
}

/// The tasks of one job: off the load when dropped.
#[derive(Debug)]
pub(crate) struct JobPlacement {
    load: Arc<Mutex<Load>>,
    placed: Arc<Mutex<Vec<String>>>,
}

impl Placements {
    /// For one job: what takes its tasks off the load again, and the routing to give to the engine.
    pub(crate) fn of_job(&self) -> (JobPlacement, RouteFn) {
        let job = JobPlacement {
            load: Arc::clone(&self.load),
            placed: Arc::default(),
        };
        let (load, placed) = (Arc::clone(&job.load), Arc::clone(&job.placed));
        let route = move |stage: &StageToRoute<'_>| {
            let chosen = place(stage, &mut lock(&load));
            let ids = chosen.iter().filter_map(|index| stage.workers.get(*index));
            lock(&placed).extend(ids.map(|worker| worker.id.clone()));
            chosen
        };
        (job, Arc::new(route))
    }
}

impl Drop for JobPlacement {
    fn drop(&mut self) {
        let mut load = lock(&self.load);
        for worker in lock(&self.placed).drain(..) {
            if let Some(tasks) = load.get_mut(&worker) {
                *tasks = tasks.saturating_sub(1);
            }
        }
        load.retain(|_, tasks| *tasks > 0);
    }
}

// Counters cannot be left half changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(cores: &[u32]) -> Vec<WorkerTarget> {
        let worker = |(cores, id): (&u32, char)| WorkerTarget {
            id: id.to_string(),
            url: "http://127.0.0.1:1".parse().unwrap(),
            cores: *cores,
        };
        cores.iter().zip('a'..).map(worker).collect()
    }

    fn stage<'a>(
        tasks: usize,
        workers: &'a [WorkerTarget],
        inputs: &'a [usize],
    ) -> StageToRoute<'a> {
        StageToRoute {
            stage: 1,
            tasks,
            workers,
            inputs,
        }
    }

    #[test]
    fn stage_spreads_over_all_workers_before_any_gets_a_second_task() {
        let workers = workers(&[1, 8, 1]);
        let mut load = Load::new();
        assert_eq!(place(&stage(3, &workers, &[]), &mut load), [0, 1, 2]);
        assert_eq!(place(&stage(4, &workers, &[]), &mut load), [1, 0, 2, 1]);
    }

    #[test]
    fn narrow_stage_goes_to_the_worker_with_fewest_tasks_per_core() {
        let workers = workers(&[1, 2]);
        let mut load = Load::from([("a".into(), 1), ("b".into(), 1)]);
        assert_eq!(place(&stage(1, &workers, &[]), &mut load), [1]);
        assert_eq!(place(&stage(1, &workers, &[]), &mut load), [0]);
    }

    #[test]
    fn single_task_stays_with_the_rows_it_reads() {
        let workers = workers(&[1, 1, 1]);
        let mut load = Load::from([("b".into(), 5), ("c".into(), 4)]);
        assert_eq!(place(&stage(1, &workers, &[1, 2]), &mut load), [2]);
    }

    #[test]
    fn no_worker_means_no_place() {
        assert!(place(&stage(2, &[], &[]), &mut Load::new()).is_empty());
    }

    #[test]
    fn load_of_a_job_ends_with_it() {
        let placements = Placements::default();
        let workers = workers(&[1, 1]);
        let (first, route_first) = placements.of_job();
        assert_eq!(route_first(&stage(1, &workers, &[])), [0]);
        let (_second, route_second) = placements.of_job();
        assert_eq!(route_second(&stage(1, &workers, &[])), [1]);
        drop(first);
        assert_eq!(*lock(&placements.load), Load::from([("b".into(), 1)]));
    }
}
