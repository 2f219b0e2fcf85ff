//! One memory budget for all streams of a worker: whose open files are closed early, and who waits. Pure.
//!
//! Every topic of every assignment is a holder: what it reads ahead is fixed when it starts, what its open and
//! closing files hold changes. When they come near the limit, the holder whose open files hold the most closes the
//! largest of them; when they pass it, all take no more records until there is room again.
//!
//! Invariants (property-tested below): nobody waits unless memory is about to come back; at most one order to
//! shrink is open per holder; without holders above the limit nothing is ordered.

mod share;

use std::collections::BTreeMap;

pub(crate) use share::{Budget, Order, Share};

/// What a topic can read ahead at least.
pub(crate) const LEAST_AHEAD: u64 = 1 << 20;

/// Names a holder.
pub(crate) type Id = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A topic begins to read, with so many bytes that it may read ahead.
    Came {
        id: Id,
        ahead: u64,
    },
    /// What its open files hold, and those that are being closed.
    Holds {
        id: Id,
        open: u64,
        closing: u64,
    },
    /// It has closed what it was told to.
    Shrunk {
        id: Id,
        open: u64,
        closing: u64,
    },
    Gone {
        id: Id,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Close the largest open files until the others hold no more than this.
    Shrink {
        id: Id,
        to: u64,
    },
    /// Take no more records.
    Pause {
        id: Id,
    },
    Resume {
        id: Id,
    },
}

#[derive(Debug, Default)]
struct Holder {
    ahead: u64,
    open: u64,
    closing: u64,
    /// What it was told to shrink to, and has not done yet.
    shrinking: Option<u64>,
    paused: bool,
}

impl Holder {
    /// What its open files will hold once it has done what it was told.
    fn remaining(&self) -> u64 {
        self.shrinking.map_or(self.open, |to| to.min(self.open))
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    limit: u64,
    holders: BTreeMap<Id, Holder>,
}

impl Machine {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            holders: BTreeMap::new(),
        }
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> u64 {
        let all = self.holders.values();
        all.map(|holder| holder.ahead + holder.open + holder.closing)
            .sum()
    }

    /// What a topic that begins to read may read ahead: less the more there are, and half the budget together,
    /// but never so little that it does not get on.
    pub(crate) fn ahead(&self, wanted: u64) -> u64 {
        let others = self.holders.len() as u64;
        let taken: u64 = self.holders.values().map(|holder| holder.ahead).sum();
        let left = (self.limit / 2).saturating_sub(taken);
        wanted
            .min(self.limit / 4 / (others + 1))
            .min(left / 2)
            .max(LEAST_AHEAD)
    }

