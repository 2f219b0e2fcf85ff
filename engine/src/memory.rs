//! Memory of one process, shared between its jobs.
//!
//! Every task draws from a [`TaskMemory`], a DataFusion memory pool of its own that keeps to what its job may
//! have. A job alone may have everything. Several have an equal share each, and may take more than that as
//! long as half a share stays free for every other one: what a job holds cannot be taken back, so a job that
//! comes must find something. Within a job, operators that can spill share what is left by those that cannot.
//!
//! An operator that gets no more spills, or fails with [`Exhausted`], which names it.

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::human_readable_size;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnv;

use crate::interrupt::Interrupt;

/// All memory that a process gives to jobs.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: Option<usize>,
    jobs: Mutex<HashMap<String, Usage>>,
}

/// What a job holds.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    /// Its pools.
    tasks: usize,
    /// Held by operators that can spill, and their number.
    spillable: usize,
    spillers: usize,
    /// Held by those that cannot.
    fixed: usize,
}

impl Usage {
    fn total(&self) -> usize {
        self.spillable + self.fixed
    }
}

impl Memory {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            jobs: Mutex::default(),
        })
    }

    /// Bytes that all jobs hold together.
    pub(crate) fn reserved(&self) -> u64 {
        self.lock().values().map(Usage::total).sum::<usize>() as u64
    }

    /// The process's runtime, with memory of this job. What cannot be refused to a task, and is too much,
    /// interrupts it.
    pub(crate) fn of_job(
        self: &Arc<Self>,
        runtime: &RuntimeEnv,
        job: &str,
        interrupt: &Interrupt,
    ) -> Arc<RuntimeEnv> {
        Arc::new(RuntimeEnv {
            memory_pool: self.pool(job, interrupt),
            ..runtime.clone()
        })
    }

    pub(crate) fn pool(self: &Arc<Self>, job: &str, interrupt: &Interrupt) -> Arc<dyn MemoryPool> {
        self.lock().entry(job.to_owned()).or_default().tasks += 1;
        Arc::new(TaskMemory {
            memory: Arc::clone(self),
            job: job.to_owned(),
            interrupt: interrupt.clone(),
        })
    }

    // Numbers are changed one by one, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Usage>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a job may take beyond what it holds.
fn room(limit: usize, jobs: &HashMap<String, Usage>, job: &str) -> usize {
    let used = jobs.get(job).map_or(0, Usage::total);
    let others = || {
        let others = jobs.iter().filter(|(name, _)| *name != job);
        others
            .map(|(_, usage)| usage.total())
            .filter(|used| *used > 0)
    };
    let free = limit.saturating_sub(used + others().sum::<usize>());
    let share = limit / (others().count() + 1);
    let kept_for_others: usize = others().map(|used| (share / 2).saturating_sub(used)).sum();
    let beyond = free.saturating_sub(kept_for_others);
    free.min(beyond.max(share.saturating_sub(used)))
}

/// A task's memory pool.
#[derive(Debug)]
struct TaskMemory {
    memory: Arc<Memory>,
    job: String,
    interrupt: Interrupt,
}

impl TaskMemory {
    fn change<T>(&self, change: impl FnOnce(&mut Usage) -> T) -> T {
        change(self.memory.lock().entry(self.job.clone()).or_default())
    }
}

impl Drop for TaskMemory {
    fn drop(&mut self) {
        let mut jobs = self.memory.lock();
        if let Some(usage) = jobs.get_mut(&self.job) {
            usage.tasks = usage.tasks.saturating_sub(1);
            if usage.tasks == 0 {
                jobs.remove(&self.job);
            }
        }
    }
}

