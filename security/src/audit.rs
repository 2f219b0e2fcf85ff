//! Tells who was turned away, at most so often: a scanner must not fill a disk.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::Peer;

/// Lines that may come at once, and how many a second after that.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
const EACH_SECOND: NonZeroU32 = NonZeroU32::MIN;
/// Of a path; a caller chooses it.
const SHOWN_PATH: usize = 200;

#[derive(Debug)]
pub(crate) struct Audit {
    limit: DefaultDirectRateLimiter,
    unsaid: AtomicU64,
    refused: AtomicU64,
}

/// A call that was turned away.
pub(crate) struct Refused<'a> {
    pub(crate) who: &'a str,
    pub(crate) peer: Option<&'a Peer>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) reason: &'a str,
}

impl Audit {
    pub(crate) fn new() -> Self {
        Self {
            limit: RateLimiter::direct(Quota::per_second(EACH_SECOND).allow_burst(BURST)),
            unsaid: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Calls refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self, call: &Refused<'_>) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.limit.check().is_err() {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        let from = call
            .peer
            .and_then(|peer| peer.address)
            .map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let path: String = call
            .path
            .chars()
            .take(SHOWN_PATH)
            .flat_map(char::escape_default)
            .collect();
        tracing::warn!(
            target: "drumline::audit",
            who = call.who,
            from,
            method = call.method,
            path,
            reason = call.reason,
            unsaid,
            "refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let audit = Audit::new();
        for _ in 0..10_000 {
            audit.refuse(&Refused {
                who: "nobody",
                peer: None,
                method: "GET",
                path: "/x",
                reason: "no_token",
            });
        }
        assert_eq!(audit.refused(), 10_000);
        let told = 10_000 - audit.unsaid.load(Ordering::Relaxed);
        assert!((100..200).contains(&told), "{told}");
    }
}
