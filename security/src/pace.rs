//! How often one caller may come: a client in a loop must not take the master from everybody else.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Calls between two looks for callers that are not heard of any more.
const TIDY_EVERY: u32 = 10_000;

/// Calls per second and caller, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Sustained.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// Counts calls by caller.
#[derive(Debug)]
pub(crate) struct Paced {
    limiter: DefaultKeyedRateLimiter<String>,
    calls: AtomicU32,
}

impl Paced {
    pub(crate) fn new(pace: Pace) -> Self {
        let quota = Quota::per_second(pace.per_second).allow_burst(pace.burst);
        Self {
            limiter: RateLimiter::keyed(quota),
            calls: AtomicU32::new(0),
        }
    }

    /// Whether this call may come now.
    pub(crate) fn may_come(&self, caller: String) -> bool {
        if self.calls.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&caller).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_callers_haste_is_not_anothers() {
        let paced = Paced::new(Pace {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::MIN.saturating_add(2),
        });
        let came = (0..10).filter(|_| paced.may_come("a".to_owned())).count();
        assert_eq!(came, 3);
        assert!(paced.may_come("b".to_owned()));
    }
}
