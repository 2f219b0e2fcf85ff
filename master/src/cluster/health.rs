//! Decides which workers are set aside: members whose tasks keep failing get no new ones for a while.
//!
//! Pure: it reads no clock. A worker that is lost is none of its business, and neither are failures that are
//! the query's own. A worker that comes back is on trial: one more failure before its first success, and it
//! is set aside again, for longer.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// So many failures within this time set a worker aside.
const FAILURES: usize = 3;
const WITHIN: Duration = Duration::from_secs(120);
/// Jobs that run side by side fail together: that is one failure.
const TOGETHER: Duration = Duration::from_millis(250);
const FIRST_TIME: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A task failed on it, or it could not be reached, and it was not the query's fault.
    Failed {
        worker: String,
        reason: String,
    },
    /// A job with tasks on it succeeded.
    Succeeded {
        worker: String,
    },
    /// It is no member any more: why its last tasks failed.
    Gone {
        worker: String,
    },
    Tick,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    SetAside {
        worker: String,
        time: Duration,
        reason: String,
    },
    TryAgain {
        worker: String,
    },
}

#[derive(Debug, Default)]
struct Record {
    failures: VecDeque<Instant>,
    /// How often in a row it was set aside.
    times: u32,
    aside: Option<Aside>,
}

#[derive(Debug)]
struct Aside {
    until: Instant,
    reason: String,
}

/// Workers that have failed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    workers: BTreeMap<String, Record>,
}

impl Health {
    /// Why a worker is set aside, if it is.
    pub(crate) fn set_aside(&self, worker: &str) -> Option<&str> {
        let aside = self.workers.get(worker)?.aside.as_ref()?;
        Some(&aside.reason)
    }

    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Failed { worker, reason } => self.failed(now, worker, reason),
            Event::Succeeded { worker } => {
                // What ran before it was set aside says nothing about now.
                let is_aside = self.set_aside(&worker).is_some();
                if !is_aside {
                    self.workers.remove(&worker);
                }
                vec![]
            }
            Event::Gone { worker } => {
                if let Some(record) = self.workers.get_mut(&worker) {
                    record.failures.clear();
                }
                vec![]
            }
            Event::Tick => self.try_again(now),
        }
    }

    fn failed(&mut self, now: Instant, worker: String, reason: String) -> Vec<Action> {
        let record = self.workers.entry(worker.clone()).or_default();
        let is_same = record
            .failures
            .back()
            .is_some_and(|last| now.saturating_duration_since(*last) < TOGETHER);
        if record.aside.is_some() || is_same {
            return vec![];
        }
        record.failures.push_back(now);
        record
            .failures
            .retain(|at| now.saturating_duration_since(*at) <= WITHIN);
        let is_on_trial = record.times > 0;
        if record.failures.len() < FAILURES && !is_on_trial {
            return vec![];
        }
        let time = FIRST_TIME
            .saturating_mul(1 << record.times.min(8))
            .min(LONGEST);
        record.times += 1;
        record.failures.clear();
        record.aside = Some(Aside {
            until: now + time,
            reason: reason.clone(),
        });
        vec![Action::SetAside {
            worker,
            time,
            reason,
        }]
    }

    fn try_again(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![];
        for (worker, record) in &mut self.workers {
            if record
                .aside
                .as_ref()
                .is_some_and(|aside| now >= aside.until)
            {
                record.aside = None;
                actions.push(Action::TryAgain {
                    worker: worker.clone(),
                });
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(worker: &str) -> Event {
        Event::Failed {
            worker: worker.to_owned(),
            reason: "disk full".to_owned(),
        }
    }

    fn succeeded(worker: &str) -> Event {
        Event::Succeeded {
            worker: worker.to_owned(),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn set_aside(seconds: u64) -> Vec<Action> {
        vec![Action::SetAside {
            worker: "a".to_owned(),
            time: Duration::from_secs(seconds),
            reason: "disk full".to_owned(),
        }]
    }

    #[test]
    fn worker_that_keeps_failing_is_set_aside_and_tried_again() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.step(start, failed("a")), []);
        assert_eq!(health.step(start + seconds(5), failed("a")), []);
        assert_eq!(health.set_aside("a"), None);
        assert_eq!(health.step(start + seconds(10), failed("a")), set_aside(30));
        assert_eq!(health.set_aside("a"), Some("disk full"));
        assert_eq!(health.step(start + seconds(39), Event::Tick), []);
        let again = Action::TryAgain {
            worker: "a".to_owned(),
        };
        assert_eq!(health.step(start + seconds(40), Event::Tick), [again]);
        assert_eq!(health.set_aside("a"), None);
    }

    #[test]
    fn worker_on_trial_is_set_aside_for_longer_at_once() {
        let start = Instant::now();
        let mut health = Health::default();
        for after in [0, 1, 2] {
            health.step(start + seconds(after), failed("a"));
        }
        health.step(start + seconds(32), Event::Tick);
        assert_eq!(health.step(start + seconds(33), failed("a")), set_aside(60));
        health.step(start + seconds(93), Event::Tick);
        health.step(start + seconds(94), succeeded("a"));
        assert_eq!(health.step(start + seconds(95), failed("a")), []);
    }

    #[test]
    fn success_between_failures_forgives_them() {
        let start = Instant::now();
        let mut health = Health::default();
        for after in 0..20 {
            assert_eq!(health.step(start + seconds(after), failed("a")), []);
            health.step(start + seconds(after), succeeded("a"));
        }
    }

    #[test]
    fn failures_together_are_one_and_old_ones_are_none() {
        let start = Instant::now();
        let mut health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.step(start, failed("a")), []);
        }
        for minutes in 1..10 {
            let now = start + seconds(61 * minutes);
            assert_eq!(health.step(now, failed("a")), [], "{minutes}");
        }
    }

    #[test]
    fn worker_that_was_lost_is_not_blamed_for_its_last_tasks() {
        let start = Instant::now();
        let mut health = Health::default();
        for after in [0, 10, 20, 30] {
            assert_eq!(health.step(start + seconds(after), failed("a")), []);
            let gone = Event::Gone {
                worker: "a".to_owned(),
            };
            assert_eq!(health.step(start + seconds(after), gone), []);
        }
    }

    proptest! {
        /// Whatever happens, a worker's announcements alternate, and every set-aside ends.
        #[test]
        fn announcements_alternate(steps in proptest::collection::vec((0u8..4, 0u8..3, 0u64..60), 1..200)) {
            let mut now = Instant::now();
            let mut health = Health::default();
            let mut aside = std::collections::BTreeSet::new();
            for (kind, worker, after) in steps {
                now += seconds(after);
                let worker = ["a", "b", "c"][worker as usize];
                let event = match kind {
                    0 | 1 => failed(worker),
                    2 => succeeded(worker),
                    _ => Event::Tick,
                };
                for action in health.step(now, event) {
                    match action {
                        Action::SetAside { worker, time, .. } => {
                            prop_assert!(time <= LONGEST);
                            prop_assert!(aside.insert(worker));
                        }
                        Action::TryAgain { worker } => prop_assert!(aside.remove(&worker)),
                    }
                }
                for worker in ["a", "b", "c"] {
                    prop_assert_eq!(aside.contains(worker), health.set_aside(worker).is_some());
                }
            }
            prop_assert_eq!(health.step(now + LONGEST, Event::Tick).len(), aside.len());
        }
    }
}
