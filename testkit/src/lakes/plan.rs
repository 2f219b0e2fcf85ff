//! What goes wrong in a seed. Pure: the same seed is the same plan.

use std::fmt;

/// Where in the life of a write it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Workers read and write; the first file is on its way.
    Staging,
    /// A file is whole in the store, and nobody has been told of it.
    Staged,
    /// The log's entry is on its way.
    Commit,
    /// The same, and it has not landed.
    BeforePut,
    /// It has landed, and the master does not know.
    AfterPut,
    /// Plain Parquet: the record is in, its files are not yet where listers look.
    Publishing,
    /// A new table: its log is in, its name is on its way to the catalog.
    Naming,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of a worker: the one whose call it is, where it is a worker's.
    WorkerKilled,
    /// SIGKILL of the master, which is started again.
    MasterKilled,
    /// The same, and its last call lands when the next master is there.
    MasterKilledLandsLater,
    /// 503, although it landed.
    LandedThenFailed,
    /// 429, again and again.
    Busy,
    /// No answer until the client gives up; later it lands all the same.
    LandsLater,
    /// The same of every try, so that nobody can say what became of it.
    NeverAnswered,
    /// An answer that begins and does not end, or lands and is not told.
    Stalls,
}

/// How the table keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Delta.
    Delta,
    /// Plain Parquet.
    Parquet,
}

/// What writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `INSERT INTO t SELECT … FROM t`.
    Insert,
    /// `CREATE TABLE … AS SELECT`.
    CreateAs,
    /// `DELETE`.
    Delete,
    /// `UPDATE`.
    Update,
    /// `MERGE INTO`.
    Merge,
    /// `INSERT OVERWRITE`.
    Overwrite,
    /// `OPTIMIZE`.
    Optimize,
}

/// One seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub seed: u64,
    /// When.
    pub step: Step,
    /// What.
    pub fault: Fault,
    /// Of what.
    pub format: Format,
    /// By what.
    pub kind: Kind,
    /// With the clients' own time-out of half a minute, and a landing after a whole one.
    pub real_minute: bool,
}

/// What can happen when. Left out is what cannot: nothing is read or written between staging and commit but by
/// the master, and a worker has no part in publishing and naming.
pub const PAIRS: [(Step, Fault); 27] = [
    (Step::Staging, Fault::WorkerKilled),
    (Step::Staging, Fault::MasterKilled),
    (Step::Staging, Fault::LandedThenFailed),
    (Step::Staging, Fault::Busy),
    (Step::Staging, Fault::LandsLater),
    (Step::Staging, Fault::Stalls),
    (Step::Staged, Fault::WorkerKilled),
    (Step::Staged, Fault::MasterKilled),
    (Step::Staged, Fault::Busy),
    (Step::Staged, Fault::Stalls),
    (Step::Commit, Fault::WorkerKilled),
    (Step::Commit, Fault::LandedThenFailed),
    (Step::Commit, Fault::Busy),
    (Step::Commit, Fault::LandsLater),
    (Step::Commit, Fault::Stalls),
    (Step::Commit, Fault::NeverAnswered),
    (Step::BeforePut, Fault::MasterKilled),
    (Step::BeforePut, Fault::MasterKilledLandsLater),
    (Step::AfterPut, Fault::MasterKilled),
    (Step::Publishing, Fault::MasterKilled),
    (Step::Publishing, Fault::LandedThenFailed),
    (Step::Publishing, Fault::Busy),
    (Step::Publishing, Fault::LandsLater),
    (Step::Publishing, Fault::Stalls),
    (Step::Naming, Fault::MasterKilled),
    (Step::Naming, Fault::LandedThenFailed),
    (Step::Naming, Fault::LandsLater),
];

const OF_DELTA: [Kind; 7] = [
    Kind::Insert,
    Kind::CreateAs,
    Kind::Delete,
    Kind::Update,
    Kind::Merge,
    Kind::Overwrite,
    Kind::Optimize,
];

const OF_PARQUET: [Kind; 3] = [Kind::Insert, Kind::CreateAs, Kind::Overwrite];

impl Plan {
    /// The plan of a seed. As many seeds as there are pairs in a row have each pair once.
    pub fn of(seed: u64) -> Self {
        let pairs = PAIRS.len() as u64;
        let (round, place) = (seed / pairs, (seed % pairs) as usize);
        let (step, fault) = PAIRS[place];
        // Both formats and all statements come to each pair in turn, each pair beginning at another.
        let turn = round + place as u64;
        let format = match step {
            Step::Publishing => Format::Parquet,
            _ if turn % 3 == 2 => Format::Parquet,
            _ => Format::Delta,
        };
        let kind = match (step, format) {
            (Step::Naming, _) => Kind::CreateAs,
            (Step::Publishing, _) => OF_PARQUET[(turn % 3) as usize],
            (_, Format::Parquet) => OF_PARQUET[(turn / 3 % 3) as usize],
            (_, Format::Delta) => OF_DELTA[((turn - turn / 3) % 7) as usize],
        };
        Self {
            seed,
            step,
            fault,
            format,
            kind,
            real_minute: false,
        }
    }

    /// The table of the seed.
    pub fn table(&self) -> String {
        format!("t{}", self.seed)
    }

    /// The table that the statement writes.
    pub fn target(&self) -> String {
        match self.kind {
            Kind::CreateAs => format!("{}_new", self.table()),
            _ => self.table(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = match self.real_minute {
            true => ", a minute",
            false => "",
        };
        write!(
            f,
            "{:?} of {:?}: {:?} {:?}{minute}",
            self.kind, self.format, self.step, self.fault
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn two_hundred_seeds_have_every_pair_five_times_and_more() {
        let mut counts = BTreeMap::new();
        for seed in 0..200 {
            let plan = Plan::of(seed);
            *counts.entry((plan.step, plan.fault)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), PAIRS.len());
        assert!(counts.values().all(|count| *count >= 5), "{counts:?}");
    }

    #[test]
    fn every_statement_comes_and_a_third_is_plain_parquet() {
        let plans: Vec<Plan> = (0..200).map(Plan::of).collect();
        let kinds: BTreeSet<_> = plans.iter().map(|plan| (plan.format, plan.kind)).collect();
        assert_eq!(kinds.len(), 10);
        let plain = plans.iter().filter(|plan| plan.format == Format::Parquet);
        assert!((60..100).contains(&plain.count()));
    }
}