    pub(crate) fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Came { id, ahead } => {
                let holder = Holder {
                    ahead,
                    ..Holder::default()
                };
                self.holders.insert(id, holder);
            }
            Event::Holds { id, open, closing } => self.holds(id, open, closing),
            Event::Shrunk { id, open, closing } => {
                self.holds(id, open, closing);
                if let Some(holder) = self.holders.get_mut(&id) {
                    holder.shrinking = None;
                }
            }
            Event::Gone { id } => {
                self.holders.remove(&id);
            }
        }
        let mut actions = Vec::new();
        self.shrink(&mut actions);
        self.pause(&mut actions);
        actions
    }

    fn holds(&mut self, id: Id, open: u64, closing: u64) {
        if let Some(holder) = self.holders.get_mut(&id) {
            (holder.open, holder.closing) = (open, closing);
        }
    }

    /// Where memory is once everything that was ordered is done. What is being closed goes by itself.
    fn expected(&self) -> u64 {
        let all = self.holders.values();
        all.map(|holder| holder.ahead + holder.remaining()).sum()
    }

    fn shrink(&mut self, actions: &mut Vec<Action>) {
        if self.expected() <= self.limit / 8 * 7 {
            return;
        }
        let goal = self.limit / 4 * 3;
        loop {
            let beyond = self.expected().saturating_sub(goal);
            let largest = self
                .holders
                .iter_mut()
                .filter(|(_, holder)| holder.shrinking.is_none() && holder.open > 0)
                .max_by_key(|(_, holder)| holder.open);
            let (false, Some((id, holder))) = (beyond == 0, largest) else {
                return;
            };
            let to = holder.open.saturating_sub(beyond);
            holder.shrinking = Some(to);
            actions.push(Action::Shrink { id: *id, to });
        }
    }

    fn pause(&mut self, actions: &mut Vec<Action>) {
        let used = self.used();
        let comes_back = self
            .holders
            .values()
            .any(|holder| holder.shrinking.is_some() || holder.closing > 0);
        for (id, holder) in &mut self.holders {
            let paused = match holder.paused {
                true => comes_back && used > self.limit / 8 * 7,
                false => comes_back && used > self.limit,
            };
            if paused != holder.paused {
                holder.paused = paused;
                actions.push(match paused {
                    true => Action::Pause { id: *id },
                    false => Action::Resume { id: *id },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(id: Id, open: u64) -> Event {
        Event::Holds {
            id,
            open,
            closing: 0,
        }
    }

    fn machine(holders: u64) -> Machine {
        let mut machine = Machine::new(800);
        for id in 0..holders {
            assert_eq!(machine.step(Event::Came { id, ahead: 10 }), []);
        }
        machine
    }

    #[test]
    fn the_largest_open_files_are_closed_first() {
        let mut machine = machine(3);
        assert_eq!(machine.step(holds(0, 100)), []);
        assert_eq!(machine.step(holds(1, 300)), []);
        // 730 of 800, where 700 is near the limit: down to 600.
        let actions = machine.step(holds(2, 300));
        assert_eq!(actions, [Action::Shrink { id: 2, to: 170 }]);
        // Told once, not again with every batch.
        assert_eq!(machine.step(holds(0, 110)), []);
        let shrunk = Event::Shrunk {
            id: 2,
            open: 160,
            closing: 0,
        };
        assert_eq!(machine.step(shrunk), []);
    }

    #[test]
    fn beyond_the_limit_everybody_waits_until_there_is_room() {
        let mut machine = machine(2);
        machine.step(holds(0, 100));
        let actions = machine.step(holds(1, 750));
        let expected = [
            Action::Shrink { id: 1, to: 480 },
            Action::Pause { id: 0 },
            Action::Pause { id: 1 },
        ];
        assert_eq!(actions, expected);
        let shrunk = Event::Shrunk {
            id: 1,
            open: 480,
            closing: 0,
        };
        let expected = [Action::Resume { id: 0 }, Action::Resume { id: 1 }];
        assert_eq!(machine.step(shrunk), expected);
    }

    #[test]
    fn what_is_read_ahead_alone_stops_nobody() {
        let mut machine = Machine::new(10);
        assert_eq!(machine.step(Event::Came { id: 0, ahead: 1000 }), []);
        assert_eq!(machine.step(holds(0, 0)), []);
        assert_eq!(
            machine.step(holds(0, 1)),
            [Action::Shrink { id: 0, to: 0 }, Action::Pause { id: 0 },]
        );
        let shrunk = Event::Shrunk {
            id: 0,
            open: 0,
            closing: 0,
        };
        assert_eq!(machine.step(shrunk), [Action::Resume { id: 0 }]);
    }

    #[test]
    fn reading_ahead_is_shared() {
        const MIB: u64 = 1 << 20;
        let mut machine = Machine::new(400 * MIB);
        let mut shares = Vec::new();
        for id in 0..100 {
            let ahead = machine.ahead(60 * MIB);
            machine.step(Event::Came { id, ahead });
            shares.push(ahead / MIB);
        }
        assert_eq!(shares[..4], [60, 50, 33, 25]);
        assert_eq!(shares[99], 1);
        assert!(shares.iter().sum::<u64>() < 300, "{shares:?}");
    }

    proptest! {
        /// Holders that obey, at some time or other.
        #[test]
        fn nobody_waits_for_ever_and_the_limit_holds_but_for_one_batch(
            steps in proptest::collection::vec((0..5u8, 0..4u64, 1..60u64), 1..300),
        ) {
            const LIMIT: u64 = 1000;
            let mut machine = Machine::new(LIMIT);
            let mut open = [0u64; 4];
            let mut orders: [Option<u64>; 4] = [None; 4];
            let mut paused = [false; 4];
            let mut here = [false; 4];
            for (kind, id, amount) in steps {
                let at = usize::try_from(id).unwrap();
                let event = match kind {
                    0 if !here[at] => { here[at] = true; Event::Came { id, ahead: 20 } }
                    4 if here[at] && amount == 1 => {
                        (here[at], open[at], orders[at], paused[at]) = (false, 0, None, false);
                        Event::Gone { id }
                    }
                    1 | 2 if here[at] && !paused[at] => { open[at] += amount; Event::Holds { id, open: open[at], closing: 0 } }
                    _ => match orders[at].take() {
                        Some(to) => { open[at] = open[at].min(to); Event::Shrunk { id, open: open[at], closing: 0 } }
                        None => continue,
                    }
                };
                for action in machine.step(event) {
                    match action {
                        Action::Shrink { id, to } => {
                            let at = usize::try_from(id).unwrap();
                            prop_assert!(here[at] && orders[at].is_none() && to < open[at]);
                            orders[at] = Some(to);
                        }
                        Action::Pause { id } => { let at = usize::try_from(id).unwrap(); prop_assert!(!paused[at]); paused[at] = true; }
                        Action::Resume { id } => { let at = usize::try_from(id).unwrap(); prop_assert!(paused[at]); paused[at] = false; }
                    }
                }
                if paused.contains(&true) {
                    prop_assert!(orders.iter().any(Option::is_some), "they wait for nothing");
                }
                // One batch may be on its way when the order to wait comes, and topics that come then read ahead.
                prop_assert!(machine.used() <= LIMIT + 60 + 3 * 20, "{} held", machine.used());
            }
        }
    }
}
