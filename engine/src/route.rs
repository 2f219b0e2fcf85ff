//! Which worker runs which task: the host's decision, asked for one stage at a time, producers first.

use std::sync::Arc;

use crate::WorkerTarget;

/// A stage whose tasks need workers.
#[derive(Debug)]
pub struct StageToRoute<'a> {
    /// Number of the stage in its job, from 1.
    pub stage: u32,
    /// Tasks to place.
    pub tasks: usize,
    /// Workers of the job.
    pub workers: &'a [WorkerTarget],
    /// Indexes into `workers` of the tasks that this stage reads from.
    pub inputs: &'a [usize],
}

/// Answers with an index into `workers` for each task. Must be quick: it is called while planning.
pub type RouteFn = Arc<dyn Fn(&StageToRoute<'_>) -> Vec<usize> + Send + Sync>;

/// Spreads tasks over all workers, beginning at `first`; a stage of one task goes where its rows are.
pub fn spread(first: usize) -> RouteFn {
    Arc::new(move |stage| {
        let count = stage.workers.len().max(1);
        if let ([input, ..], 1) = (stage.inputs, stage.tasks) {
            return vec![*input];
        }
        (0..stage.tasks)
            .map(|task| (first + task) % count)
            .collect()
    })
}