impl MemoryPool for TaskMemory {
    fn name(&self) -> &str {
        "job"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.change(|usage| usage.spillers += 1);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.change(|usage| usage.spillers = usage.spillers.saturating_sub(1));
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let consumer = reservation.consumer();
        let is_too_much = {
            let mut jobs = self.memory.lock();
            let room = self.memory.limit.map(|limit| room(limit, &jobs, &self.job));
            let usage = jobs.entry(self.job.clone()).or_default();
            let before = usage.total();
            match consumer.can_spill() {
                true => usage.spillable += additional,
                false => usage.fixed += additional,
            }
            room.filter(|room| *room < additional)
                .map(|room| (room, before + room))
        };
        // Sent to every task of a stage and kept until the last has it: nothing else limits it.
        if let Some((available, of)) = is_too_much
            && operator(consumer.name()) == BROADCAST
        {
            self.interrupt.exhaust(
                Exhausted {
                    operator: BROADCAST.to_owned(),
                    asked: additional,
                    available,
                    of,
                }
                .to_string(),
            );
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let can_spill = reservation.consumer().can_spill();
        self.change(|usage| match can_spill {
            true => usage.spillable = usage.spillable.saturating_sub(shrink),
            false => usage.fixed = usage.fixed.saturating_sub(shrink),
        });
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut jobs = self.memory.lock();
        let room = match self.memory.limit {
            Some(limit) => room(limit, &jobs, &self.job),
            None => usize::MAX,
        };
        let usage = jobs.entry(self.job.clone()).or_default();
        let of = usage.total().saturating_add(room);
        let available = match consumer.can_spill() {
            false => room,
            true => {
                let each = of.saturating_sub(usage.fixed) / usage.spillers.max(1);
                room.min(each.saturating_sub(reservation.size()))
            }
        };
        if additional > available {
            let exhausted = Exhausted {
                operator: operator(consumer.name()).to_owned(),
                asked: additional,
                available,
                of,
            };
            // Operators that can spill look for this very error.
            return Err(DataFusionError::ResourcesExhausted(exhausted.to_string()));
        }
        match consumer.can_spill() {
            true => usage.spillable += additional,
            false => usage.fixed += additional,
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.memory.lock().get(&self.job).map_or(0, Usage::total)
    }

    fn memory_limit(&self) -> MemoryLimit {
        match self.memory.limit {
            Some(limit) => MemoryLimit::Finite(limit),
            None => MemoryLimit::Infinite,
        }
    }
}

impl Display for TaskMemory {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory of the job")
    }
}

/// What a person calls the operator of a consumer, whose name begins with that of a Rust type.
fn operator(consumer: &str) -> &'static str {
    const NAMES: [(&str, &str); 17] = [
        ("HashJoinInput", HASH_JOIN),
        ("BroadcastExec", BROADCAST),
        ("CrossJoin", "cross join"),
        ("NestedLoopJoin", "nested loop join"),
        ("PiecewiseMergeJoin", "range join"),
        ("SymmetricHashJoin", "symmetric hash join"),
        ("SMJ", "sort-merge join"),
        ("ExternalSorter", "sort"),
        ("SortPreservingMerge", "merge of sorted rows"),
        ("TopK", "sort with a limit"),
        ("PartitionedTopK", "sort with a limit"),
        ("Aggregate", "aggregation"),
        ("Recursive", "recursive query"),
        ("ParquetSink", "Parquet writer"),
        ("Repartition", "repartitioning"),
        ("exchange", "exchange"),
        ("Network", "exchange"),
    ];
    let named = NAMES
        .iter()
        .find(|(prefix, _)| consumer.starts_with(prefix));
    match named {
        Some((_, name)) => name,
        None if consumer.contains("Aggregate") => "aggregation",
        None if consumer.contains("Window") => "window function",
        None => "operator",
    }
}

const HASH_JOIN: &str = "hash join";
const BROADCAST: &str = "broadcast side of a join";

/// An operator that got no more memory. DataFusion carries it as text, so it is read back from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// What asked.
    pub operator: String,
    /// Bytes it asked for.
    pub asked: usize,
    /// Bytes it could have had.
    pub available: usize,
    /// Bytes that its job may have on this process, all operators together.
    pub of: usize,
}

impl Exhausted {
    /// Whether the query may fit when its joins sort instead of holding one side in memory.
    pub fn is_join_side(&self) -> bool {
        [HASH_JOIN, BROADCAST].contains(&self.operator.as_str())
    }

    /// Reads what its `Display` has written.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (operator, text) = text
            .strip_prefix("out of memory: ")?
            .split_once(" asked for ")?;
        let (asked, text) = text.split_once(" bytes of ")?;
        let (available, text) = text.split_once(" left, of ")?;
        let of = text.strip_suffix(" for the job")?;
        Some(Self {
            operator: operator.to_owned(),
            asked: asked.parse().ok()?,
            available: available.parse().ok()?,
            of: of.parse().ok()?,
        })
    }

    /// For people.
    pub(crate) fn message(&self) -> String {
        format!(
            "out of memory: the {} asked for {} more, {} of the job's {} were left",
            self.operator,
            human_readable_size(self.asked),
            human_readable_size(self.available),
            human_readable_size(self.of),
        )
    }
}

