//! Decides what happens to one application: statement after statement, attempt after attempt.
//!
//! Pure: it does no IO and reads no clock. `runner.rs` feeds it events and performs its actions.
//!
//! ```text
//! Reading → Attempting → (Defining | Committing) → Attempting the next statement → … → Finished
//!                │                       ↓ somebody else changed what it read: Attempting again
//!                ↓ a worker was lost, a cancel
//!             Stopping → Attempting again, or Finished
//! ```
//!
//! An attempt that did not end by itself passes through `Stopping`: nothing of it runs any more when
//! its successor starts, or when the application is said to be over. A change of names and a commit are not stopped:
//! in the middle of them nobody could say whether they have happened.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use drumline_lake::ErrorKind;

use crate::backoff::Backoff;
use crate::failure::Failure;

mod event;

pub(crate) use event::{Action, AttemptId, End, Event, Outcome};

/// How often a statement is tried before its failure is the user's to see.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// How often a statement is planned anew because others changed the rows that it changes.
pub(crate) const MAX_CONFLICTS: u32 = 20;

/// An event that cannot happen in this state: a mistake of ours, to be logged.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("an application cannot take `{event}` while {state}")]
pub(crate) struct Illegal {
    state: &'static str,
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Reading,
    Attempting {
        workers: BTreeSet<String>,
        delivered: bool,
    },
    Stopping(Next),
    Defining {
        cancelled: bool,
    },
    Committing {
        cancelled: bool,
    },
    Finished,
}

/// What follows once the attempt has stopped.
#[derive(Debug, Clone, PartialEq)]
enum Next {
    Retry {
        reason: String,
        worker: String,
        after: Duration,
    },
    Finish(End),
}

/// One application's progress.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    statements: u32,
    current: AttemptId,
    /// Workers that failed this statement: its next attempts go elsewhere, listed or not.
    avoid: BTreeSet<String>,
    /// The statement's joins ran out of memory: its next attempts sort instead.
    merge_joins: bool,
    /// How many of the statement's attempts lost a race.
    conflicts: u32,
    /// The newest that was heard of the workers.
    alive: Option<BTreeSet<String>>,
    statement_started: Instant,
    /// The statement to begin with.
    first: u32,
    backoff: Backoff,
}

impl Machine {
    /// `seed` sets applications apart that failed at the same moment.
    pub(crate) fn new(now: Instant, seed: u64) -> Self {
        Self {
            state: State::Reading,
            statements: 0,
            current: AttemptId {
                ordinal: 0,
                attempt: 0,
            },
            avoid: BTreeSet::new(),
            merge_joins: false,
            conflicts: 0,
            alive: None,
            statement_started: now,
            first: 1,
            backoff: Backoff::new(seed),
        }
    }

