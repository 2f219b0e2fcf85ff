//! When what is done: pure. One thing at a time for each table, a few at a time for the lake, and after a failure a
//! wait that grows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::needs::{Kind, Need};

/// Applications of upkeep that run at the same time.
const AT_ONCE: usize = 2;

/// How long to wait after a failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How often a table's old files are looked for.
const VACUUM_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a table needs, or the lake itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patient {
    /// Survives renames; none for the lake.
    pub(super) id: Option<uuid::Uuid>,
    /// The most urgent first.
    pub(super) needs: Vec<Need>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// This master is the owner of an epoch of upkeep, or none any more.
    Owns(Option<u64>),
    /// All that needs something was looked at.
    Looked(Vec<Patient>),
    /// What was submitted is over.
    Ended {
        id: Option<uuid::Uuid>,
        failed: bool,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Submit it, under an epoch.
    Submit {
        id: Option<uuid::Uuid>,
        need: Need,
        epoch: u64,
    },
    /// There may be more to do: look again.
    Look,
}

/// What is known of a table's upkeep.
#[derive(Debug, Default)]
struct Case {
    running: Option<Need>,
    failures: u32,
    not_before: Option<Instant>,
    /// What was last done of each kind, and when.
    done: BTreeMap<Kind, (String, Instant)>,
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    epoch: Option<u64>,
    cases: BTreeMap<Option<uuid::Uuid>, Case>,
}

impl Machine {
    pub(super) fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Owns(epoch) => {
                let is_news = self.epoch != epoch && epoch.is_some();
                self.epoch = epoch;
                match is_news {
                    true => vec![Action::Look],
                    false => Vec::new(),
                }
            }
            Event::Looked(patients) => self.treat(now, patients),
            Event::Ended { id, failed } => self.ended(now, id, failed),
        }
    }

    fn treat(&mut self, now: Instant, patients: Vec<Patient>) -> Vec<Action> {
        let Some(epoch) = self.epoch else {
            return Vec::new();
        };
        // Of tables that ask for nothing any more nothing is to be remembered.
        self.cases.retain(|id, case| {
            case.running.is_some() || patients.iter().any(|patient| patient.id == *id)
        });
        let mut free = AT_ONCE.saturating_sub(self.running());
        let mut actions = Vec::new();
        for Patient { id, needs } in patients {
            if free == 0 {
                break;
            }
            let case = self.cases.entry(id).or_default();
            let waits = case.not_before.is_some_and(|until| now < until);
            if case.running.is_some() || waits {
                continue;
            }
            if let Some(need) = needs.into_iter().find(|need| case.is_due(now, need)) {
                free -= 1;
                case.running = Some(need.clone());
                actions.push(Action::Submit { id, need, epoch });
            }
        }
        actions
    }

    fn ended(&mut self, now: Instant, id: Option<uuid::Uuid>, failed: bool) -> Vec<Action> {
        let Some(case) = self.cases.get_mut(&id) else {
            return Vec::new();
        };
        let Some(need) = case.running.take() else {
            return Vec::new();
        };
        if failed {
            let factor = 2_u32.saturating_pow(case.failures);
            let wait = FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT);
            case.failures = case.failures.saturating_add(1);
            case.not_before = Some(now + wait);
            return Vec::new();
        }
        case.failures = 0;
        case.not_before = None;
        case.done.insert(need.kind, (need.key, now));
        vec![Action::Look]
    }

    /// How many applications of upkeep run.
    pub(super) fn running(&self) -> usize {
        let cases = self.cases.values();
        cases.filter(|case| case.running.is_some()).count()
    }
}

impl Case {
    fn is_due(&self, now: Instant, need: &Need) -> bool {
        let Some((key, at)) = self.done.get(&need.kind) else {
            return true;
        };
        match need.kind {
            // What the files tell may say less than what their rows do: once for each day is enough.
            Kind::Expire => *key != need.key,
            Kind::Vacuum => now.duration_since(*at) >= VACUUM_EVERY,
            // Files that come out as small again must not be put together for ever.
            Kind::Compact | Kind::Sweep => {
                *key != need.key || now.duration_since(*at) >= LONGEST_WAIT
            }
        }
    }
}
