//! What a schedule is played with: dice, tables, workers and what is between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drumline_proto::v1::Offer;

use crate::streams::Partition;
use crate::streams::coordinator::CommitId;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) version: u64,
    pub(super) offsets: BTreeMap<i32, i64>,
    pub(super) rows: BTreeMap<(i32, i64), u32>,
    /// Commits that are in, by what made them.
    pub(super) landed: BTreeSet<Attempt>,
    pub(super) records: BTreeMap<u64, Record>,
}

/// What one version of a table did.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) ranges: Vec<(i32, i64, i64)>,
    pub(super) rows: Vec<(i32, i64)>,
}

/// What tells one commit of one table from all others: the generation of its master and the offer.
pub(super) type Attempt = (u64, CommitId);

/// Where each table goes on, by partition.
pub(super) type Starts = BTreeMap<i32, BTreeMap<String, i64>>;

#[derive(Debug)]
pub(super) enum ToWorker {
    Assign {
        epoch: u64,
        starts: Starts,
    },
    Revoke {
        epoch: u64,
    },
    Answer {
        epoch: u64,
        id: u64,
        committed: bool,
    },
}

/// What a worker reads of one partition.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) next: i64,
    /// Where each table goes on.
    pub(super) tables: [i64; 2],
    /// Where each table went on when reading began: what its files leave out.
    pub(super) starts: [i64; 2],
}

#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) epoch: u64,
    pub(super) partitions: BTreeMap<i32, Reading>,
    /// The open offer, and how far it reaches.
    pub(super) open: Option<(u64, BTreeMap<i32, i64>)>,
    pub(super) offers: u64,
}

#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) is_alive: bool,
    pub(super) is_frozen: bool,
    /// The master has it as a member.
    pub(super) is_member: bool,
    /// Its call to the master is open, as it sees it.
    pub(super) is_connected: bool,
    pub(super) share: Option<Share>,
    pub(super) inbox: VecDeque<ToWorker>,
    pub(super) outbox: VecDeque<(Offer, Rows)>,
}

/// An offer's files, and the epoch that they were made under.
pub(super) type Files = (Rows, u64);

/// Rows that an offer's files hold, by table.
pub(super) type Rows = [Vec<(i32, i64)>; 2];

#[derive(Debug, Clone, Copy)]
pub(super) enum Commit {
    /// The snapshot is read, and the ranges are held against it.
    Deciding,
    /// A put for this version is under way.
    Putting { version: u64 },
}

#[derive(Debug, Clone)]
pub(super) struct Committing {
    pub(super) generation: u64,
    pub(super) commit: CommitId,
    pub(super) offer: Offer,
    pub(super) rows: Rows,
    pub(super) at: usize,
    pub(super) state: Commit,
}

#[derive(Debug)]
pub(super) struct Read {
    pub(super) read: u64,
    /// How many late puts had landed when it began.
    pub(super) late_puts: u64,
    pub(super) found: BTreeMap<String, BTreeMap<Partition, i64>>,
}

impl Table {
    pub(super) fn land(
        &mut self,
        version: u64,
        attempt: Attempt,
        ranges: &[(i32, i64, i64)],
        rows: &[(i32, i64)],
    ) -> Result<(), String> {
        self.version = self.version.max(version);
        self.landed.insert(attempt);
        let record = Record {
            ranges: ranges.to_vec(),
            rows: rows.to_vec(),
        };
        if let Some(before) = self.records.insert(version, record) {
            // Written over: what it held was never there.
            for at in &before.rows {
                if let Some(times) = self.rows.get_mut(at) {
                    *times -= 1;
                }
            }
            self.offsets.clear();
        }
        for record in self.records.values() {
            for (partition, _, to) in &record.ranges {
                self.offsets.insert(*partition, *to);
            }
        }
        for at in rows {
            let times = self.rows.entry(*at).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("record {}/{} is there twice", at.0, at.1));
            }
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn working(&mut self) -> Option<&mut Share> {
        match self.is_alive && !self.is_frozen && self.is_connected {
            true => self.share.as_mut(),
            false => None,
        }
    }

    /// Its call is over: whatever was assigned over it is void, as soon as it can see that.
    pub(super) fn hang_up(&mut self) {
        if !self.is_frozen {
            self.share = None;
            self.is_connected = false;
            self.outbox.clear();
        }
    }
}

impl Share {
    /// What is offered counts as held.
    pub(super) fn settle(&mut self) {
        let Some((_, reach)) = &self.open else { return };
        for (partition, to) in reach {
            if let Some(reading) = self.partitions.get_mut(partition) {
                reading.tables = reading.tables.map(|held| held.max(*to));
            }
        }
    }
}
