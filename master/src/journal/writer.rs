//! The one thread that writes: takes all that waits, writes it together, says up to where facts are durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::Fact;
use super::ledger::{Ledger, WriteError};
use crate::facts::Event;

/// How long after a failure writing is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often old facts are looked for.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
/// Facts that may wait while nothing can be written; above it, those of tasks and jobs are let go.
const BACKLOG: usize = 100_000;

/// How far the journal has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// All facts up to this one are on the disk.
    pub(crate) durable: u64,
    /// Why nothing can be written at the moment.
    pub(crate) failing: Option<Arc<str>>,
}

impl Progress {
    /// Whether a fact is durable, or will not be for now.
    pub(crate) fn is_past(&self, sequence: u64) -> bool {
        self.durable >= sequence || self.failing.is_some()
    }
}

/// The way into the journal. Cheap to clone; facts are put in their order.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Queue {
    facts: Vec<Arc<Fact>>,
    /// The newest that was told, kept or not.
    told: u64,
    writing: bool,
    stopping: bool,
}

/// What is told of applications whose facts were dropped.
pub(crate) type Dropped = Box<dyn Fn(&[String]) + Send>;

impl Writer {
    /// Starts the thread. `durable`: the newest fact that is there already.
    pub(super) fn start(
        ledger: Ledger,
        durable: u64,
        dropped: Dropped,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress {
                durable,
                failing: None,
            }),
        });
        let writer = Self {
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("drumline-journal".to_owned())
            .spawn(move || run(&shared, ledger, &dropped))?;
        Ok((writer, thread))
    }

    /// Hands over a fact. One that is not kept is durable as soon as all before it are.
    pub(crate) fn put(&self, fact: &Arc<Fact>) {
        let mut queue = self.shared.lock();
        queue.told = fact.sequence;
        if fact.event.is_kept() {
            queue.facts.push(Arc::clone(fact));
            self.shared.wake.notify_one();
        } else if queue.facts.is_empty() && !queue.writing {
            self.shared.durable(fact.sequence);
        }
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Writes what waits, then ends the thread.
    pub(super) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    // The queue is whole at every step, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable(&self, sequence: u64) {
        self.progress.send_modify(|progress| {
            progress.durable = progress.durable.max(sequence);
            progress.failing = None;
        });
    }

    /// Waits for facts, or until it is time to look for old ones; the facts, the newest told, whether to stop.
    fn take(&self, patience: Duration) -> (Vec<Arc<Fact>>, u64, bool) {
        let mut queue = self.lock();
        if queue.facts.is_empty() && !queue.stopping {
            queue = self
                .wake
                .wait_timeout(queue, patience)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let facts = std::mem::take(&mut queue.facts);
        queue.writing = !facts.is_empty();
        (facts, queue.told, queue.stopping)
    }

    /// While writing fails: adds what was told meanwhile. Nothing is durable until all of it is.
    fn take_more(&self, facts: &mut Vec<Arc<Fact>>) -> (u64, bool) {
        let mut queue = self.lock();
        facts.append(&mut queue.facts);
        (queue.told, queue.stopping)
    }

    fn written(&self, upto: u64) {
        let mut queue = self.lock();
        queue.writing = false;
        let upto = match queue.facts.is_empty() {
            true => queue.told,
            false => upto,
        };
        self.durable(upto);
    }
}

fn run(shared: &Shared, mut ledger: Ledger, dropped: &Dropped) {
    let mut retained: Option<Instant> = None;
    loop {
        let (mut facts, mut upto, mut stopping) = shared.take(match retained {
            // What is too old at the start goes at once.
            None => Duration::ZERO,
            Some(_) => RETAIN_EVERY,
        });
        if !facts.is_empty() {
            while let Err(error) = write(&mut ledger, &facts) {
                say(shared, &error);
                if stopping {
                    tracing::error!(
                        facts = facts.len(),
                        "the newest facts are lost: the master stops, and its journal cannot be written"
                    );
                    return;
                }
                wait(shared);
                (upto, stopping) = shared.take_more(&mut facts);
                let_go(&mut facts);
            }
            if shared.progress.borrow().failing.is_some() {
                tracing::info!(facts = facts.len(), "the journal is written again");
            }
            shared.written(upto);
        }
        if retained.is_none_or(|last| last.elapsed() >= RETAIN_EVERY) {
            retained = Some(Instant::now());
            match guarded(&mut ledger, |ledger| ledger.retain(now_millis())) {
                Ok(applications) if applications.is_empty() => {}
                Ok(applications) => {
                    tracing::info!(applications = applications.len(), "old history was dropped");
                    dropped(&applications);
                }
                Err(error) => tracing::warn!(%error, "old history cannot be dropped"),
            }
        }
        if stopping {
            // Nobody waits for what is told from now on.
            shared.progress.send_modify(|progress| {
                progress.failing = Some("the master is stopping".into());
            });
            return;
        }
    }
}

fn write(ledger: &mut Ledger, facts: &[Arc<Fact>]) -> Result<(), WriteError> {
    guarded(ledger, |ledger| ledger.write(facts))
}

/// The thread must live on: whoever waits for it would wait for ever.
fn guarded<T>(
    ledger: &mut Ledger,
    work: impl FnOnce(&mut Ledger) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    catch_unwind(AssertUnwindSafe(|| work(ledger))).unwrap_or_else(|panic| {
        Err(WriteError::Broken {
            path: ledger.path.clone(),
            reason: super::open::said(&*panic),
        })
    })
}

fn say(shared: &Shared, error: &WriteError) {
    let reason: Arc<str> = error.to_string().into();
    if shared.progress.borrow().failing.as_ref() != Some(&reason) {
        tracing::error!(%error, "the journal cannot be written; what runs goes on, new applications are refused until it can");
    }
    shared
        .progress
        .send_modify(|progress| progress.failing = Some(reason));
}

/// Pauses between tries; a stop does not wait for it.
fn wait(shared: &Shared) {
    let until = Instant::now() + RETRY_AFTER;
    while !shared.lock().stopping && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Keeps the backlog of a disk that stays full small: what makes an application whole again is kept.
fn let_go(facts: &mut Vec<Arc<Fact>>) {
    if facts.len() > BACKLOG {
        let before = facts.len();
        facts.retain(|fact| {
            !matches!(
                fact.event,
                Event::TaskStarted { .. }
                    | Event::TaskEnded { .. }
                    | Event::JobPlanned { .. }
                    | Event::JobEnded { .. }
            )
        });
        let gone = before - facts.len();
        if gone > 0 {
            tracing::error!(
                facts = gone,
                "the journal could not be written for long; facts of jobs and tasks are lost"
            );
        }
    }
}

pub(super) fn now_millis() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
