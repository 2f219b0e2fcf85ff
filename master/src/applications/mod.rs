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
mod resume;
mod rewrites;
mod runner;
mod service;
mod stall;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_engine::{Engine, WorkerTarget};
use drumline_security::Seal;
use futures::{Stream, StreamExt, stream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::admitter::Admitter;
use crate::catalog::Names;
use crate::cluster::Workers;
use crate::facts::{self, EventLog, Facts};
use crate::failure::Failure;
use crate::routing::Placements;
use crate::{Error, Result};
pub(crate) use flight::ResultsService;
use machine::Event;
use results::{Limits, ResultSlot};
use resume::{Place, Turn};
pub(crate) use resume::{Unfinished, unfinished};
pub(crate) use rewrites::Rewrites;
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
    /// Where it is told how tasks went on workers.
    pub(crate) cluster: Workers,
    pub(crate) admitter: Admitter,
    pub(crate) placements: Placements,
    pub(crate) rewrites: Rewrites,
    /// Where planning and jobs compute, away from the threads that serve calls.
    pub(crate) jobs: runtime::Handle,
    /// Signs tickets for results.
    pub(crate) tickets: Seal,
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
    /// The master stops, and its applications are the next one's.
    gone: CancellationToken,
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
    /// Of one that a restarted master took up.
    turn: Option<Turn>,
}

