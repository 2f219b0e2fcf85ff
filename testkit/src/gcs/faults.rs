//! The fault hook: which calls go wrong, how, and how often they did.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

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
    /// The door it came through: empty for the main one, see `Gcs::door`.
    pub door: String,
}

/// Closed until somebody opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(AtomicBool, Notify)>);

impl Gate {
    /// Lets through who waits, and all who come.
    pub fn open(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }

    /// Whether it has been opened.
    pub fn is_open(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) async fn passed(&self) {
        loop {
            // Before the look: an opening in between wakes it.
            let opened = self.0.1.notified();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate(open: {})", self.is_open())
    }
}

/// What a lying store makes of the bytes it is given.
#[derive(Clone)]
pub struct Rewrite(Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>);

impl Rewrite {
    /// Keeps what this makes of the bytes.
    pub fn new(rewrite: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(rewrite))
    }

    pub(crate) fn of(&self, bytes: Bytes) -> Bytes {
        (self.0)(bytes)
    }
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite")
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
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
    /// Half of the reply's body, nothing for this long, then the rest.
    StallBody(Duration),
    /// Not answered while it waits; it lands after this long, whether its client still waits or not. Then the gate
    /// opens.
    LandLater(Duration, Gate),
    /// The call waits until the gate opens, then goes on as usual. It never lands if its client goes first.
    HoldBefore(Gate),
    /// The effect lands; the answer waits until the gate opens.
    HoldAfter(Gate),
    /// A lie: what is kept is not what was sent.
    Keep(Rewrite),
    /// The same, and the answer is this status.
    KeepAndFail(Rewrite, u16),
    /// A lie: once the gate is open it lands whatever was there, although it was to be created.
    Overwrite(Gate),
}

type Matcher = Box<dyn Fn(&Call) -> bool + Send + Sync>;

struct Rule {
    effect: Effect,
    matches: Matcher,
    left: u64,
    fired: Arc<Fired>,
}

#[derive(Default)]
struct Fired {
    times: AtomicU64,
    last: Mutex<Option<Call>>,
}

/// Faults of one server: the first that matches a call fires.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<Call>>,
}

/// A planted fault. A test asserts [`Fault::fired`], so that it cannot pass without its fault.
#[derive(Clone)]
pub struct Fault(Arc<Fired>);

impl Fault {
    /// How often the fault fired so far.
    pub fn fired(&self) -> u64 {
        self.0.times.load(Ordering::SeqCst)
    }

    /// The call it fired on last.
    pub fn call(&self) -> Option<Call> {
        let last = self.0.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
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
        let fired = Arc::new(Fired::default());
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
        let last = rule.fired.last.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(call.clone());
        rule.fired.times.fetch_add(1, Ordering::SeqCst);
        Some(rule.effect.clone())
    }
}
