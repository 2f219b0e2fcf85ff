//! Runs one application: owns its state machine, performs its actions, feeds back what came of them.
//!
//! At most one piece of work runs at a time: reading the text, an attempt, or a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use drumline_engine::{Interrupt, WorkerTarget};
use drumline_lake::ErrorKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::attempt::{Attempt, Ended, Source, read};
use super::commit::{self, NotCommitted, Staged, Summary};
use super::machine::{Action, AttemptId, End, Event, Machine, Outcome};
use super::resume::{Place, cannot_go_on, settings_before};
use super::rewrites::Turn;
use super::{Application, Body, Services};
use crate::facts::{Event as Fact, State};
use crate::failure::Failure;
use crate::topics::Pins;

/// What an application is told from outside, or asked by its own attempt.
#[derive(Debug)]
pub(crate) enum Message {
    Event(Event),
    /// The attempt wants to hand its first row to the client, and waits for a yes. It gets none when it
    /// is to be stopped.
    MayDeliver {
        id: AttemptId,
        yes: oneshot::Sender<()>,
    },
    /// The same of a change of names.
    MayDefine {
        id: AttemptId,
        yes: oneshot::Sender<()>,
    },
    /// The master stops: what is under way and cannot be stopped comes to its end, and the next master goes on.
    Leave,
}

/// What the runner's one piece of work came to.
enum Finished {
    Read(Result<(Vec<Source>, BTreeMap<String, String>), Failure>),
    Attempt(AttemptId, Box<Ended>),
    Commit(AttemptId, Result<Summary, NotCommitted>),
}

/// Whether an action begins something that a master which stops leaves to the next one.
fn begins(action: &Action) -> bool {
    matches!(
        action,
        Action::AnnounceStatement { .. }
            | Action::AnnounceRetry { .. }
            | Action::RunAttempt { .. }
            | Action::CommitStaged { .. }
    )
}

/// Which piece of work runs: what to blame when it panics.
#[derive(Debug, Clone, Copy)]
enum Work {
    Read,
    Attempt(AttemptId),
    Commit(AttemptId),
}

pub(crate) struct Runner {
    application: Arc<Application>,
    services: Arc<Services>,
    /// As set at submission and changed by the statements so far.
    settings: Arc<BTreeMap<String, String>>,
    /// For the attempts, to report while they run.
    inbox: mpsc::Sender<Message>,
    machine: Machine,
    statements: Vec<Arc<Source>>,
    tasks: JoinSet<Finished>,
    work: Work,
    /// Of the newest attempt. Aborting its task is not enough: the threads that would notice may all compute.
    interrupt: Interrupt,
    /// The attempt that has been told to stop.
    stopping: Option<AttemptId>,
    staged: Option<Staged>,
    /// The statement's turn to rewrite a table, from its first attempt to its end.
    turn: Arc<Turn>,
    summary: Summary,
    ordinal: u32,
    /// Offsets up to which the statement reads topics, whichever attempt it is.
    topics: Arc<Pins>,
    /// Where it goes on, if a master before this one began it.
    resumed: Option<Place>,
    /// The master stops.
    leaving: bool,
}

impl Runner {
    pub(crate) fn new(
        application: Arc<Application>,
        services: Arc<Services>,
        settings: BTreeMap<String, String>,
        inbox: mpsc::Sender<Message>,
        resumed: Option<Place>,
    ) -> Self {
        let first = resumed.map_or(1, |place| place.statement);
        Self {
            application,
            services,
            settings: Arc::new(settings),
            inbox,
            machine: Machine::new(Instant::now(), rand::random()).beginning_at(first),
            statements: vec![],
            tasks: JoinSet::new(),
            work: Work::Read,
            interrupt: Interrupt::default(),
            stopping: None,
            staged: None,
            turn: Arc::default(),
            summary: Summary::default(),
            ordinal: 0,
            topics: Arc::default(),
            resumed,
            leaving: false,
        }
    }

