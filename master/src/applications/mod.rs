//! What users submit: applications, their statements, jobs, attempts and results.
//!
//! [`Applications`] keeps them by id: those that run, and the newest of those that are over. Each has a
//! runner (`runner.rs`), which owns its state machine (`machine.rs`) and spawns one [`attempt`] at a time;
//! what happens is told to `facts`, and its rows wait in its result slots (`results.rs`). `service.rs`
//! and `flight.rs` are the two ways in, and decide nothing.

mod attempt;
mod commit;
mod flight;
mod job;
mod machine;
mod results;
mod runner;
mod service;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::{Engine, WorkerTarget};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::admitter::Admitter;
use crate::catalog::Names;
use crate::facts::{self, EventLog, Facts};
use crate::routing::Placements;
use crate::{Error, Result};
pub(crate) use flight::ResultsService;
use machine::Event;
use results::{Limits, ResultSlot};
use runner::{Message, Runner};
pub(crate) use service::ApplicationsService;

/// Applications that run at the same time, waiting ones included.
const MAX_RUNNING: usize = 1000;

/// Messages to one application that may wait.
const INBOX: usize = 64;

/// What every application works with.
pub(crate) struct Services {
    pub(crate) facts: Facts,
    pub(crate) engine: Engine,
    pub(crate) names: Names,
    pub(crate) workers: watch::Receiver<Arc<[WorkerTarget]>>,
    pub(crate) admitter: Admitter,
    pub(crate) placements: Placements,
    /// Where planning and jobs compute, away from the threads that serve calls.
    pub(crate) jobs: runtime::Handle,
    pub(crate) limits: Limits,
}

/// What a user wants done.
pub(crate) enum Body {
    Sql(String),
    /// A client's logical plan.
    Plan(Vec<u8>),
}

/// What a user submits.
pub(crate) struct Submission {
    /// Shown to people; not unique.
    pub(crate) name: String,
    /// The file the text came from; empty where it was typed in.
    pub(crate) source: String,
    /// Name of the token it came with.
    pub(crate) submitted_by: String,
    pub(crate) body: Body,
    pub(crate) settings: BTreeMap<String, String>,
}

/// All applications a master knows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Applications {
    inner: Arc<Inner>,
}

struct Inner {
    services: Arc<Services>,
    /// Ids sort by the time they were given.
    by_id: Mutex<BTreeMap<String, Entry>>,
    /// How many are kept after their end.
    kept: usize,
    runners: TaskTracker,
}

#[derive(Clone)]
struct Entry {
    application: Arc<Application>,
    inbox: mpsc::Sender<Message>,
}

/// What others see of an application.
pub(crate) struct Application {
    pub(crate) id: String,
    slots: Mutex<BTreeMap<u32, Arc<ResultSlot>>>,
}

impl Applications {
    pub(crate) fn new(services: Services, kept: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                services: Arc::new(services),
                by_id: Mutex::default(),
                kept,
                runners: TaskTracker::new(),
            }),
        }
    }

    pub(crate) fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Takes an application in. It has an id; nothing has run yet.
    pub(crate) fn submit(&self, submission: Submission) -> Result<String> {
        if self.inner.runners.is_closed() {
            return Err(Error::Stopping);
        }
        let application = Arc::new(Application::new());
        let id = application.id.clone();
        let (inbox, receiver) = mpsc::channel(INBOX);
        let entry = Entry {
            application: Arc::clone(&application),
            inbox: inbox.clone(),
        };
        self.keep(entry)?;
        let Submission {
            name,
            source,
            submitted_by,
            body,
            settings,
        } = submission;
        tracing::info!(application = %id, name, "application submitted");
        let services = Arc::clone(&self.inner.services);
        services.facts.publish(facts::Event::ApplicationAccepted {
            application: id.clone(),
            name,
            source,
            submitted_by,
            body: match &body {
                Body::Sql(text) => facts::Body::Sql(text.clone()),
                Body::Plan(_) => facts::Body::Plan,
            },
            settings: settings.clone(),
        });
        let runner = Runner::new(application, services, settings, inbox);
        self.inner.runners.spawn(runner.run(body, receiver));
        Ok(id)
    }

    /// An application's event log.
    pub(crate) fn log(&self, id: &str) -> Result<EventLog> {
        let unknown = || Error::UnknownApplication { id: id.to_owned() };
        self.inner.services.facts.log(id).ok_or_else(unknown)
    }

    /// Asks an application to stop, and waits until nothing of it runs.
    pub(crate) async fn cancel(&self, id: &str) -> Result<()> {
        let entry = self.entry(id)?;
        // The inbox is closed once the application is over: then there is nothing to stop.
        let _ = entry
            .inbox
            .send(Message::Event(Event::CancelRequested))
            .await;
        self.log(id)?.completed().await;
        Ok(())
    }

    /// Where the rows of a statement are fetched.
    pub(crate) fn result(&self, id: &str, ordinal: u32) -> Result<Option<Arc<ResultSlot>>> {
        Ok(self.entry(id)?.application.slot(ordinal))
    }

    /// Cancels all and takes no more; answers when nothing runs.
    pub(crate) async fn stop(&self) {
        self.inner.runners.close();
        let entries: Vec<_> = self.lock().values().cloned().collect();
        for entry in entries {
            let _ = entry
                .inbox
                .send(Message::Event(Event::CancelRequested))
                .await;
        }
        self.inner.runners.wait().await;
    }

    fn entry(&self, id: &str) -> Result<Entry> {
        let unknown = || Error::UnknownApplication { id: id.to_owned() };
        self.lock().get(id).cloned().ok_or_else(unknown)
    }

    /// Adds an application; forgets the oldest of those that are over.
    fn keep(&self, entry: Entry) -> Result<()> {
        let mut by_id = self.lock();
        let over: Vec<String> = by_id
            .keys()
            .filter(|id| self.log(id).is_ok_and(|log| log.is_complete()))
            .cloned()
            .collect();
        let running = by_id.len() - over.len();
        if running >= MAX_RUNNING {
            return Err(Error::TooManyApplications { running });
        }
        let too_many = over.len().saturating_sub(self.inner.kept);
        for id in over.iter().take(too_many) {
            by_id.remove(id);
            self.inner.services.facts.forget(id);
        }
        by_id.insert(entry.application.id.clone(), entry);
        Ok(())
    }

    // A map of handles is whole at every await-free step, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.inner
            .by_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Application {
    fn new() -> Self {
        Self {
            // Version 7: sorts by time.
            id: uuid::Uuid::now_v7().to_string(),
            slots: Mutex::default(),
        }
    }

    pub(crate) fn slot(&self, ordinal: u32) -> Option<Arc<ResultSlot>> {
        self.slots().get(&ordinal).cloned()
    }

    /// The slot of a statement; `true` if this call made it.
    pub(crate) fn open_slot(
        &self,
        ordinal: u32,
        schema: arrow::datatypes::SchemaRef,
    ) -> (Arc<ResultSlot>, bool) {
        let mut slots = self.slots();
        let is_new = !slots.contains_key(&ordinal);
        let slot = slots
            .entry(ordinal)
            .or_insert_with(|| Arc::new(ResultSlot::new(schema)));
        (Arc::clone(slot), is_new)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<ResultSlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