    /// The statements before this one are done.
    pub(crate) fn beginning_at(self, statement: u32) -> Self {
        Self {
            first: statement,
            ..self
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether this attempt may hand rows to the client: it is the current one, and not to be stopped.
    pub(crate) fn may_deliver(&self, id: AttemptId) -> bool {
        id == self.current && self.has_delivered()
    }

    /// Whether this attempt may change names: it is the current one, and not to be stopped.
    pub(crate) fn may_define(&self, id: AttemptId) -> bool {
        id == self.current && matches!(self.state, State::Defining { .. })
    }

    /// Whether something is under way that must come to its end.
    pub(crate) fn is_indivisible(&self) -> bool {
        matches!(
            self.state,
            State::Defining { .. }
                | State::Committing { .. }
                // It was cancelled, and is not to come back.
                | State::Stopping(Next::Finish(_))
        )
    }

    /// Takes an event; says what to do about it.
    pub(crate) fn step(&mut self, now: Instant, event: Event) -> Result<Vec<Action>, Illegal> {
        if self.is_finished() || self.is_stale(&event) {
            return Ok(vec![]);
        }
        Ok(match (&mut self.state, event) {
            (State::Reading, Event::Read { statements }) => {
                self.statements = statements;
                let mut actions = vec![Action::AnnounceApplication { statements }];
                actions.extend(self.begin_statement(now, self.first));
                actions
            }
            (State::Reading, Event::Refused(failure)) => self.finish(End::Failed(failure)),
            (State::Reading, Event::CancelRequested) => self.finish(End::Cancelled),

            (
                State::Attempting { workers, .. },
                Event::Started {
                    workers: chosen, ..
                },
            ) => {
                *workers = chosen;
                self.check_workers()
            }
            (State::Attempting { delivered, .. }, Event::Delivered { .. }) => {
                *delivered = true;
                vec![]
            }
            (State::Attempting { .. }, Event::Defining { .. }) => {
                self.state = State::Defining { cancelled: false };
                vec![]
            }
            (State::Defining { cancelled }, Event::CancelRequested) => {
                *cancelled = true;
                vec![]
            }
            (State::Defining { cancelled: false }, Event::Ended { outcome, .. }) => {
                self.after_end(now, outcome)
            }
            (State::Defining { cancelled: true }, Event::Ended { outcome, .. }) => match outcome {
                Outcome::Done => self.done_and_cancelled(now),
                _ => self.finish(End::Cancelled),
            },
            (State::Attempting { .. }, Event::CancelRequested) => {
                self.stop(Next::Finish(End::Cancelled))
            }
            (State::Attempting { .. }, Event::WorkersChanged { alive }) => {
                self.alive = Some(alive);
                self.check_workers()
            }
            (State::Attempting { .. }, Event::Ended { outcome, .. }) => {
                self.after_end(now, outcome)
            }

            (State::Stopping(next), Event::CancelRequested) => {
                *next = Next::Finish(End::Cancelled);
                vec![]
            }
            (State::Stopping(next), Event::Stopped { .. }) => {
                let next = next.clone();
                self.go_on(next)
            }
            // The attempt ends on its own while it is told to stop: the decision stands.
            (
                State::Stopping(_),
                Event::Ended { .. }
                | Event::Started { .. }
                | Event::Delivered { .. }
                | Event::Defining { .. },
            ) => vec![],

            // A commit cannot be called back: its outcome is told, then the cancel takes hold.
            (State::Committing { cancelled }, Event::CancelRequested) => {
                *cancelled = true;
                vec![]
            }
            (State::Committing { cancelled: false }, Event::Committed { .. }) => {
                self.finish_statement(now)
            }
            (State::Committing { cancelled: true }, Event::Committed { .. }) => {
                self.done_and_cancelled(now)
            }
            (State::Committing { .. }, Event::CommitFailed { failure, .. }) => {
                self.finish(End::Failed(failure))
            }
            (State::Committing { cancelled: true }, Event::Conflicted { .. }) => {
                self.finish(End::Cancelled)
            }
            (State::Committing { cancelled: false }, Event::Conflicted { failure, .. }) => {
                let next = self.after_conflict(failure);
                self.go_on(next)
            }

            (_, Event::WorkersChanged { alive }) => {
                self.alive = Some(alive);
                vec![]
            }
            (state, event) => {
                return Err(Illegal {
                    state: state.name(),
                    event: event.name(),
                });
            }
        })
    }

    fn is_stale(&self, event: &Event) -> bool {
        match event {
            Event::Started { id, .. }
            | Event::Delivered { id }
            | Event::Defining { id }
            | Event::Ended { id, .. }
            | Event::Stopped { id }
            | Event::Committed { id }
            | Event::CommitFailed { id, .. }
            | Event::Conflicted { id, .. } => *id != self.current,
            Event::Read { .. }
            | Event::Refused(_)
            | Event::CancelRequested
            | Event::WorkersChanged { .. } => false,
        }
    }

    fn begin_statement(&mut self, now: Instant, ordinal: u32) -> Vec<Action> {
        if ordinal > self.statements {
            return self.finish(End::Succeeded);
        }
        self.current = AttemptId {
            ordinal,
            attempt: 0,
        };
        self.statement_started = now;
        self.avoid.clear();
        self.merge_joins = false;
        self.conflicts = 0;
        vec![
            Action::AnnounceStatement { ordinal },
            self.run_attempt(Duration::ZERO),
        ]
    }

    fn run_attempt(&mut self, after: Duration) -> Action {
        self.current.attempt += 1;
        self.state = State::Attempting {
            workers: BTreeSet::new(),
            delivered: false,
        };
        Action::RunAttempt {
            id: self.current,
            avoid: self.avoid.clone(),
            after,
            merge_joins: self.merge_joins,
        }
    }

    /// Lets go of the attempt if a worker of it is missing; it may have gone before the job started.
    fn check_workers(&mut self) -> Vec<Action> {
        let (State::Attempting { workers, .. }, Some(alive)) = (&self.state, &self.alive) else {
            return vec![];
        };
        let Some(lost) = workers.difference(alive).next().cloned() else {
            return vec![];
        };
        let reason = format!("worker '{lost}' was lost or stopped answering");
        let next = self.after_loss(Some(lost), reason);
        self.stop(next)
    }

    fn after_end(&mut self, now: Instant, outcome: Outcome) -> Vec<Action> {
        match outcome {
            Outcome::Done => self.finish_statement(now),
            Outcome::Staged => {
                self.state = State::Committing { cancelled: false };
                vec![Action::CommitStaged { id: self.current }]
            }
            Outcome::WorkerLost { worker, reason } => {
                let next = self.after_loss(worker, reason);
                self.go_on(next)
            }
            Outcome::Failed(failure) => {
                let next = self.after_failure(failure);
                self.go_on(next)
            }
            Outcome::FailedOn { worker, failure } => {
                self.avoid.insert(worker);
                let next = self.after_failure(failure);
                self.go_on(next)
            }
            Outcome::OutOfMemory {
                is_join_side,
                failure,
            } => {
                let next = self.after_exhaustion(is_join_side, failure);
                self.go_on(next)
            }
            Outcome::ClientGone => self.finish(End::Cancelled),
        }
    }

    fn after_exhaustion(&mut self, is_join_side: bool, failure: Failure) -> Next {
        if self.merge_joins {
            return Next::Finish(End::Failed(Failure {
                message: format!(
                    "{}; with joins that sort it was tried, too",
                    failure.message
                ),
                ..failure
            }));
        }
        if !is_join_side || self.has_delivered() || self.tries() >= MAX_ATTEMPTS {
            return Next::Finish(End::Failed(failure));
        }
        self.merge_joins = true;
        Next::Retry {
            reason: format!("{}; its joins sort now", failure.message),
            worker: String::new(),
            // What it held is given back meanwhile.
            after: self.backoff.before(3),
        }
    }

    fn after_loss(&mut self, worker: Option<String>, reason: String) -> Next {
        let worker = worker.unwrap_or_default();
        if !worker.is_empty() {
            self.avoid.insert(worker.clone());
        }
        if self.has_delivered() {
            return Next::Finish(End::Failed(Failure {
                hint: "run the statement again".into(),
                ..Failure::retryable(format!(
                    "{reason}, after rows of the result had been delivered"
                ))
            }));
        }
        if self.tries() >= MAX_ATTEMPTS {
            return Next::Finish(End::Failed(Failure {
                hint: "see `drumline cluster status` for the workers that are left, then run the statement again".into(),
                ..Failure::retryable(format!("{reason}; the statement was tried {MAX_ATTEMPTS} times"))
            }));
        }
        // Another worker is as good as this one: nothing to wait for, unless it is not known which to avoid.
        let after = match worker.is_empty() {
            true => self.backoff.before(self.tries() + 1),
            false => Duration::ZERO,
        };
        Next::Retry {
            reason,
            worker,
            after,
        }
    }

    /// A race that was lost says nothing against the statement or its workers, and has a count of its own.
    fn after_conflict(&mut self, failure: Failure) -> Next {
        self.conflicts += 1;
        if self.conflicts > MAX_CONFLICTS {
            return Next::Finish(End::Failed(Failure {
                message: format!(
                    "{}; it was planned anew {MAX_CONFLICTS} times",
                    failure.message
                ),
                ..failure
            }));
        }
        Next::Retry {
            reason: failure.message,
            worker: String::new(),
            after: self.backoff.after_race(self.conflicts),
        }
    }

    /// Attempts of the statement that failed by themselves, the current one too.
    fn tries(&self) -> u32 {
        self.current.attempt.saturating_sub(self.conflicts)
    }

    fn after_failure(&mut self, failure: Failure) -> Next {
        let again = failure.kind == ErrorKind::Retryable
            && !self.has_delivered()
            && self.tries() < MAX_ATTEMPTS;
        match again {
            true => Next::Retry {
                reason: failure.message,
                worker: String::new(),
                after: self.backoff.before(self.tries() + 1),
            },
            false => Next::Finish(End::Failed(failure)),
        }
    }

    /// Whether rows of the current attempt may be with a client.
    pub(crate) fn has_delivered(&self) -> bool {
        matches!(
            self.state,
            State::Attempting {
                delivered: true,
                ..
            }
        )
    }

    fn stop(&mut self, next: Next) -> Vec<Action> {
        self.state = State::Stopping(next);
        vec![Action::StopAttempt { id: self.current }]
    }

    fn go_on(&mut self, next: Next) -> Vec<Action> {
        match next {
            Next::Finish(end) => self.finish(end),
            Next::Retry {
                reason,
                worker,
                after,
            } => {
                let run = self.run_attempt(after);
                let announce = Action::AnnounceRetry {
                    id: self.current,
                    reason,
                    worker,
                };
                vec![announce, run]
            }
        }
    }

    fn statement_finished(&self, now: Instant) -> Action {
        Action::FinishStatement {
            ordinal: self.current.ordinal,
            elapsed: now.saturating_duration_since(self.statement_started),
        }
    }

    /// The statement was done before its cancel could take hold.
    fn done_and_cancelled(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![self.statement_finished(now)];
        let is_last = self.current.ordinal == self.statements;
        actions.extend(self.finish(match is_last {
            true => End::Succeeded,
            false => End::Cancelled,
        }));
        actions
    }

    fn finish_statement(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![self.statement_finished(now)];
        actions.extend(self.begin_statement(now, self.current.ordinal + 1));
        actions
    }

    fn finish(&mut self, end: End) -> Vec<Action> {
        self.state = State::Finished;
        vec![Action::Finish(end)]
    }
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Reading => "reading",
            State::Attempting { .. } => "attempting",
            State::Stopping(_) => "stopping",
            State::Defining { .. } => "defining",
            State::Committing { .. } => "committing",
            State::Finished => "finished",
        }
    }
}

#[cfg(test)]
mod tests;
