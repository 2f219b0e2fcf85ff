//! A whole cluster in one thread: the real coordinator, workers that read and offer as `ingest` does, tables that
//! commit as `lake` does, and every order that messages, commits and losses can take.
//!
//! A schedule is made from one number. Masters and workers die, freeze and come back; messages wait, arrive late
//! or never; a put lands, does not, or lands after its master is gone; others rewrite tables. At the end faults stop
//! and everything must be read: each record in its table once.
//!
//! `cargo xtask chaos schedules --seeds N` runs N of them. What protects the rows is taken away, one guard at a
//! time, by [`Without`]: each must show (`every_guard_is_missed`). No switch for it is in the product: the
//! simulation leaves out what the world around the coordinator does, or tells it what is not so.

mod parts;
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use self::parts::{Dice, Worker};
use self::world::World;
use super::put;
use crate::streams::coordinator::Coordinator;

const PARTITIONS: u32 = 3;
const TABLES: [&str; 2] = ["t", "dead"];
const WORKERS: [&str; 3] = ["a", "b", "c"];
/// Steps with faults, and those after them within which all must be read.
const STEPS: usize = 700;
const QUIET_STEPS: usize = 4000;
/// Every so manieth record is a dead letter.
const DEAD: i64 = 4;

/// A guard that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// The coordinator refuses offers of a revoked epoch: here the offer says that it is of the current one.
    EpochCheck,
    /// A table refuses a range that does not begin at its own offset.
    TableOffsetCheck,
    /// Shares go out only after commits of revoked epochs have ended: here each is said to have ended at once.
    WaitingForCommits,
    /// A worker leaves out what a table already has.
    OwnOffsets,
    /// A commit's put creates, and never overwrites.
    CreateOnlyPut,
    /// Tables read before the last change of shares are too old: here they are said to be the newest.
    FreshReads,
    /// A worker moves a table's position when the commit is answered, not when it is offered.
    AnswerFirst,
    /// A lost answer of the store is followed by a look whether the put landed.
    LookAfterDoubt,
}

const GUARDS: [Without; 8] = [
    Without::EpochCheck,
    Without::TableOffsetCheck,
    Without::WaitingForCommits,
    Without::OwnOffsets,
    Without::CreateOnlyPut,
    Without::FreshReads,
    Without::AnswerFirst,
    Without::LookAfterDoubt,
];

/// What a schedule came to.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    commits: u64,
    refused: u64,
    late_puts: u64,
    masters: u64,
    losses: u64,
    rows: u64,
}

/// One schedule. The error says what was broken.
fn play(seed: u64, without: Without) -> Result<Seen, String> {
    let mut world = World {
        dice: Dice(seed),
        without,
        now: Instant::now(),
        generation: 0,
        coordinator: Coordinator::new(1),
        tables: Default::default(),
        ends: vec![0; PARTITIONS as usize],
        workers: WORKERS.map(|name| (name, Worker::default())).into(),
        commits: Vec::new(),
        offered: BTreeMap::new(),
        granted: BTreeMap::new(),
        reads: Vec::new(),
        assigning: Vec::new(),
        read_at: 0,
        faults: true,
        seen: Seen::default(),
    };
    world.tell(put(PARTITIONS))?;
    for _ in 0..STEPS {
        world.step()?;
    }
    world.faults = false;
    for _ in 0..QUIET_STEPS {
        if world.is_read() {
            return world.count();
        }
        world.step()?;
    }
    Err("faults ended, and not everything was ever read".to_owned())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_schedule_leaves_each_record_in_its_table_once() {
    let from = number("DRUMLINE_FROM_SEED").unwrap_or(0);
    let seeds = number("DRUMLINE_SEEDS").unwrap_or(1500);
    let mut all = Seen::default();
    for seed in from..from + seeds {
        let seen = play(seed, Without::Nothing).unwrap_or_else(|what| {
            panic!("seed {seed}: {what}; again with DRUMLINE_FROM_SEED={seed}")
        });
        all.commits += seen.commits;
        all.refused += seen.refused;
        all.late_puts += seen.late_puts;
        all.masters += seen.masters;
        all.losses += seen.losses;
        all.rows += seen.rows;
    }
    println!("{seeds} schedules from seed {from}: {all:?}");
    // A world in which nothing happens proves nothing.
    assert!(all.commits > seeds && all.rows > seeds, "{all:?}");
    if seeds >= 1000 {
        assert!(all.late_puts > 0 && all.refused > 0, "{all:?}");
        assert!(all.masters > 0 && all.losses > 0, "{all:?}");
    }
}

#[test]
fn every_guard_is_missed() {
    for without in GUARDS {
        let missed = (0..20_000).find_map(|seed| {
            let broken = play(seed, without).err()?;
            Some((seed, broken))
        });
        let (seed, broken) = missed.unwrap_or_else(|| panic!("nobody misses {without:?}"));
        println!("without {without:?}: seed {seed}: {broken}");
    }
}