impl Display for Exhausted {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self {
            operator,
            asked,
            available,
            of,
        } = self;
        write!(
            f,
            "out of memory: {operator} asked for {asked} bytes of {available} left, of {of} for the job"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(memory: &Arc<Memory>, job: &str, name: &str, can_spill: bool) -> MemoryReservation {
        let pool = memory.pool(job, &Interrupt::default());
        MemoryConsumer::new(name)
            .with_can_spill(can_spill)
            .register(&pool)
    }

    #[test]
    fn a_job_alone_may_have_everything() {
        let memory = Memory::new(Some(100));
        let reservation = register(&memory, "a", "HashJoinInput[0]", false);
        reservation.try_grow(100).unwrap();
        let error = reservation.try_grow(1).unwrap_err();
        let DataFusionError::ResourcesExhausted(text) = error else {
            panic!("{error:?}");
        };
        let exhausted = Exhausted::read(&text).unwrap();
        assert_eq!(
            exhausted,
            Exhausted {
                operator: "hash join".to_owned(),
                asked: 1,
                available: 0,
                of: 100
            }
        );
        assert!(exhausted.is_join_side());
        drop(reservation);
        assert_eq!(memory.reserved(), 0);
        assert!(memory.lock().is_empty(), "a job that is over is forgotten");
    }

    #[test]
    fn a_job_that_comes_later_finds_its_half_share() {
        let memory = Memory::new(Some(100));
        let first = register(&memory, "a", "HashJoinInput", false);
        first.try_grow(60).unwrap();
        let second = register(&memory, "b", "HashJoinInput", false);
        second.try_grow(1).unwrap();
        // Half of the second's share is 25, of which it has 1.
        assert!(first.try_grow(16).is_err());
        first.try_grow(15).unwrap();
        second.try_grow(24).unwrap();
        assert!(second.try_grow(1).is_err());
        drop(first);
        second.try_grow(75).unwrap();
    }

    #[test]
    fn tasks_of_a_job_share_what_it_may_have() {
        let memory = Memory::new(Some(100));
        let first = register(&memory, "a", "HashJoinInput", false);
        let second = register(&memory, "a", "HashJoinInput", false);
        first.try_grow(70).unwrap();
        assert!(second.try_grow(31).is_err());
        second.try_grow(30).unwrap();
    }

    #[test]
    fn operators_that_spill_share_what_the_others_leave() {
        let memory = Memory::new(Some(100));
        let fixed = register(&memory, "a", "HashJoinInput", false);
        let sorts = [(); 2].map(|()| register(&memory, "a", "ExternalSorter", true));
        fixed.try_grow(20).unwrap();
        assert!(sorts[0].try_grow(41).is_err());
        sorts[0].try_grow(40).unwrap();
        sorts[1].try_grow(40).unwrap();
    }

    #[test]
    fn a_broadcast_side_that_is_too_large_interrupts_its_task() {
        let memory = Memory::new(Some(100));
        let interrupt = Interrupt::default();
        let pool = memory.pool("a", &interrupt);
        let exchange = MemoryConsumer::new("exchange").register(&pool);
        exchange.grow(101);
        interrupt.check().unwrap();
        drop(exchange);
        let broadcast = MemoryConsumer::new("BroadcastExec[0]").register(&pool);
        broadcast.grow(90);
        interrupt.check().unwrap();
        broadcast.grow(11);
        let error = crate::Error::from(interrupt.check().unwrap_err());
        assert!(error.to_string().contains("broadcast"), "{error}");
    }

    #[test]
    fn without_a_limit_everything_fits() {
        let memory = Memory::new(None);
        let reservation = register(&memory, "a", "HashJoinInput", false);
        reservation.try_grow(usize::MAX / 4).unwrap();
    }

    proptest::proptest! {
        /// Jobs that ask, and never more than is refused: together they keep to the limit, and who asks
        /// alone is never refused what is free.
        #[test]
        fn jobs_keep_to_the_limit(asks in proptest::collection::vec((0usize..4, 1usize..40, proptest::bool::ANY), 1..100)) {
            let memory = Memory::new(Some(100));
            let jobs = ["a", "b", "c", "d"].map(|job| register(&memory, job, "HashJoinInput", false));
            for (job, bytes, frees) in asks {
                if frees {
                    jobs[job].free();
                } else {
                    let _ = jobs[job].try_grow(bytes);
                }
                proptest::prop_assert!(memory.reserved() <= 100);
            }
        }
    }
}
