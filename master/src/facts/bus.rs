//! The one bus: numbers what happens, keeps the records, and tells whoever listens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use super::event::{Event, Fact};
use super::history::History;
use super::log::EventLog;
use super::told::told;
use super::totals::Totals;

/// Facts that a listener may be behind before it has to look at the records again.
const LIVE: usize = 4096;

/// The facts of this master. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    live: broadcast::Sender<Arc<Fact>>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    totals: Arc<Totals>,
    logs: BTreeMap<String, EventLog>,
}

impl Facts {
    /// A bus on which nothing has happened.
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::default(),
                live: broadcast::Sender::new(LIVE),
            }),
        }
    }

    /// Tells what has happened, now.
    pub(crate) fn publish(&self, event: Event) {
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
        state.take(&fact);
        // Nobody may be listening. Sent under the lock, so that all hear facts in their order.
        let _ = self.inner.live.send(fact);
    }

    /// Facts as they happen. One who falls too far behind is told so, and looks at the records again.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Fact>> {
        self.inner.live.subscribe()
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
        let mut state = self.lock();
        state.history.forget(application);
        state.logs.remove(application);
    }

    // A fact is applied whole or, if that panics, not told: the records are good either way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, fact: &Arc<Fact>) {
        self.history.apply(fact);
        Arc::make_mut(&mut self.totals).apply(&fact.event);
        let Some(application) = fact.event.application() else {
            return;
        };
        if matches!(fact.event, Event::ApplicationAccepted { .. }) {
            self.logs.insert(application.to_owned(), EventLog::new());
        }
        let Some(log) = self.logs.get(application) else {
            return;
        };
        if let Some(event) = told(fact, &self.history) {
            log.append(event);
        }
    }
}
