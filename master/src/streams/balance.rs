//! Which worker reads which partition: even, and with as few moves as evenness allows.

use std::collections::{BTreeMap, BTreeSet};

use super::Partition;

/// Shares `partitions` among `workers`; what a worker holds in `current` it keeps where it can.
///
/// Every partition goes to exactly one worker and the shares differ by at most one. Without workers
/// the result is empty.
pub(crate) fn balance(
    partitions: &BTreeSet<Partition>,
    workers: &BTreeSet<String>,
    current: &BTreeMap<String, BTreeSet<Partition>>,
) -> BTreeMap<String, BTreeSet<Partition>> {
    if workers.is_empty() {
        return BTreeMap::new();
    }
    let least = partitions.len() / workers.len();
    // This many workers hold one more than the least.
    let mut larger = partitions.len() % workers.len();

    // Those that hold the most keep the larger shares, so that fewer partitions move.
    let held = |worker: &String| {
        current
            .get(worker)
            .map_or(0, |held| held.intersection(partitions).count())
    };
    let mut by_holding: Vec<&String> = workers.iter().collect();
    by_holding.sort_by_key(|worker| std::cmp::Reverse(held(worker)));

    let mut shares: BTreeMap<String, BTreeSet<Partition>> = BTreeMap::new();
    let mut quotas = BTreeMap::new();
    let mut free = partitions.clone();
    for worker in by_holding {
        let quota = least + usize::from(larger > 0);
        larger = larger.saturating_sub(1);
        let kept: BTreeSet<Partition> = current
            .get(worker)
            .into_iter()
            .flatten()
            .filter(|partition| free.contains(*partition))
            .take(quota)
            .cloned()
            .collect();
        free.retain(|partition| !kept.contains(partition));
        shares.insert(worker.clone(), kept);
        quotas.insert(worker.clone(), quota);
    }

    // By partition number first, so that each topic spreads over the workers.
    let mut free: Vec<Partition> = free.into_iter().collect();
    free.sort_by(|a, b| (a.partition, &a.topic).cmp(&(b.partition, &b.topic)));
    for partition in free {
        let emptiest = shares
            .iter_mut()
            .filter(|(worker, share)| share.len() < quotas[*worker])
            .min_by_key(|(_, share)| share.len());
        if let Some((_, share)) = emptiest {
            share.insert(partition);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(numbers: impl IntoIterator<Item = i32>) -> BTreeSet<Partition> {
        numbers
            .into_iter()
            .map(|partition| Partition {
                topic: "t".to_owned(),
                partition,
            })
            .collect()
    }

    fn names(count: usize) -> BTreeSet<String> {
        (0..count).map(|n| format!("w{n}")).collect()
    }

    #[test]
    fn lost_worker_moves_only_its_own_partitions() {
        let before = balance(&set(0..6), &names(3), &BTreeMap::new());
        let mut left = names(3);
        left.remove("w1");
        let after = balance(&set(0..6), &left, &before);
        for worker in &left {
            assert!(
                before[worker].is_subset(&after[worker]),
                "{worker} lost a partition it held"
            );
        }
    }

    proptest! {
        #[test]
        fn every_partition_has_one_worker_and_shares_are_even(
            partitions in proptest::collection::btree_set(0i32..64, 0..64),
            workers in 1usize..9,
            before in 1usize..9,
        ) {
            let partitions = set(partitions);
            let current = balance(&partitions, &names(before), &BTreeMap::new());
            let shares = balance(&partitions, &names(workers), &current);
            let all: Vec<&Partition> = shares.values().flatten().collect();
            prop_assert_eq!(all.len(), partitions.len());
            prop_assert_eq!(all.into_iter().cloned().collect::<BTreeSet<_>>(), partitions);
            let sizes: Vec<usize> = shares.values().map(BTreeSet::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }

        #[test]
        fn balanced_shares_stay_as_they_are(count in 0i32..64, workers in 1usize..9) {
            let shares = balance(&set(0..count), &names(workers), &BTreeMap::new());
            prop_assert_eq!(balance(&set(0..count), &names(workers), &shares), shares);
        }
    }
}
