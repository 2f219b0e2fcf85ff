//! Finds partitions that Kafka has more of while none of it comes.
//!
//! librdkafka mends connections by itself, but may go on waiting where nothing will come: for a follower
//! that hangs and that it was told to fetch from, or for a leader that it lost sight of. Its statistics do
//! not tell, since they know ends of partitions from what is fetched. So whoever hears nothing asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::watch::Told;
use crate::machine::Positions;

/// How often silent partitions are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long a partition may stay behind where it stands while no other record waits to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same while records of others come all the time: they may only be ahead of its own.
const PATIENCE_AMONG_OTHERS: Duration = Duration::from_mins(2);

/// The partitions of one source.
#[derive(Debug)]
pub(super) struct Stalls {
    looked: Instant,
    positions: Positions,
    /// Since when partitions stand where they do, although there is more.
    behind: BTreeMap<i32, Instant>,
}

/// A partition that stands still.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub place: i32,
    pub lasted: Duration,
}

impl Stalls {
    /// Of a source that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            looked: now,
            positions: Positions::new(),
            behind: BTreeMap::new(),
        }
    }

    /// The places whose ends to ask for now: those that did not move since the last look.
    pub(super) fn silent(&mut self, now: Instant, positions: &Positions) -> Vec<i32> {
        let since = now.saturating_duration_since(self.looked);
        if since < EVERY {
            return Vec::new();
        }
        // Who was held up meanwhile knows nothing of others.
        if since > EVERY * 2 {
            self.behind.clear();
        }
        let moved = |place: &i32, next: &i64| self.positions.get(place) != Some(next);
        let silent = positions.iter().filter(|(place, next)| !moved(place, next));
        let silent: Vec<i32> = silent.map(|(place, _)| *place).collect();
        self.behind.retain(|place, _| silent.contains(place));
        self.looked = now;
        self.positions.clone_from(positions);
        silent
    }

    /// Takes in the ends of silent places: the first that has stood still for too long.
    pub(super) fn look(&mut self, now: Instant, ends: &Positions, told: &Told) -> Option<Stall> {
        let patience = match told.is_queued {
            false => PATIENCE,
            true => PATIENCE_AMONG_OTHERS,
        };
        for (place, end) in ends {
            // What was fetched to its end waits only to be taken, or ends with markers of transactions.
            let next = self.positions.get(place).max(told.fetched.get(place));
            if next.is_none_or(|next| next >= end) {
                self.behind.remove(place);
                continue;
            }
            let since = *self.behind.entry(*place).or_insert(now);
            let lasted = now.saturating_duration_since(since);
            if lasted >= patience {
                let place = *place;
                return Some(Stall { place, lasted });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every ten seconds at a partition that stands at these positions and ends at 9: when it counts as stalled.
    fn stalled(positions: &[i64], told: &Told) -> Option<usize> {
        let begun = Instant::now();
        let mut stalls = Stalls::new(begun);
        for (at, position) in positions.iter().enumerate() {
            let now = begun + EVERY * u32::try_from(at + 1).unwrap();
            let silent = stalls.silent(now, &Positions::from([(3, *position)]));
            let ends = silent.iter().map(|place| (*place, 9)).collect();
            if let Some(stall) = stalls.look(now, &ends, told) {
                assert_eq!(stall.place, 3);
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn a_partition_that_stays_behind_is_found() {
        // The second look is the first that sees it stand still.
        assert_eq!(stalled(&[5; 10], &Told::default()), Some(4));
        let mut busy = Told::default();
        busy.is_queued = true;
        assert_eq!(stalled(&[5; 20], &busy), Some(13));
    }

    #[test]
    fn who_moves_or_has_everything_is_left_alone() {
        let told = Told::default();
        assert_eq!(stalled(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3], &told), None);
        assert_eq!(stalled(&[9; 20], &told), None);
        let mut fetched = Told::default();
        fetched.fetched.insert(3, 9);
        assert_eq!(stalled(&[5; 20], &fetched), None);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let begun = Instant::now();
        let mut stalls = Stalls::new(begun);
        let (standing, ends) = (Positions::from([(3, 5)]), Positions::from([(3, 9)]));
        let mut look = |seconds| {
            let now = begun + Duration::from_secs(seconds);
            let silent = stalls.silent(now, &standing);
            match silent.is_empty() {
                true => None,
                false => stalls.look(now, &ends, &Told::default()),
            }
        };
        assert_eq!(look(10), None);
        assert_eq!(look(20), None);
        // The memory's budget, or a record that waited for its schema, held everything up.
        assert_eq!(look(300), None);
        assert_eq!(look(320), None);
        let stall = look(330);
        assert_eq!(stall.map(|stall| stall.lasted.as_secs()), Some(30));
    }

    #[test]
    fn nobody_is_asked_between_looks() {
        let begun = Instant::now();
        let mut stalls = Stalls::new(begun);
        let standing = Positions::from([(3, 5)]);
        assert!(stalls.silent(begun + EVERY, &standing).is_empty());
        assert!(stalls.silent(begun + EVERY * 3 / 2, &standing).is_empty());
        assert_eq!(stalls.silent(begun + EVERY * 2, &standing), [3]);
    }
}
