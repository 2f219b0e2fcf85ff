//! Schemas for a thread that must not block.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{Registered, Registry};
use crate::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Fetches schemas in the background and tells what is known of them.
#[derive(Debug)]
pub(crate) struct Schemas {
    registry: Arc<Registry>,
    runtime: Handle,
    answers: mpsc::Receiver<(i32, Result<Arc<Registered>>)>,
    answer: mpsc::Sender<(i32, Result<Arc<Registered>>)>,
    known: HashMap<i32, State>,
    // Dropped with this: nothing goes on asking for a source that has ended.
    asking: JoinSet<()>,
}

#[derive(Debug)]
enum State {
    Known(Arc<Registered>),
    Asked { before: Option<Failed> },
    Failed(Failed),
}

#[derive(Debug, Clone)]
struct Failed {
    reason: String,
    is_absent: bool,
    pause: Duration,
    again: Instant,
}

/// Why a schema is not at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub reason: String,
    /// The registry answered that it has no such schema.
    pub is_absent: bool,
}

impl Schemas {
    pub(crate) fn new(registry: Arc<Registry>, runtime: Handle) -> Self {
        let (answer, answers) = mpsc::channel();
        Self {
            registry,
            runtime,
            answers,
            answer,
            known: HashMap::new(),
            asking: JoinSet::new(),
        }
    }

    /// One that knows these, and would ask nobody.
    #[cfg(test)]
    pub(crate) fn holding(runtime: &Handle, registered: &[Registered]) -> Self {
        let definition = drumline_proto::v1::SchemaRegistry {
            url: "http://127.0.0.1:9".to_owned(),
            ..Default::default()
        };
        let registry = Arc::new(Registry::new(&definition).unwrap());
        let mut schemas = Self::new(registry, runtime.clone());
        for registered in registered {
            let known = State::Known(Arc::new(registered.clone()));
            schemas.known.insert(registered.id, known);
        }
        schemas
    }

    /// A schema that was found before.
    pub(crate) fn known(&self, id: i32) -> Option<&Arc<Registered>> {
        match self.known.get(&id) {
            Some(State::Known(registered)) => Some(registered),
            _ => None,
        }
    }

    /// Asks for the schema where that is due, and says why it is not at hand, if it is not.
    pub(crate) fn wants(&mut self, id: i32, now: Instant) -> Option<Pending> {
        if matches!(self.known.get(&id), Some(State::Known(_))) {
            return None;
        }
        while let Ok((id, answer)) = self.answers.try_recv() {
            self.take(id, answer, now);
        }
        while self.asking.try_join_next().is_some() {}
        let before = match self.known.get(&id) {
            Some(State::Known(_)) => return None,
            Some(State::Asked { before }) => return Some(pending(id, before.as_ref())),
            Some(State::Failed(failed)) if failed.again > now => {
                return Some(pending(id, Some(failed)));
            }
            Some(State::Failed(failed)) => Some(failed.clone()),
            None => None,
        };
        let told = pending(id, before.as_ref());
        self.known.insert(id, State::Asked { before });
        let (registry, answer) = (Arc::clone(&self.registry), self.answer.clone());
        let ask = async move {
            let found = registry.schema(id).await;
            let _ = answer.send((id, found));
        };
        self.asking.spawn_on(ask, &self.runtime);
        Some(told)
    }

    fn take(&mut self, id: i32, answer: Result<Arc<Registered>>, now: Instant) {
        let state = match answer {
            Ok(registered) => State::Known(registered),
            Err(error) => {
                let pause = match self.known.get(&id) {
                    Some(State::Asked {
                        before: Some(failed),
                    }) => (failed.pause * 2).min(LONGEST_PAUSE),
                    _ => FIRST_PAUSE,
                };
                State::Failed(Failed {
                    is_absent: matches!(error, Error::NotRegistered { .. }),
                    reason: error.to_string(),
                    pause,
                    again: now + pause,
                })
            }
        };
        self.known.insert(id, state);
    }
}

fn pending(id: i32, failed: Option<&Failed>) -> Pending {
    match failed {
        Some(failed) => Pending {
            reason: failed.reason.clone(),
            is_absent: failed.is_absent,
        },
        None => Pending {
            reason: format!("the schema registry is asked for schema {id}"),
            is_absent: false,
        },
    }
}
