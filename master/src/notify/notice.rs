//! Which facts are worth a notice, and its words. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::facts::{Event, Fact, State, WorkerState};

/// What a webhook is sent, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Notice {
    /// `application_failed`, `stream_failing`, `worker_lost` or `worker_set_aside`.
    pub(super) kind: &'static str,
    /// Milliseconds since 1970, UTC.
    pub(super) at: i64,
    /// The application, stream or worker.
    pub(super) subject: String,
    pub(super) reason: String,
    /// What to do next; may be empty.
    pub(super) hint: String,
    /// All of it in one line: chat services show this.
    pub(super) text: String,
    /// Notices before this one that were left out, because the webhook was too slow.
    pub(super) left_out: u64,
}

/// Remembers what was told, so that what goes on is told once.
#[derive(Debug, Default)]
pub(super) struct Notices {
    streams: BTreeMap<String, String>,
    left_out: u64,
}

impl Notices {
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn sent(&mut self) {
        self.left_out = 0;
    }

    pub(super) fn full(&mut self) {
        self.left_out += 1;
    }

    /// The notice of a fact that needs one.
    pub(super) fn of(&mut self, fact: &Fact) -> Option<Notice> {
        let (kind, subject, reason, hint, what) = match &fact.event {
            Event::ApplicationFinished {
                application,
                state: State::Failed,
                failure,
                statement,
            } => {
                let failure = failure.as_ref();
                (
                    "application_failed",
                    application,
                    failure.map_or("it failed", |failure| failure.message.as_str()),
                    failure.map_or("", |failure| failure.hint.as_str()),
                    format!("application {application} failed in statement {statement}"),
                )
            }
            Event::WorkerLeft {
                worker,
                clean: false,
                reason,
            } => (
                "worker_lost",
                worker,
                reason.as_str(),
                "its work goes on elsewhere; look at its log",
                format!("worker {worker} is lost"),
            ),
            Event::WorkerChanged {
                worker,
                state: WorkerState::SetAside,
                reason,
            } => (
                "worker_set_aside",
                worker,
                reason.as_str(),
                "it is tried again by itself; look at its log",
                format!("worker {worker} gets no tasks for a while: they keep failing"),
            ),
            Event::StreamChanged {
                stream,
                state,
                reason,
            } => {
                let before = self.streams.insert(stream.clone(), state.clone());
                let is_bad = |state: &str| matches!(state, "failing" | "waiting");
                if !is_bad(state) || before.as_deref().is_some_and(is_bad) {
                    return None;
                }
                (
                    "stream_failing",
                    stream,
                    reason.as_str(),
                    "see `drumline stream status`",
                    format!("stream {stream} does not move"),
                )
            }
            Event::StreamDeleted { stream } => {
                self.streams.remove(stream);
                return None;
            }
            _ => return None,
        };
        Some(Notice {
            kind,
            at: fact.at,
            subject: subject.clone(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
            text: match reason {
                "" => what,
                reason => format!("{what}: {reason}"),
            },
            left_out: 0,
        })
    }
}
