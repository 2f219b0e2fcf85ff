//! Finds jobs that stand still: nothing of them computes, and they have not ended.
//!
//! A job that computes for hours without a row to show does not stand still: its steps grow.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::time::Duration;

use drumline_engine::job::JobWatch;
use tokio::time::Instant;

/// A job that stood still for too long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stall {
    limit: Duration,
    /// Workers with tasks that have not ended, of all that have any.
    waiting_for: BTreeSet<String>,
    workers: usize,
}

impl Stall {
    /// The worker that all others wait for, where there is one.
    pub(super) fn only_worker(&self) -> Option<String> {
        let is_one_of_several = self.waiting_for.len() == 1 && self.workers > 1;
        self.waiting_for
            .first()
            .filter(|_| is_one_of_several)
            .cloned()
    }
}

impl Display for Stall {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "the job made no progress for {} s", self.limit.as_secs())?;
        if !self.waiting_for.is_empty() {
            let workers: Vec<&str> = self.waiting_for.iter().map(String::as_str).collect();
            write!(f, "; it waits for tasks on {}", workers.join(", "))?;
        }
        Ok(())
    }
}

/// Resolves when the job has stood still for the limit.
pub(super) async fn watch(job: JobWatch, limit: Option<Duration>) -> Stall {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    stands_still(|| job.steps(), limit).await;
    let tasks = job.tasks();
    let tasks = tasks.borrow();
    let open = tasks.values().filter(|task| !task.finished);
    let all: BTreeSet<&String> = tasks.values().map(|task| &task.worker).collect();
    Stall {
        limit,
        waiting_for: open.map(|task| task.worker.clone()).collect(),
        workers: all.len(),
    }
}

/// Resolves when a number has not changed for the limit.
async fn stands_still(number: impl Fn() -> u64, limit: Duration) {
    let (mut last, mut since) = (number(), Instant::now());
    while since.elapsed() < limit {
        tokio::time::sleep((limit / 10).min(Duration::from_secs(1))).await;
        let now = number();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_moves_does_not_stand_still_however_slowly() {
        let steps = AtomicU64::new(0);
        let start = Instant::now();
        let moves = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            std::future::pending::<()>().await;
        };
        let limit = Duration::from_millis(600);
        tokio::select! {
            () = stands_still(|| steps.load(Ordering::Relaxed), limit) => {}
            () = moves => {}
        }
        assert!(
            start.elapsed() >= Duration::from_millis(1600),
            "{:?}",
            start.elapsed()
        );
    }

    fn stall(waiting_for: &[&str], workers: usize) -> Stall {
        Stall {
            limit: Duration::from_secs(600),
            waiting_for: waiting_for
                .iter()
                .map(|worker| worker.to_string())
                .collect(),
            workers,
        }
    }

    #[test]
    fn the_one_worker_that_others_wait_for_is_to_blame() {
        assert_eq!(stall(&["a"], 2).only_worker(), Some("a".to_owned()));
        assert_eq!(stall(&["a", "b"], 2).only_worker(), None);
        assert_eq!(stall(&["a"], 1).only_worker(), None);
        assert_eq!(
            stall(&["a", "b"], 2).to_string(),
            "the job made no progress for 600 s; it waits for tasks on a, b"
        );
    }
}
