//! What an attempt came to, and what the errors of `engine` and `lake` make of it.

use std::collections::BTreeMap;

use drumline_lake::ErrorKind;

use super::super::commit::{Staged, Summary};
use super::super::job;
use super::super::machine::Outcome;
use crate::failure::Failure;

/// What an attempt came to.
pub(in super::super) struct Ended {
    pub(in super::super) outcome: Outcome,
    pub(in super::super) summary: Summary,
    /// Set where the outcome is `Staged`.
    pub(in super::super) staged: Option<Staged>,
    /// The application's settings from now on.
    pub(in super::super) settings: Option<BTreeMap<String, String>>,
    /// A worker that is to blame, and why.
    pub(super) blamed: Option<(String, String)>,
}

impl Ended {
    pub(super) fn done(summary: Summary) -> Self {
        Self {
            outcome: Outcome::Done,
            summary,
            staged: None,
            settings: None,
            blamed: None,
        }
    }

    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            ..Self::done(Summary::default())
        }
    }

    /// A job that stood still. One worker that all others wait for is to blame.
    pub(super) fn stalled(stall: &job::Stall) -> Self {
        let failure = Failure {
            hint: "look at the workers' logs; drumline.stall_limit (seconds; 0: never) says how long a job may stand still"
                .to_owned(),
            ..Failure::retryable(stall.to_string())
        };
        let Some(worker) = stall.only_worker() else {
            return Self::failed(failure);
        };
        Self {
            blamed: Some((worker.clone(), failure.message.clone())),
            ..Self::of(Outcome::FailedOn { worker, failure })
        }
    }

    pub(in super::super) fn failed(failure: Failure) -> Self {
        Self::of(Outcome::Failed(failure))
    }
}

impl From<drumline_engine::Error> for Ended {
    fn from(error: drumline_engine::Error) -> Self {
        let is_own_fault = error.kind() == ErrorKind::User;
        let worker = error.worker().map(str::to_owned);
        let blamed = worker
            .clone()
            .filter(|_| !is_own_fault)
            .map(|worker| (worker, error.to_string()));
        let ended = match &error {
            drumline_engine::Error::WorkerLost { worker, .. } => Self::of(Outcome::WorkerLost {
                worker: Some(worker.clone()),
                reason: error.to_string(),
            }),
            drumline_engine::Error::OutOfMemory { exhausted } => Self::of(Outcome::OutOfMemory {
                is_join_side: exhausted.is_join_side(),
                failure: error.into(),
            }),
            _ => match worker {
                Some(worker) => Self::of(Outcome::FailedOn {
                    worker,
                    failure: error.into(),
                }),
                None => Self::failed(error.into()),
            },
        };
        Self { blamed, ..ended }
    }
}

impl From<drumline_lake::Error> for Ended {
    fn from(error: drumline_lake::Error) -> Self {
        Self::failed(error.into())
    }
}
