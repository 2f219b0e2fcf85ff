//! Faults at named places, for tests of what happens then. In debug builds only; elsewhere nothing.
//!
//! `DRUMLINE_FAULT=<place>:<kill|stop>:<n>` makes this process kill or stop itself when it is at that place
//! for the `n`-th time. It says so on stderr first, so that a test can tell that its fault fired.

/// Where a process can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A worker has been welcomed by its master.
    Registering,
    /// A task's plan has arrived.
    TaskStart,
    /// A source has given a batch.
    Scan,
    /// Rows are about to be sent to another task.
    ExchangeOut,
    /// Rows of another task have arrived.
    ExchangeIn,
    /// A task of a stage that reads others has rows to send.
    LastStage,
    /// A file is staged, and nobody knows of it.
    Staging,
    /// All rows of a task are sent.
    RowsSent,
    /// A worker is given a share of a stream.
    StreamAssigned,
    /// A stream's files are closed and durable, and the master does not know of them.
    StreamStaged,
    /// An offer is on its way to the master.
    StreamOffered,
    /// The master has answered an offer, and nobody has heard it.
    StreamAnswered,
    /// An offer has reached the master.
    OfferTaken,
    /// An offer is about to be committed to its first table.
    CommitBegun,
    /// It is in one table, and not in the next.
    CommitBetween,
    /// It is in all its tables, and its worker does not know.
    CommitLanded,
}

impl Place {
    /// As the environment names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::TaskStart => "task-start",
            Self::Scan => "scan",
            Self::ExchangeOut => "exchange-out",
            Self::ExchangeIn => "exchange-in",
            Self::LastStage => "last-stage",
            Self::Staging => "staging",
            Self::RowsSent => "rows-sent",
            Self::StreamAssigned => "stream-assigned",
            Self::StreamStaged => "stream-staged",
            Self::StreamOffered => "stream-offered",
            Self::StreamAnswered => "stream-answered",
            Self::OfferTaken => "offer-taken",
            Self::CommitBegun => "commit-begun",
            Self::CommitBetween => "commit-between",
            Self::CommitLanded => "commit-landed",
        }
    }
}

/// Called wherever a process can fail.
#[cfg(not(debug_assertions))]
pub fn at(_: Place) {}

#[cfg(debug_assertions)]
pub use plan::at;

#[cfg(debug_assertions)]
mod plan {
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Place;

    struct Plan {
        place: String,
        signal: &'static str,
        at: u64,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let text = std::env::var("DRUMLINE_FAULT").ok()?;
        let mut parts = text.split(':');
        let place = parts.next()?.to_owned();
        let signal = match parts.next()? {
            "kill" => "-KILL",
            "stop" => "-STOP",
            _ => return None,
        };
        let at = parts.next()?.parse().ok()?;
        Some(Plan { place, signal, at })
    });

    static TIMES: AtomicU64 = AtomicU64::new(0);

    /// Called wherever a process can fail.
    pub fn at(place: Place) {
        let Some(plan) = PLAN.as_ref() else { return };
        if plan.place != place.name() || TIMES.fetch_add(1, Ordering::Relaxed) + 1 != plan.at {
            return;
        }
        tracing::error!(place = place.name(), signal = plan.signal, "fault fires");
        let id = std::process::id().to_string();
        // A signal that does not come shows as a fault that did not fire.
        let _ = Command::new("kill").args([plan.signal, &id]).status();
    }
}
