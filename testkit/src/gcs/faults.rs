//! The fault hook: which calls go wrong, how, and how often they did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a call asks for, in the store's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Write a whole object.
    Put,
    /// Read an object, whole or a range.
    Get,
    /// Ask for an object's size and tags.
    Head,
    /// List keys.
    List,
    /// Delete an object.
    Delete,
    /// Copy an object inside the store.
    Copy,
    /// Begin a multipart upload.
    BeginUpload,
    /// Write one part.
    PutPart,
    /// Join the parts into an object.
    CompleteUpload,
    /// Give up a multipart upload.
    AbortUpload,
}

/// One call as the hook sees it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub operation: Operation,
    /// The bucket.
    pub bucket: String,
    /// The object, or for a list the prefix.
    pub key: String,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answered with this status; nothing happened.
    StatusBefore(u16),
    /// Answered with this status although the effect landed.
    StatusAfter(u16),
    /// The connection is cut; nothing happened.
    CutBefore,
    /// The connection is cut although the effect landed.
    CutAfter,
    /// The connection is cut in the middle of the reply's body.
    CutBody,
    /// The call waits this long, then goes on as usual.
    Delay(Duration),
}

type Matcher = Box<dyn Fn(&Call) -> bool + Send + Sync>;

struct Rule {
    effect: Effect,
    matches: Matcher,
    left: u64,
    fired: Arc<AtomicU64>,
}

/// Faults of one server: the first that matches a call fires.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<Call>>,
}

/// A planted fault. A test asserts [`Fault::fired`], so that it cannot pass without its fault.
#[derive(Clone)]
pub struct Fault(Arc<AtomicU64>);

impl Fault {
    /// How often the fault fired so far.
    pub fn fired(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Faults {
    /// Plants a fault for the next `times` calls that match.
    pub fn plant(
        &self,
        effect: Effect,
        times: u64,
        matches: impl Fn(&Call) -> bool + Send + Sync + 'static,
    ) -> Fault {
        let fired = Arc::new(AtomicU64::new(0));
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Rule {
                effect,
                matches: Box::new(matches),
                left: times,
                fired: fired.clone(),
            });
        Fault(fired)
    }

    /// Plants a fault for the next call of this operation whose key contains `part`.
    pub fn once(&self, effect: Effect, operation: Operation, part: &str) -> Fault {
        let part = part.to_owned();
        self.plant(effect, 1, move |call| {
            call.operation == operation && call.key.contains(&part)
        })
    }

    /// Takes every planted fault out.
    pub fn clear(&self) {
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Calls seen since the start, for tests that count requests.
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn next(&self, call: &Call) -> Option<Effect> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call.clone());
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left > 0 && (rule.matches)(call))?;
        rule.left -= 1;
        rule.fired.fetch_add(1, Ordering::SeqCst);
        Some(rule.effect)
    }
}
