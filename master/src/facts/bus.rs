//! The one bus: numbers what happens, keeps the records, tells whoever listens, and hands over to the journal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use super::event::{Event, Fact};
use super::history::History;
use super::log::EventLog;
use super::logged;
use super::told::told;
use super::totals::Totals;
use crate::journal::{self, Journal, Opened};
use crate::{Error, Result};

/// Above the last fact that was kept, no fact was told by an earlier master: an hour of microseconds.
const UNKEPT: u64 = 3_600_000_000;

/// Facts that a listener may be behind before it has to look at the records again.
const LIVE: usize = 4096;
/// Facts that are still there for those who lost their connection for a while.
const RECENT: usize = 4096;

/// The facts of this master. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    live: broadcast::Sender<Arc<Fact>>,
    journal: Option<Journal>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    totals: Arc<Totals>,
    logs: BTreeMap<String, EventLog>,
    /// The newest facts, the oldest first; without those that the next second brings anew.
    recent: VecDeque<Arc<Fact>>,
    /// All facts after this one are in `recent`; nothing before the first fact.
    complete_after: Option<u64>,
}

/// What happened after the last fact that a listener has seen.
#[derive(Debug)]
pub(crate) enum Missed {
    Facts(Vec<Arc<Fact>>),
    /// More than is still there: look at the records.
    TooMany,
}

impl Facts {
    /// A bus on which nothing has happened, and of which nothing is kept.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner::new(State::default(), None)),
        }
    }

    /// A bus that goes on after all that a journal holds. Tells what had to be repaired.
    pub(crate) fn journaled(mut opened: Opened) -> Result<Self, journal::Error> {
        let repaired = opened.repaired.take();
        let facts = std::mem::take(&mut opened.facts);
        let newest = facts.last().map_or(0, |fact| fact.sequence);
        let bus: Arc<Mutex<Weak<Inner>>> = Arc::default();
        let dropped = {
            let bus = Arc::clone(&bus);
            move |applications: &[String]| {
                let inner = bus.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                for application in applications {
                    if let Some(inner) = &inner {
                        inner.forget(application);
                    }
                }
            }
        };
        let mut known = bus.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = opened.start(newest, Box::new(dropped))?;
        let mut state = State::default();
        for fact in facts {
            state.take(&Arc::new(fact), Some(&journal));
        }
        // Watchers were told facts that are not kept, with numbers above the last one that is. Where the clock has
        // been set back, new numbers would begin among those.
        state.history.sequence += UNKEPT;
        let inner = Arc::new(Inner::new(state, Some(journal)));
        *known = Arc::downgrade(&inner);
        drop(known);
        let facts = Self { inner };
        if let Some(repaired) = repaired {
            facts.publish(Event::JournalRepaired {
                kept: repaired.kept,
                dropped: repaired.dropped,
                reason: repaired.reason,
            });
        }
        Ok(facts)
    }

    /// Tells what has happened, now. It is written down in its turn.
    pub(crate) fn publish(&self, event: Event) {
        self.tell(event);
    }

    /// Tells what has happened; answers once it is written down for good.
    ///
    /// # Errors
    /// While the journal cannot be written. The fact stands, and is written down once it can.
    pub(crate) async fn record(&self, event: Event) -> Result<()> {
        let sequence = self.tell(event);
        self.durable(sequence).await
    }

    /// Changes with every try of the journal to write.
    #[cfg(test)]
    pub(crate) fn tries(&self) -> tokio::sync::watch::Receiver<journal::Progress> {
        let journal = self.inner.journal.as_ref();
        journal.expect("a bus with a journal").writer.progress()
    }

    /// Answers once all that was told is written down for good.
    ///
    /// # Errors
    /// While the journal cannot be written.
    pub(crate) async fn settled(&self) -> Result<()> {
        let sequence = self.lock().history.sequence;
        self.durable(sequence).await
    }

    /// Whether more can be taken on.
    ///
    /// # Errors
    /// While the journal cannot be written.
    pub(crate) fn accepts(&self) -> Result<()> {
        let Some(journal) = &self.inner.journal else {
            return Ok(());
        };
        match &journal.writer.progress().borrow().failing {
            None => Ok(()),
            Some(reason) => Err(Error::JournalFailing {
                reason: reason.to_string(),
            }),
        }
    }

    async fn durable(&self, sequence: u64) -> Result<()> {
        let Some(journal) = &self.inner.journal else {
            return Ok(());
        };
        let mut progress = journal.writer.progress();
        let past = progress.wait_for(|progress| progress.is_past(sequence));
        // Judged by the one progress that was seen: a moment later another may hold.
        let failing = match past.await {
            Ok(progress) if progress.durable >= sequence => return Ok(()),
            Ok(progress) => progress.failing.clone(),
            Err(_) => None,
        };
        let reason = failing.map_or_else(|| "its writer has ended".to_owned(), |it| it.to_string());
        Err(Error::JournalFailing { reason })
    }

    fn tell(&self, event: Event) -> u64 {
        logged::log(&event);
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        // Microseconds since 1970 grow faster than any master tells facts, so that numbers grow over
        // restarts too, those included that were never written down.
        let fact = Arc::new(Fact {
            sequence: micros.max(state.history.sequence + 1),
            at: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
            event,
        });
        let sequence = fact.sequence;
        let journal = self.inner.journal.as_ref();
        state.take(&fact, journal);
        // Under the lock, so that all hear facts in their order.
        if let Some(journal) = journal {
            journal.writer.put(&fact);
        }
        // Nobody may be listening.
        let _ = self.inner.live.send(fact);
        sequence
    }

    /// Writes down what was told, and closes the journal's files.
    pub(crate) async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(journal) = &inner.journal {
                journal.close();
            }
        });
        if closed.await.is_err() {
            tracing::error!("the journal was not closed");
        }
    }

    /// Facts as they happen. One who falls too far behind is told so, and looks at the records again.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Fact>> {
        self.inner.live.subscribe()
    }

    /// What happened after fact `after` (nothing, where that is not given), and from then on all that happens.
    pub(crate) fn follow(&self, after: Option<u64>) -> (Missed, broadcast::Receiver<Arc<Fact>>) {
        let state = self.lock();
        // Nothing is told while the lock is held, so that nothing is missed or heard twice.
        let live = self.inner.live.subscribe();
        let missed = match after {
            None => Missed::Facts(vec![]),
            Some(after) => state.missed(after),
        };
        (missed, live)
    }

    /// What is known now.
    pub(crate) fn history(&self) -> History {
        self.lock().history.clone()
    }

    /// How often what has happened.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.lock().totals)
    }

    /// What an application was told; nothing if it is not known (any more).
    pub(crate) fn log(&self, application: &str) -> Option<EventLog> {
        self.lock().logs.get(application).cloned()
    }

    /// Forgets an application that is over.
    pub(crate) fn forget(&self, application: &str) {
        self.inner.forget(application);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }
}

