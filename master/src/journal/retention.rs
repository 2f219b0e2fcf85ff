//! What the journal lets go of: decided purely, by age and by size.

use std::time::Duration;

use super::lines::LineFile;

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// What ended longer ago is dropped.
    pub(crate) age: Duration,
    /// Bytes of facts; above them the oldest that is over is dropped.
    pub(crate) bytes: u64,
}

/// Facts that are kept or dropped together: those of an application, or those of an hour that belong to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Nothing more comes to it.
    pub(super) is_over: bool,
    /// Of its newest fact, in milliseconds since 1970.
    pub(super) last_at: i64,
    pub(super) bytes: u64,
}

/// The groups to drop: all that are over and too old, then the oldest until the rest is small enough.
pub(super) fn overdue<Key: Clone + Ord>(
    now: i64,
    limits: Limits,
    groups: &std::collections::BTreeMap<Key, Group>,
) -> Vec<Key> {
    let mut total: u64 = groups.values().map(|group| group.bytes).sum();
    let mut over: Vec<(i64, &Key, u64)> = groups
        .iter()
        .filter(|(_, group)| group.is_over)
        .map(|(key, group)| (group.last_at, key, group.bytes))
        .collect();
    over.sort_unstable();
    let oldest = oldest(now, limits);
    let mut dropped = Vec::new();
    for (last_at, key, bytes) in over {
        if last_at >= oldest && total <= limits.bytes {
            break;
        }
        total -= bytes;
        dropped.push(key.clone());
    }
    dropped
}

/// How many of the oldest files of lines to remove. The newest stays, and so does every file with facts from
/// `needed` on: of applications that are not over.
pub(super) fn old_files(now: i64, limits: Limits, needed: u64, files: &[LineFile]) -> usize {
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    let oldest = oldest(now, limits);
    let mut count = 0;
    for file in files.iter().take(files.len().saturating_sub(1)) {
        let is_due = file.last_at < oldest || total > limits.bytes;
        if !is_due || file.last_sequence >= needed {
            break;
        }
        total -= file.bytes;
        count += 1;
    }
    count
}

fn oldest(now: i64, limits: Limits) -> i64 {
    let age = i64::try_from(limits.age.as_millis()).unwrap_or(i64::MAX);
    now.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LIMITS: Limits = Limits {
        age: Duration::from_millis(100),
        bytes: 50,
    };

    fn group(is_over: bool, last_at: i64, bytes: u64) -> Group {
        Group {
            is_over,
            last_at,
            bytes,
        }
    }

    #[test]
    fn what_is_over_and_old_goes_and_what_runs_stays() {
        let groups = BTreeMap::from([
            ("old", group(true, 899, 1)),
            ("runs since long", group(false, 1, 1)),
            ("young", group(true, 900, 1)),
        ]);
        assert_eq!(overdue(1000, LIMITS, &groups), ["old"]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_is_small_enough() {
        let groups = BTreeMap::from([
            ("a", group(true, 990, 30)),
            ("b", group(true, 980, 30)),
            ("c", group(true, 970, 30)),
            ("runs", group(false, 1, 10)),
        ]);
        assert_eq!(overdue(1000, LIMITS, &groups), ["c", "b"]);
        let only_running = BTreeMap::from([("runs", group(false, 1, 1000))]);
        assert!(overdue(1000, LIMITS, &only_running).is_empty());
    }

    #[test]
    fn files_go_from_the_oldest_but_never_the_newest_nor_one_that_is_needed() {
        let file = |number: u64, bytes, last_at| LineFile {
            path: Default::default(),
            number,
            bytes,
            last_sequence: number * 10,
            last_at,
        };
        let files = [file(1, 5, 10), file(2, 5, 20), file(3, 5, 30)];
        assert_eq!(old_files(1000, LIMITS, u64::MAX, &files), 2);
        assert_eq!(old_files(1000, LIMITS, 20, &files), 1);
        assert_eq!(old_files(115, LIMITS, u64::MAX, &files), 1);
        let large = [file(1, 30, 990), file(2, 30, 990), file(3, 30, 990)];
        assert_eq!(old_files(1000, LIMITS, u64::MAX, &large), 2);
        assert_eq!(old_files(1000, LIMITS, u64::MAX, &[]), 0);
    }
}
