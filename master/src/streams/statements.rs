//! SQL that streams run on tables of their own: applications like everybody's, so that people see what they do and
//! why one failed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use crate::Error;
use crate::applications::{Applications, Body, Submission};
use crate::facts::{Event, Facts, State};

/// How often it is looked whether another one is over.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Runs them.
#[derive(Clone)]
pub(crate) struct Statements {
    pub(crate) applications: Applications,
    pub(crate) facts: Facts,
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").finish_non_exhaustive()
    }
}

impl Statements {
    /// Runs one to its end; the reason, where that is no success.
    pub(super) async fn run(&self, name: String, text: String) -> Result<(), Reason> {
        let mut told = self.facts.listen();
        let submission = Submission {
            name,
            source: String::new(),
            submitted_by: "streams".to_owned(),
            body: Body::Sql(text),
            settings: BTreeMap::new(),
        };
        let id = self.applications.submit(submission).await?;
        loop {
            let state = match told.recv().await {
                Ok(fact) => match &fact.event {
                    Event::ApplicationFinished {
                        application,
                        state,
                        failure,
                        ..
                    } if *application == id => {
                        if let Some(failure) = failure {
                            return Err(Reason(failure.message.clone()));
                        }
                        *state
                    }
                    _ => continue,
                },
                Err(RecvError::Lagged(_)) => match self.facts.history().applications.get(&id) {
                    Some(application) if !application.state.is_over() => continue,
                    Some(application) => application.state,
                    None => State::Failed,
                },
                Err(RecvError::Closed) => State::Cancelled,
            };
            return match state {
                State::Succeeded => Ok(()),
                _ => Err(Reason(format!("application {id} did not come to its end"))),
            };
        }
    }

    /// Waits until none of that name runs: one of a master before this one goes on by itself.
    pub(super) async fn until_over(&self, name: &str) {
        let runs = || {
            let history = self.facts.history();
            let mut own = history.applications.values();
            own.any(|application| application.name == name && !application.state.is_over())
        };
        while runs() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Why a statement did not succeed.
#[derive(Debug)]
pub(super) struct Reason(pub(super) String);

impl From<Error> for Reason {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}
