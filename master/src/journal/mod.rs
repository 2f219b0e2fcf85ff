//! The journal: what happened, on the master's own disk, so that what was acknowledged survives its SIGKILL.
//!
//! Facts are kept twice: in `journal.redb` (`store.rs`) and as lines in `events/` (`lines.rs`); each record has a
//! checksum of its own (`record.rs`), and `mark.rs` remembers the newest. `open.rs` makes the two agree and repairs what is damaged; `writer.rs` is the one
//! thread that writes, in groups; `ledger.rs` is what it works on; `retention.rs` decides what is let go.
//!
//! Must never: panic or hang over what is on the disk, or call a fact durable before both copies are.
//! Read next: `docs/decisions/004-journal.md`.

#[cfg(test)]
mod chaos;
mod ledger;
mod lines;
mod mark;
mod open;
mod record;
mod retention;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use open::Repaired;
pub(crate) use retention::Limits;
pub(crate) use writer::{Dropped, Progress, Writer};

use crate::facts::Fact;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the journal '{}' has format {found}, and this build knows formats up to {known}",
        path.display()
    )]
    TooNew {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    #[error(
        "the journal '{}' could not be checked within {} s: nothing of it was changed",
        path.display(), within.as_secs()
    )]
    CheckTooSlow { path: PathBuf, within: Duration },
    #[error("cannot use '{}': {source}", path.display())]
    Files {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot use the journal '{}': {source}", path.display())]
    Database {
        path: PathBuf,
        source: Box<redb::Error>,
    },
}

/// A journal that has been read, and is not written to yet.
pub(crate) struct Opened {
    ledger: ledger::Ledger,
    /// All that it holds, in order.
    pub(crate) facts: Vec<Fact>,
    pub(crate) repaired: Option<Repaired>,
}

/// A journal that is written to. Closed when dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) writer: Writer,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Opens the journal of a state folder, repairs it if need be, and reads all of it.
pub(crate) fn open(state_dir: &Path, limits: Limits) -> Result<Opened, Error> {
    let open::Recovered {
        ledger,
        facts,
        repaired,
    } = open::open(state_dir, limits)?;
    if let Some(repaired) = &repaired {
        let Repaired {
            kept,
            dropped,
            reason,
        } = repaired;
        tracing::warn!(kept, dropped, reason, "the journal was repaired");
    }
    Ok(Opened {
        ledger,
        facts,
        repaired,
    })
}

impl Opened {
    /// Begins to write, after the newest fact that is there. `dropped` is told which applications were too old
    /// or too much to be kept.
    pub(crate) fn start(self, durable: u64, dropped: Dropped) -> Result<Journal, Error> {
        let path = self.ledger.path.clone();
        let (writer, thread) = Writer::start(self.ledger, durable, dropped)
            .map_err(|source| Error::Files { path, source })?;
        Ok(Journal {
            writer,
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Journal {
    /// Writes what waits and closes the files. What is told later is not written down.
    pub(crate) fn close(&self) {
        self.writer.stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Its own last act may be to let go of the bus, and so of this.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread failed");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