impl Applications {
    pub(crate) fn new(services: Services, kept: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                services: Arc::new(services),
                by_id: Mutex::default(),
                kept,
                runners: TaskTracker::new(),
                gone: CancellationToken::new(),
            }),
        }
    }

    pub(crate) fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Takes an application in. It has an id, survives this master, and nothing has run yet.
    ///
    /// # Errors
    /// While the journal cannot be written: nothing will run then.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<String> {
        if self.inner.runners.is_closed() {
            return Err(Error::Stopping);
        }
        self.inner.services.facts.accepts()?;
        let this = self.clone();
        // Goes on when whoever called hangs up: what is written down must also run.
        let accepted = self
            .inner
            .runners
            .spawn(async move { this.accept(submission).await });
        accepted.await.map_err(|error| Error::Bug {
            context: format!("accepting an application: {error}"),
        })?
    }

    async fn accept(&self, submission: Submission) -> Result<String> {
        let application = Arc::new(Application::new(new_id(), None));
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
        let services = Arc::clone(&self.inner.services);
        let accepted = services.facts.record(facts::Event::ApplicationAccepted {
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
        if let Err(error) = accepted.await {
            // The fact may be written yet: then so is this.
            self.end(&id, Failure::from(&error));
            return Err(error);
        }
        let runner = Runner::new(application, services, settings, inbox, None);
        self.inner.runners.spawn(runner.run(body, receiver));
        Ok(id)
    }

    /// Takes up what was not over when the master before this one ended; those that cannot go on are failed.
    pub(crate) fn resume(&self, unfinished: Vec<Unfinished>) {
        self.forget_oldest();
        let (_first, mut before) = watch::channel(true);
        for application in unfinished {
            if let Some(failure) = application.lost() {
                tracing::warn!(
                    application = application.id,
                    reason = failure.message,
                    "application cannot go on"
                );
                self.end(&application.id, failure);
                continue;
            }
            let facts::Body::Sql(text) = application.body else {
                continue;
            };
            let place: Place = application.place;
            tracing::info!(
                application = application.id,
                statement = place.statement,
                "application goes on"
            );
            let (turn, next) = Turn::after(before);
            before = next;
            let resumed = Arc::new(Application::new(application.id, Some(turn)));
            let (inbox, receiver) = mpsc::channel(INBOX);
            let entry = Entry {
                application: Arc::clone(&resumed),
                inbox: inbox.clone(),
            };
            self.lock().insert(resumed.id.clone(), entry);
            let services = Arc::clone(&self.inner.services);
            let runner = Runner::new(resumed, services, application.settings, inbox, Some(place));
            self.inner
                .runners
                .spawn(runner.run(Body::Sql(text), receiver));
        }
    }

    /// Ends an application that has no runner.
    fn end(&self, id: &str, failure: Failure) {
        self.inner
            .services
            .facts
            .publish(facts::Event::ApplicationFinished {
                application: id.to_owned(),
                state: facts::State::Failed,
                failure: Some(failure.into()),
                statement: 0,
            });
    }

    /// Of those that masters before this one brought to their end, only the newest are shown.
    fn forget_oldest(&self) {
        let facts = &self.inner.services.facts;
        let history = facts.history();
        let over = history.applications.values().rev();
        let over = over.filter(|application| application.state.is_over());
        for application in over.skip(self.inner.kept) {
            facts.forget(&application.id);
        }
    }

    /// An application's event log.
    pub(crate) fn log(&self, id: &str) -> Result<EventLog> {
        let unknown = || Error::UnknownApplication { id: id.to_owned() };
        self.inner.services.facts.log(id).ok_or_else(unknown)
    }

    /// Asks an application to stop, and waits until nothing of it runs.
    pub(crate) async fn cancel(&self, id: &str) -> Result<()> {
        let log = self.log(id)?;
        // One that was over before this master started has no inbox.
        if let Ok(entry) = self.entry(id) {
            // The inbox is closed once the application is over: then there is nothing to stop.
            let _ = entry
                .inbox
                .send(Message::Event(Event::CancelRequested))
                .await;
        }
        tokio::select! {
            biased;
            () = log.completed() => {}
            () = self.inner.gone.cancelled() => return Err(Error::Stopping),
        }
        // Or a restarted master would go on with it.
        self.inner.services.facts.settled().await
    }

    /// Where the rows of a statement are fetched.
    pub(crate) fn result(&self, id: &str, ordinal: u32) -> Result<Option<Arc<ResultSlot>>> {
        match self.entry(id) {
            Ok(entry) => Ok(entry.application.slot(ordinal)),
            // It was over before this master started.
            Err(_) => self.log(id).map(|_| None),
        }
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

    /// Takes no more, and leaves what there is to the next master; answers when nothing runs and all of it is written
    /// down. See [`Applications::let_go`].
    pub(crate) async fn leave(&self) {
        self.inner.runners.close();
        let entries: Vec<_> = self.lock().values().cloned().collect();
        for entry in entries {
            let _ = entry.inbox.send(Message::Leave).await;
        }
        self.inner.runners.wait().await;
        // While the journal cannot be written, there is nothing to wait for.
        let _ = self.inner.services.facts.settled().await;
    }

    /// Whoever waits for an application hears that the master goes.
    pub(crate) fn let_go(&self) {
        self.inner.gone.cancel();
    }

    /// What is told to who waits, until it has nothing more to say although the master goes.
    pub(crate) fn until_gone<T, S>(
        &self,
        told: S,
    ) -> impl Stream<Item = std::result::Result<T, Status>> + Send + use<T, S>
    where
        T: Send,
        S: Stream<Item = std::result::Result<T, Status>> + Send + Unpin,
    {
        let gone = self.inner.gone.clone();
        stream::unfold(Some(told), move |told| {
            let gone = gone.clone();
            async move {
                let mut told = told?;
                tokio::select! {
                    biased;
                    next = told.next() => next.map(|next| (next, Some(told))),
                    () = gone.cancelled() => {
                        Some((Err(Status::unavailable(drumline_proto::MASTER_GOES)), None))
                    }
                }
            }
        })
    }

    fn entry(&self, id: &str) -> Result<Entry> {
        let unknown = || Error::UnknownApplication { id: id.to_owned() };
        self.lock().get(id).cloned().ok_or_else(unknown)
    }

    /// Adds an application; forgets the oldest of those that are over.
    fn keep(&self, entry: Entry) -> Result<()> {
        let mut by_id = self.lock();
        let over: Vec<String> = by_id
            .iter()
            .filter(|(_, entry)| entry.inbox.is_closed())
            .map(|(id, _)| id.clone())
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

/// Version 7: sorts by time.
fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Application {
    fn new(id: String, turn: Option<Turn>) -> Self {
        Self {
            id,
            slots: Mutex::default(),
            turn,
        }
    }

    fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
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