impl Inner {
    fn new(state: State, journal: Option<Journal>) -> Self {
        Self {
            state: Mutex::new(state),
            live: broadcast::Sender::new(LIVE),
            journal,
        }
    }

    fn forget(&self, application: &str) {
        let mut state = self.lock();
        state.history.forget(application);
        state.logs.remove(application);
    }

    // A fact is applied whole or, if that panics, not told: the records are good either way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn missed(&self, after: u64) -> Missed {
        if self.complete_after.is_none_or(|complete| after < complete) {
            return Missed::TooMany;
        }
        let facts = self.recent.iter();
        Missed::Facts(
            facts
                .filter(|fact| fact.sequence > after)
                .cloned()
                .collect(),
        )
    }

    fn keep_recent(&mut self, fact: &Arc<Fact>) {
        // What went before was told by another master, or by nobody.
        self.complete_after.get_or_insert(fact.sequence - 1);
        let comes_again = matches!(
            fact.event,
            Event::TaskProgressed { .. }
                | Event::WorkerReported { .. }
                | Event::StreamProgressed { .. }
        );
        if comes_again {
            return;
        }
        if self.recent.len() >= RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.complete_after = Some(oldest.sequence);
        }
        self.recent.push_back(Arc::clone(fact));
    }

    fn take(&mut self, fact: &Arc<Fact>, journal: Option<&Journal>) {
        self.history.apply(fact);
        Arc::make_mut(&mut self.totals).apply(&fact.event);
        self.keep_recent(fact);
        let Some(application) = fact.event.application() else {
            return;
        };
        if matches!(fact.event, Event::ApplicationAccepted { .. }) {
            let journal = journal.map(|journal| journal.writer.progress());
            self.logs
                .insert(application.to_owned(), EventLog::new(journal));
        }
        let Some(log) = self.logs.get(application) else {
            return;
        };
        if let Some(event) = told(fact, &self.history) {
            log.append(event);
        }
    }
}
