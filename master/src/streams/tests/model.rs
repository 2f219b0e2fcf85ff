//! Random workers and commits: whatever happens in whatever order, the invariants hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use drumline_proto::v1::Offer;
use proptest::prelude::*;

use super::super::coordinator::{Action, CommitId, Coordinator, Event};
use super::super::stream::Phase;
use super::super::{Partition, TableOffsets};
use super::{came, gone, offer, partition, put};

/// A cluster in miniature: workers that offer, commits that end late and sometimes fail, tables that
/// take a commit only where its range begins at their own offset.
#[derive(Default)]
struct Model {
    held: BTreeMap<Partition, i64>,
    shares: BTreeMap<String, (u64, BTreeMap<Partition, i64>)>,
    commits: Vec<(CommitId, Offer)>,
    reads: Vec<u64>,
    next_offer: u64,
    alive: BTreeSet<String>,
}

impl Model {
    fn offsets(&self) -> TableOffsets {
        TableOffsets(BTreeMap::from([
            ("t".to_owned(), self.held.clone()),
            ("dead".to_owned(), self.held.clone()),
        ]))
    }

    fn take(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::ReadTables { read, .. } => self.reads.push(read),
                Action::AssignPartitions {
                    worker,
                    epoch,
                    partitions,
                    offsets,
                    ..
                } => {
                    let targets = BTreeSet::from(["t".to_owned(), "dead".to_owned()]);
                    for partition in &partitions {
                        for (other, (_, held)) in &self.shares {
                            let doubled = other != &worker && held.contains_key(partition);
                            prop_assert!(!doubled, "{partition:?} is held by {other} and {worker}");
                        }
                        let from = offsets.resume_from(partition, &targets).unwrap_or(0);
                        let held = self.held.get(partition).copied().unwrap_or(0);
                        prop_assert_eq!(from, held, "assigned from an offset that has moved");
                    }
                    let positions = partitions
                        .into_iter()
                        .map(|p| {
                            let from = offsets.resume_from(&p, &targets).unwrap_or(0);
                            (p, from)
                        })
                        .collect();
                    self.shares.insert(worker, (epoch, positions));
                }
                Action::RevokeEpoch { worker, .. } => {
                    self.shares.remove(&worker);
                }
                Action::CommitOffer { commit, offer, .. } => {
                    let current = self
                        .shares
                        .get(&commit.worker)
                        .is_some_and(|s| s.0 == commit.epoch);
                    prop_assert!(current, "a revoked epoch got to commit");
                    self.commits.push((commit, offer));
                }
                Action::ProbeStream { .. }
                | Action::ConfirmHold { .. }
                | Action::AnswerOffer { .. } => {}
            }
        }
        Ok(())
    }

    /// Lands the oldest commit, as the lake would: only from the table's own offset.
    fn land(&mut self, succeed: bool) -> Option<Event> {
        if self.commits.is_empty() {
            return None;
        }
        let (commit, offer) = self.commits.remove(0);
        let ranges = &offer.tables[0].ranges;
        let fits = ranges.iter().all(|range| {
            self.held
                .get(&partition(range.partition))
                .copied()
                .unwrap_or(0)
                == range.from
        });
        let result = match succeed && fits {
            true => {
                for range in ranges {
                    self.held.insert(partition(range.partition), range.to);
                }
                Ok(self.offsets())
            }
            false => Err("moved".to_owned()),
        };
        Some(Event::CommitEnded {
            stream: "s".to_owned(),
            commit,
            result,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Workers come, go, offer and fall silent in any order; commits end late or fail: no partition is
    /// ever held twice, no revoked epoch commits, and nobody starts from an offset that has moved.
    #[test]
    fn partitions_move_only_between_commits(steps in proptest::collection::vec((0u8..9, 0usize..3), 1..150)) {
        let mut now = Instant::now();
        let mut coordinator = Coordinator::new(1);
        let mut model = Model::default();
        let actions = coordinator.step(now, put(5));
        model.take(actions)?;
        for (kind, pick) in steps {
            now += Duration::from_millis(700);
            let worker = ["a", "b", "c"][pick].to_owned();
            let event = match kind {
                0 if model.alive.insert(worker.clone()) => came(&worker),
                1 if model.alive.remove(&worker) => {
                    model.shares.remove(&worker);
                    gone(&worker)
                }
                2..=4 => {
                    let Some((epoch, positions)) = model.shares.get_mut(&worker) else { continue };
                    // One open offer per worker, as workers do.
                    if model.commits.iter().any(|(commit, _)| commit.worker == worker) { continue }
                    let ranges: Vec<_> = positions
                        .iter_mut()
                        .map(|(p, at)| { let from = *at; *at += 3; (p.partition, from, *at) })
                        .collect();
                    model.next_offer += 1;
                    let offer = offer(*epoch, model.next_offer, &ranges);
                    Event::Offered { worker, offer }
                }
                5 => match model.land(true) { Some(event) => event, None => continue },
                6 if pick == 0 => match model.land(false) { Some(event) => event, None => continue },
                7 => {
                    if model.reads.is_empty() { continue }
                    let read = model.reads.remove(0);
                    Event::TablesRead { stream: "s".to_owned(), read, result: Ok(model.offsets()) }
                }
                _ => Event::Tick,
            };
            let actions = coordinator.step(now, event);
            model.take(actions)?;
            let stream = &coordinator.streams()["s"];
            if stream.phase == Phase::Running {
                let held = stream.shares.values().map(|share| share.partitions.len());
                prop_assert_eq!(held.sum::<usize>(), 5, "a partition is with nobody");
            }
        }
    }
}
