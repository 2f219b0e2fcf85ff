//! How long to wait before a failure that may pass is tried again: longer each time, and never as long as
//! others who failed at the same moment.

use std::time::Duration;

/// Before the second attempt; each later one waits longer by the factor.
const FIRST: Duration = Duration::from_millis(500);
const FACTOR: u32 = 4;
const LONGEST: Duration = Duration::from_secs(30);

const FIRST_RACE: Duration = Duration::from_millis(100);
/// Short: who waits for longer loses again to those who come anew.
const LONGEST_RACE: Duration = Duration::from_secs(1);

/// Pure: the same seed waits the same.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    state: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The wait before an attempt, which count from 1: between a half and the whole of its time.
    pub(crate) fn before(&mut self, attempt: u32) -> Duration {
        let factor = FACTOR.saturating_pow(attempt.saturating_sub(2));
        let whole = FIRST.saturating_mul(factor).min(LONGEST);
        whole / 2 + (whole / 2).mul_f64(self.next())
    }

    /// The wait after a race was lost for the nth time: who won is gone soon.
    pub(crate) fn after_race(&mut self, races: u32) -> Duration {
        let factor = 2_u32.saturating_pow(races.saturating_sub(1));
        let whole = FIRST_RACE.saturating_mul(factor).min(LONGEST_RACE);
        whole / 2 + (whole / 2).mul_f64(self.next())
    }

    /// In [0, 1): splitmix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_their_bounds() {
        for seed in 0..1000 {
            let mut backoff = Backoff::new(seed);
            for (attempt, whole) in [(2, 0.5), (3, 2.0), (4, 8.0), (5, 30.0), (60, 30.0)] {
                let wait = backoff.before(attempt).as_secs_f64();
                assert!((whole / 2.0..=whole).contains(&wait), "{attempt}: {wait}");
            }
        }
    }

    #[test]
    fn who_lost_many_races_waits_no_longer_than_a_moment() {
        let mut backoff = Backoff::new(7);
        for (races, whole) in [(1, 0.1), (2, 0.2), (4, 0.8), (5, 1.0), (20, 1.0)] {
            let wait = backoff.after_race(races).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{races}: {wait}");
        }
    }

    #[test]
    fn applications_that_fail_together_do_not_come_back_together() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|seed| Backoff::new(seed).before(2)).collect();
        assert!(waits.len() > 95, "{}", waits.len());
    }
}
