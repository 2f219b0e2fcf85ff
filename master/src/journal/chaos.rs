//! Damages journals at random, and counts what is there afterwards.
//!
//! `cargo xtask chaos journal --seeds 10000` runs as many; the tests of every day run some.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::tests::{LIMITS, accepted};
use super::*;
use crate::facts::Event;

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Database,
    Lines,
    Both,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn each_seed(victim: Victim) {
    let from = number("DRUMLINE_FROM_SEED", 0);
    let seeds = number("DRUMLINE_SEEDS", 70);
    let mut found = 0;
    for seed in from..from + seeds {
        found += u64::from(one(seed, victim));
        if seed % 1000 == 999 {
            println!("{victim:?}: seed {seed} is done, damage was reported {found} times");
        }
    }
    println!("{victim:?}: {seeds} seeds from {from}, damage was reported {found} times");
    assert!(
        found * 3 > seeds,
        "most damage goes unnoticed: {found} of {seeds}"
    );
}

/// One journal; whether its damage was reported.
fn one(seed: u64, victim: Victim) -> bool {
    let mut random = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir_in(shared_memory()).unwrap();
    let mut opened = open(folder.path(), LIMITS).unwrap();
    // What was acknowledged, and how long the lines were then.
    let mut acknowledged = BTreeMap::new();
    let mut sequence = 0;
    for _ in 0..random.random_range(1..8) {
        let batch: Vec<Arc<Fact>> = (0..random.random_range(1..12))
            .map(|_| {
                sequence += random.random_range(1..4);
                Arc::new(Fact {
                    sequence,
                    at: sequence as i64,
                    event: some_event(&mut random, sequence),
                })
            })
            .collect();
        opened.ledger.write(&batch).unwrap();
        let length = fs::metadata(lines(folder.path())).unwrap().len();
        for fact in batch {
            acknowledged.insert(fact.sequence, (Fact::clone(&fact), length));
        }
    }
    // As a killed process leaves it, or as one that was stopped.
    let killed = random.random_bool(0.5).then(|| copy(folder.path()));
    drop(opened);
    let folder = killed.unwrap_or(folder);
    let path = folder.path();

    let mut intact = u64::MAX;
    if victim != Victim::Lines {
        damage(&mut random, &path.join("journal.redb"));
    }
    if victim != Victim::Database {
        intact = damage(&mut random, &lines(path));
    }
    let opened = open(path, LIMITS).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let kept: BTreeMap<u64, Fact> = opened
        .facts
        .iter()
        .map(|fact| (fact.sequence, fact.clone()))
        .collect();
    let mut missing = 0;
    for (sequence, (fact, length)) in &acknowledged {
        match kept.get(sequence) {
            Some(found) => assert_eq!(found, fact, "seed {seed}"),
            None => {
                missing += 1;
                assert_eq!(victim, Victim::Both, "seed {seed}: fact {sequence} is gone");
                assert!(
                    *length > intact,
                    "seed {seed}: fact {sequence} was before the damage"
                );
            }
        }
    }
    assert_eq!(
        kept.len() + missing,
        acknowledged.len(),
        "seed {seed}: facts from nowhere"
    );
    if missing > 0 {
        assert!(
            opened.repaired.is_some(),
            "seed {seed}: {missing} facts went without a word"
        );
    }
    let repaired = opened.repaired.clone();
    if let Some(repaired) = &repaired {
        assert_eq!(repaired.kept as usize, kept.len(), "seed {seed}");
        assert!(
            repaired.dropped as usize <= missing.max(1),
            "seed {seed}: {repaired:?}, {missing}"
        );
    }
    // It is whole from now on, and takes more.
    let mut opened = opened;
    let fact = Arc::new(Fact {
        sequence: sequence + 1,
        at: 0,
        event: some_event(&mut random, 1),
    });
    opened.ledger.write(&[fact]).unwrap();
    drop(opened);
    let again = open(path, LIMITS).unwrap();
    assert_eq!(again.repaired, None, "seed {seed}: repaired twice");
    assert_eq!(again.facts.len(), kept.len() + 1, "seed {seed}");
    repaired.is_some()
}

fn some_event(random: &mut SmallRng, sequence: u64) -> Event {
    match random.random_range(0..4) {
        0 => accepted(&format!("application-{sequence}")),
        1 => Event::StreamDeleted {
            stream: "{\"sequence\":1,".repeat(random.random_range(0..4)),
        },
        2 => Event::StatementStarted {
            application: "a".to_owned(),
            statement: 1,
            // Long enough for pages of their own.
            sql: "SELECT '\\\"}{ü'; ".repeat(random.random_range(0..800)),
        },
        _ => Event::WorkerLeft {
            worker: "w".to_owned(),
            clean: random.random(),
            reason: "it went silent".to_owned(),
        },
    }
}

/// Truncates, or flips bits, in a file's tail; gives where the damage begins.
fn damage(random: &mut SmallRng, path: &Path) -> u64 {
    let mut bytes = fs::read(path).unwrap();
    let tail = random.random_range(0..bytes.len());
    let mut first = tail;
    if random.random_bool(0.4) {
        bytes.truncate(tail);
    } else {
        first = bytes.len();
        for _ in 0..random.random_range(1..20) {
            let at = random.random_range(tail..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            first = first.min(at);
        }
    }
    fs::write(path, bytes).unwrap();
    first as u64
}

fn lines(folder: &Path) -> PathBuf {
    folder.join("events/00000001.jsonl")
}

fn copy(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir_in(shared_memory()).unwrap();
    fs::create_dir(to.path().join("events")).unwrap();
    fs::copy(folder.join("journal.redb"), to.path().join("journal.redb")).unwrap();
    fs::copy(lines(folder), lines(to.path())).unwrap();
    let mark = "journal.mark";
    fs::copy(folder.join(mark), to.path().join(mark)).unwrap();
    to
}

/// Thousands of journals need no disk.
fn shared_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    match memory.is_dir() {
        true => memory,
        false => std::env::temp_dir(),
    }
}

#[test]
fn a_damaged_database_loses_nothing_that_was_acknowledged() {
    each_seed(Victim::Database);
}

#[test]
fn damaged_lines_lose_nothing_that_was_acknowledged() {
    each_seed(Victim::Lines);
}

#[test]
fn where_both_are_damaged_all_before_the_damage_is_kept_and_the_rest_is_told() {
    each_seed(Victim::Both);
}
