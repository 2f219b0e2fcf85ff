//! Stops what computes, soon, wherever it is.
//!
//! Dropping a stream stops its computation at the next point where it waits, and a join that multiplies its
//! rows may compute for minutes without waiting for anything. So before a plan runs, [`interruptible`] puts
//! a check between its operators and into the filters of its joins: at most one batch after an
//! [`Interrupt`] is raised its computation fails, and at most a hundred batches later others get their turn
//! on the thread.

mod filter;
mod node;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::error::{DataFusionError, Result};
use drumline_lake::ErrorKind;

use crate::Error;
pub(crate) use node::interruptible;

/// Raised once, seen by everything that computes under it. Clones share it.
///
/// Who may have to stop a job holds its interrupt, and raises it from outside of the threads that compute:
/// these may be too busy to notice that something was dropped.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    raised: AtomicBool,
    /// Batches that were handed on, and filters that were evaluated.
    steps: AtomicU64,
    /// What was exhausted, where that is why.
    exhausted: OnceLock<String>,
    /// What stops this one too.
    parent: Option<Interrupt>,
}

impl Interrupt {
    /// Stops what computes under it. There is no way back.
    pub fn raise(&self) {
        self.inner.raised.store(true, Ordering::Release);
    }

    /// Stops with this one, and can be raised by itself: for one of several jobs after each other.
    pub fn child(&self) -> Self {
        Self {
            inner: Arc::new(Inner {
                parent: Some(self.clone()),
                ..Inner::default()
            }),
        }
    }

    /// Grows for as long as something computes.
    pub(crate) fn steps(&self) -> u64 {
        self.inner.steps.load(Ordering::Relaxed)
    }

    fn step(&self) {
        self.inner.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Stops it because memory that cannot be refused was too much.
    pub(crate) fn exhaust(&self, what: String) {
        // The first reason stands.
        let _ = self.inner.exhausted.set(what);
        self.raise();
    }

    /// Fails once it was raised.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(parent) = &self.inner.parent {
            parent.check()?;
        }
        if !self.inner.raised.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(match self.inner.exhausted.get() {
            Some(what) => DataFusionError::ResourcesExhausted(what.clone()),
            None => DataFusionError::from(Error::Failed {
                kind: ErrorKind::Retryable,
                message: "the job was stopped".to_owned(),
                hint: None,
                worker: None,
            }),
        })
    }
}

/// Raises its interrupt when dropped: with a job's stream, or with the call that keeps a task.
#[derive(Debug)]
pub(crate) struct RaiseOnDrop(pub(crate) Interrupt);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

#[cfg(test)]
mod tests;