    /// Ends with the application, or with the master.
    pub(crate) async fn run(mut self, body: Body, mut inbox: mpsc::Receiver<Message>) {
        let is_plan = matches!(body, Body::Plan(_));
        let services = Arc::clone(&self.services);
        let mut workers = services.workers.clone();
        let engine = services.engine.clone();
        let names = services.names.clone();
        let settings = BTreeMap::clone(&self.settings);
        let first = self.resumed.map_or(1, |place| place.statement);
        let read = async move {
            let statements = read(&engine, body)?;
            let settings = settings_before(&engine, &names, &statements, first, settings).await?;
            Ok((statements, settings))
        };
        self.tasks
            .spawn_on(async move { Finished::Read(read.await) }, &services.jobs);
        workers.mark_changed();
        while !self.machine.is_finished() {
            if self.leaving && !self.machine.is_indivisible() {
                return self.leave(is_plan).await;
            }
            tokio::select! {
                // Cannot be `None`: the runner holds a sender itself.
                Some(message) = inbox.recv() => self.take(message),
                Ok(()) = workers.changed() => {
                    let alive = workers.borrow_and_update().iter().map(|worker: &WorkerTarget| worker.id.clone()).collect();
                    self.step(Event::WorkersChanged { alive });
                }
                Some(finished) = self.tasks.join_next() => {
                    let event = self.take_finished(finished);
                    self.step(event);
                }
                else => {
                    let failure = Failure::bug("the application's runner has nothing to wait for");
                    self.finish(End::Failed(failure));
                    break;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.step(event),
            Message::MayDeliver { id, yes } => {
                self.step(Event::Delivered { id });
                if self.machine.may_deliver(id) {
                    // An attempt that has ended meanwhile does not listen.
                    let _ = yes.send(());
                }
            }
            Message::MayDefine { id, yes } => {
                self.step(Event::Defining { id });
                if self.machine.may_define(id) {
                    let _ = yes.send(());
                }
            }
            Message::Leave => self.leaving = true,
        }
    }

    /// Stops what runs without an end of the application; one that the next master cannot go on with ends here.
    async fn leave(mut self, is_plan: bool) {
        self.interrupt.raise();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let delivered = self.machine.has_delivered().then_some(self.ordinal);
        if let Some(failure) = cannot_go_on(is_plan, delivered) {
            self.finish(End::Failed(failure));
        }
    }

    fn take_finished(&mut self, finished: Result<Finished, JoinError>) -> Event {
        if let Some(id) = self.stopping.take() {
            return Event::Stopped { id };
        }
        match finished {
            Ok(Finished::Read(Ok((statements, settings)))) => {
                self.settings = Arc::new(settings);
                self.statements = statements.into_iter().map(Arc::new).collect();
                Event::Read {
                    statements: u32::try_from(self.statements.len()).unwrap_or(u32::MAX),
                }
            }
            Ok(Finished::Read(Err(failure))) => Event::Refused(failure),
            Ok(Finished::Attempt(id, ended)) => {
                let Ended {
                    outcome,
                    summary,
                    staged,
                    settings,
                    ..
                } = *ended;
                self.summary = summary;
                self.staged = staged;
                if let Some(settings) = settings {
                    self.settings = Arc::new(settings);
                }
                Event::Ended { id, outcome }
            }
            Ok(Finished::Commit(id, Ok(summary))) => {
                self.summary = summary;
                Event::Committed { id }
            }
            Ok(Finished::Commit(
                id,
                Err(NotCommitted {
                    failure,
                    is_conflict,
                }),
            )) => match is_conflict {
                true => Event::Conflicted { id, failure },
                false => Event::CommitFailed { id, failure },
            },
            Err(error) => self.after_panic(&error),
        }
    }

    fn after_panic(&self, error: &JoinError) -> Event {
        let failure = Failure::bug(format!(
            "the master failed while it worked on the statement: {error}"
        ));
        match self.work {
            Work::Read => Event::Refused(failure),
            Work::Attempt(id) => Event::Ended {
                id,
                outcome: Outcome::Failed(failure),
            },
            Work::Commit(id) => Event::CommitFailed { id, failure },
        }
    }

    fn step(&mut self, event: Event) {
        match self.machine.step(Instant::now(), event) {
            Ok(actions) => {
                for action in actions {
                    if !self.leaving || !begins(&action) {
                        self.perform(action);
                    }
                }
            }
            Err(illegal) => tracing::error!(application = %self.application.id, %illegal),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::AnnounceApplication { statements } => self.announce(statements),
            Action::AnnounceStatement { ordinal } => {
                self.ordinal = ordinal;
                self.topics = Arc::default();
                let sql = self
                    .statement(ordinal)
                    .map(|source| source.text().to_owned())
                    .unwrap_or_default();
                self.tell(|application| Fact::StatementStarted {
                    application,
                    statement: ordinal,
                    sql,
                });
            }
            Action::AnnounceRetry { id, reason, worker } => {
                let attempt = self.attempts_before(id.ordinal) + id.attempt;
                self.tell(|application| Fact::JobRetried {
                    application,
                    statement: id.ordinal,
                    attempt,
                    reason,
                    worker,
                });
            }
            Action::RunAttempt {
                id,
                avoid,
                after,
                merge_joins,
            } => self.run_attempt(id, avoid, after, merge_joins),
            Action::StopAttempt { id } => {
                self.stopping = Some(id);
                self.interrupt.raise();
                self.tasks.abort_all();
            }
            Action::CommitStaged { id } => self.commit(id),
            Action::FinishStatement { ordinal, elapsed } => self.finish_statement(ordinal, elapsed),
            Action::Finish(end) => self.finish(end),
        }
    }

    fn run_attempt(
        &mut self,
        id: AttemptId,
        avoid: BTreeSet<String>,
        after: Duration,
        merge_joins: bool,
    ) {
        self.work = Work::Attempt(id);
        let Some(source) = self.statement(id.ordinal).map(Arc::clone) else {
            self.tasks.spawn(async move {
                let failure = Failure::bug(format!("there is no statement {}", id.ordinal));
                Finished::Attempt(id, Box::new(Ended::failed(failure)))
            });
            return;
        };
        self.interrupt = Interrupt::default();
        let attempt = Attempt {
            id,
            attempts_before: self.attempts_before(id.ordinal),
            avoid,
            merge_joins,
            interrupt: self.interrupt.clone(),
            source,
            application: Arc::clone(&self.application),
            services: Arc::clone(&self.services),
            settings: Arc::clone(&self.settings),
            inbox: self.inbox.clone(),
            turn: Arc::clone(&self.turn),
            topics: Arc::clone(&self.topics),
            used: OnceLock::new(),
        };
        let facts = self.services.facts.clone();
        let run = async move {
            tokio::time::sleep(after).await;
            // What came before must not be run again by a restarted master on top of this statement, and it must
            // know that this one has begun. While the journal cannot be written, what runs goes on.
            let _ = facts.settled().await;
            Finished::Attempt(id, Box::new(attempt.run().await))
        };
        self.tasks.spawn_on(run, &self.services.jobs);
    }

    fn commit(&mut self, id: AttemptId) {
        self.work = Work::Commit(id);
        let staged = self.staged.take();
        let commit = async move {
            let committed = match staged {
                Some(staged) => commit::commit(staged).await,
                None => Err(NotCommitted {
                    failure: Failure::bug("nothing is staged for the commit"),
                    is_conflict: false,
                }),
            };
            Finished::Commit(id, committed)
        };
        self.tasks.spawn_on(commit, &self.services.jobs);
    }

    fn finish_statement(&mut self, ordinal: u32, elapsed: Duration) {
        self.turn.pass();
        if let Some(slot) = self.application.slot(ordinal) {
            slot.end(None);
        }
        let summary = std::mem::take(&mut self.summary);
        if !summary.table.is_empty() && !self.is_told(&summary, ordinal) {
            self.tell(|application| Fact::TableCommitted {
                table: summary.table.clone(),
                version: summary.version,
                rows: summary.rows,
                files: summary.files,
                bytes: summary.bytes,
                application,
                statement: ordinal,
                stream: String::new(),
            });
        }
        self.tell(|application| Fact::StatementFinished {
            application,
            statement: ordinal,
            rows: summary.rows,
            table: summary.table,
            version: summary.version,
            files: summary.files,
            already_committed: summary.already_committed,
            elapsed_micros: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            message: summary.message,
        });
    }

    /// Whether the commit was told. One that a killed master made may not have been.
    fn is_told(&self, summary: &Summary, ordinal: u32) -> bool {
        let told = || {
            let history = self.services.facts.history();
            let mut commits = history.commits.iter();
            commits.any(|commit| {
                commit.application == self.application.id && commit.statement == ordinal
            })
        };
        summary.already_committed && (self.resumed_at(ordinal).is_none() || told())
    }

    fn announce(&self, statements: u32) {
        if let Some(place) = self.resumed {
            self.tell(|application| Fact::ApplicationResumed {
                application,
                statement: place.statement,
            });
        }
        if self.resumed.is_none_or(|place| !place.is_started) {
            self.tell(|application| Fact::ApplicationStarted {
                application,
                statements,
            });
        }
    }

    /// Set for the statement that a restarted master goes on with.
    fn resumed_at(&self, ordinal: u32) -> Option<Place> {
        self.resumed.filter(|place| place.statement == ordinal)
    }

    fn attempts_before(&self, ordinal: u32) -> u32 {
        self.resumed_at(ordinal).map_or(0, |place| place.attempts)
    }

    fn finish(&mut self, end: End) {
        self.turn.pass();
        let (state, failure) = match end {
            End::Succeeded => (State::Succeeded, None),
            End::Failed(failure) => (State::Failed, Some(failure)),
            End::Cancelled => (State::Cancelled, None),
        };
        if let Some(slot) = self.application.slot(self.ordinal) {
            // The same again is for whoever cancelled it to ask.
            let cancelled = || Failure::new(ErrorKind::User, "the application was cancelled");
            let is_cancelled = state == State::Cancelled;
            slot.end(failure.clone().or_else(|| is_cancelled.then(cancelled)));
        }
        let statement = self.ordinal;
        self.tell(|application| Fact::ApplicationFinished {
            application,
            state,
            failure: failure.map(Into::into),
            statement,
        });
    }

    /// Statements count from 1.
    fn statement(&self, ordinal: u32) -> Option<&Arc<Source>> {
        self.statements
            .get(usize::try_from(ordinal).ok()?.checked_sub(1)?)
    }

    /// Tells a fact of this application.
    fn tell(&self, fact: impl FnOnce(String) -> Fact) {
        self.services
            .facts
            .publish(fact(self.application.id.clone()));
    }
}
