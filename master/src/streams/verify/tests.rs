use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use drumline_lake::{
    Consumed, ConsumedBy, Format, MadeBy, OffsetMove, OffsetRange, RangeCounts, TableName,
    TableSnapshot,
};
use drumline_proto::v1::{CountedRecords, Violation};

use super::chain::{Chain, walk};
use super::compare::{Counted, compare, compare_letters, cuts};
use crate::streams::Partition;

fn partition(number: i32) -> Partition {
    Partition {
        topic: "t".to_owned(),
        partition: number,
    }
}

fn counts(records: u64, rows: u64, filtered: u64, dead_letters: u64) -> Option<RangeCounts> {
    Some(RangeCounts {
        records,
        rows,
        filtered,
        dead_letters,
    })
}

/// A table's log in the making.
#[derive(Default)]
struct Log {
    records: Vec<ConsumedBy>,
    offsets: BTreeMap<i32, i64>,
}

impl Log {
    /// An empty table.
    fn new() -> Self {
        let mut log = Self::default();
        log.others(0, false);
        log
    }

    /// A commit of someone else: what it adds, and whether it removes.
    fn others(&mut self, added: u64, removes: bool) {
        self.records.push(ConsumedBy {
            version: self.records.len() as u64,
            rows_added: Some(added),
            removes,
            ..ConsumedBy::default()
        });
    }

    /// A stream's commit in which every record became a row.
    fn commit(&mut self, ranges: &[(i32, i64, i64)]) {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|&(partition, from, to)| {
                let records = (to - from).unsigned_abs();
                (partition, from, to, counts(records, records, 0, 0))
            })
            .collect();
        self.commit_counted(&ranges);
    }

    fn commit_counted(&mut self, ranges: &[(i32, i64, i64, Option<RangeCounts>)]) {
        for (partition, _, to, _) in ranges {
            self.offsets.insert(*partition, *to);
        }
        let told = ranges
            .iter()
            .map(|&(partition, from, to, counts)| OffsetRange {
                topic: "t".to_owned(),
                partition,
                from,
                to,
                counts,
                topic_id: None,
            });
        let rows = ranges.iter().filter_map(|range| range.3);
        self.records.push(ConsumedBy {
            version: self.records.len() as u64,
            made_by: Some(MadeBy::Stream {
                stream: "s".to_owned(),
                epoch: 1,
                definition: 1,
                lookups: BTreeMap::new(),
                ranges: told.collect(),
            }),
            offsets: Some(BTreeMap::from([("t".to_owned(), self.offsets.clone())])),
            rows_added: Some(rows.map(|counts| counts.rows).sum()),
            ..ConsumedBy::default()
        });
    }

    /// As it is read once the records below `first` are gone.
    fn read(&self, first: u64) -> Consumed {
        let offsets = self.offsets.iter();
        Consumed {
            snapshot: TableSnapshot {
                name: TableName::bare("t"),
                location: "memory:///t/".parse().unwrap(),
                format: Format::Delta,
                properties: BTreeMap::new(),
                version: self.records.len() as u64 - 1,
                schema: Arc::new(Schema::empty()),
                partition_columns: Vec::new(),
                files: Arc::default(),
                offsets: offsets
                    .map(|(p, next)| (("t".to_owned(), *p), *next))
                    .collect(),
                topic_ids: BTreeMap::new(),
            },
            first,
            records: self.records[usize::try_from(first).unwrap()..].to_vec(),
        }
    }

    fn walk(&self) -> Chain {
        walk("t", "s", &self.read(0))
    }
}

fn said(violations: &[Violation]) -> Vec<String> {
    let words = violations.iter().map(|violation| {
        format!(
            "v{} {}/{} [{}, {}): {}",
            violation.version,
            violation.topic,
            violation.partition,
            violation.from,
            violation.to,
            violation.what
        )
    });
    words.collect()
}

#[test]
fn ranges_that_join_are_whole_whatever_others_commit_between() {
    let mut log = Log::new();
    log.commit(&[(0, 5, 10), (1, 0, 3)]);
    log.others(7, false);
    log.commit(&[(0, 10, 12)]);
    log.others(0, true);
    log.commit(&[(1, 3, 3), (0, 12, 20)]);
    let chain = log.walk();
    assert_eq!(said(&chain.violations), [""; 0]);
    assert_eq!((chain.commits, chain.added), (3, 18));
    assert_eq!(chain.by_others, [2, 4]);
    let track = &chain.tracks[&partition(0)];
    assert_eq!((track.begin, track.end, track.pieces.len()), (5, 20, 3));
    assert!(!track.earlier_gone);
}

#[test]
fn a_gap_and_an_overlap_are_named_with_their_version() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    log.commit(&[(0, 12, 20)]);
    log.commit(&[(0, 18, 25)]);
    assert_eq!(
        said(&log.walk().violations),
        [
            "v2 t/0 [10, 12): no commit holds this range",
            "v3 t/0 [18, 20): an earlier commit holds this range already",
        ]
    );
}

#[test]
fn a_stored_offset_must_be_where_the_commits_lead_at_every_version() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    let mut moved = log.read(0);
    let offsets = moved.records[1].offsets.as_mut().unwrap();
    offsets.get_mut("t").unwrap().insert(0, 11);
    moved.snapshot.offsets.insert(("t".to_owned(), 0), 11);
    let found = said(&walk("t", "s", &moved).violations);
    assert_eq!(
        found,
        ["v1 t/0 [11, 10): its offset is 11, the commits lead to 10"]
    );
    let mut stored = log.read(0);
    stored.snapshot.offsets.insert(("t".to_owned(), 0), 9);
    let found = said(&walk("t", "s", &stored).violations);
    assert_eq!(
        found,
        ["v1 t/0 [9, 10): the stored offset is 9, the commits lead to 10"]
    );
}

#[test]
fn a_second_witness_that_disagrees_is_named() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    log.records[1].transactions = vec![("t".to_owned(), 0, 9)];
    assert_eq!(
        said(&log.walk().violations),
        ["v1 t/0 [0, 10): its application transaction says 9"]
    );
    log.records[1].transactions = vec![("t".to_owned(), 0, 10)];
    assert!(log.walk().violations.is_empty());
}

#[test]
fn what_was_removed_from_the_log_is_unseen_and_no_failure() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10), (1, 0, 4)]);
    log.commit(&[(0, 10, 20)]);
    log.commit(&[(0, 20, 30)]);
    let chain = walk("t", "s", &log.read(2));
    assert_eq!(said(&chain.violations), [""; 0]);
    let track = &chain.tracks[&partition(0)];
    assert!(track.earlier_gone);
    assert_eq!((track.begin, track.end), (10, 30));
    assert!(chain.tracks[&partition(1)].earlier_gone);
    assert!(!chain.is_counted);
}

#[test]
fn commits_of_builds_that_wrote_no_ranges_are_followed_by_their_offsets() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    log.commit(&[(0, 10, 20)]);
    for record in &mut log.records {
        if let Some(MadeBy::Stream { ranges, .. }) = &mut record.made_by {
            ranges.clear();
        }
    }
    let chain = log.walk();
    assert_eq!(said(&chain.violations), [""; 0]);
    let pieces = &chain.tracks[&partition(0)].pieces;
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece.counts.is_none()));
}

#[test]
fn rows_of_a_commit_must_be_those_its_ranges_tell_of() {
    let mut log = Log::new();
    log.commit_counted(&[
        (0, 0, 10, counts(10, 10, 0, 0)),
        (1, 0, 5, counts(5, 4, 1, 0)),
    ]);
    log.records[1].rows_added = Some(13);
    assert_eq!(
        said(&log.walk().violations),
        ["v1 /0 [0, 0): its ranges tell of 14 rows, its files hold 13"]
    );
}

/// A partition as Kafka has it from `low` on: `per` records in each segment.
fn kafka(chain: &Chain, low: i64, per: &[u64]) -> Counted {
    let cuts = cuts([chain]).remove(&partition(0)).unwrap();
    let high = *cuts.last().unwrap();
    Counted {
        cuts,
        answer: CountedRecords {
            records: per.to_vec(),
            low,
            high,
            ..CountedRecords::default()
        },
    }
}

fn compared(chain: &Chain, counted: Option<&Counted>) -> (super::compare::Compared, Vec<String>) {
    let at = partition(0);
    let compared = compare("t", false, &at, &chain.tracks[&at], counted);
    let words = said(&compared.violations);
    (compared, words)
}

#[test]
fn each_commit_is_held_against_what_kafka_has_there() {
    let mut log = Log::new();
    // Fewer records than offsets: aborted transactions and markers.
    log.commit_counted(&[(0, 0, 10, counts(8, 5, 2, 1))]);
    log.commit_counted(&[(0, 10, 20, counts(10, 10, 0, 0))]);
    let chain = log.walk();
    let (seen, words) = compared(&chain, Some(&kafka(&chain, 0, &[8, 10])));
    assert_eq!(words, [""; 0]);
    assert_eq!((seen.partition.found, seen.partition.found_from), (18, 0));
    let (_, words) = compared(&chain, Some(&kafka(&chain, 0, &[9, 9])));
    assert_eq!(
        words,
        [
            "v1 t/0 [0, 10): kafka has 9 records there, 8 were read",
            "v2 t/0 [10, 20): kafka has 9 records there, 10 were read",
        ]
    );
    // Compaction takes records away, and adds none.
    let mut compacted = kafka(&chain, 0, &[9, 9]);
    compacted.answer.compacted = true;
    assert_eq!(compared(&chain, Some(&compacted)).1.len(), 1);
}

#[test]
fn only_whole_commits_above_retention_are_counted() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    log.commit(&[(0, 10, 20)]);
    let chain = log.walk();
    let (seen, words) = compared(&chain, Some(&kafka(&chain, 4, &[6, 10])));
    assert_eq!(words, [""; 0]);
    assert_eq!((seen.partition.found, seen.partition.found_from), (10, 10));
    let (seen, _) = compared(&chain, None);
    assert_eq!(seen.partition.found_from, -1);
}

#[test]
fn every_record_must_have_become_something() {
    let mut log = Log::new();
    log.commit_counted(&[(0, 0, 10, counts(10, 7, 1, 1))]);
    let (_, words) = compared(&log.walk(), None);
    assert_eq!(
        words,
        ["v1 t/0 [0, 10): of 10 records 7 became rows, 1 were filtered and 1 are dead letters"]
    );
}

#[test]
fn dead_letters_are_as_many_as_the_tables_count_between_common_boundaries() {
    let (mut rows, mut letters) = (Log::new(), Log::new());
    rows.commit_counted(&[(0, 0, 10, counts(10, 8, 0, 2))]);
    rows.commit_counted(&[(0, 10, 20, counts(10, 9, 0, 1))]);
    letters.commit_counted(&[(0, 0, 20, counts(20, 3, 0, 0))]);
    let right = compare_letters(("dead", &letters.walk()), &[("t", &rows.walk())]);
    assert_eq!(said(&right), [""; 0]);
    rows.commit_counted(&[(0, 20, 30, counts(10, 9, 0, 1))]);
    letters.commit_counted(&[(0, 20, 30, counts(10, 2, 0, 0))]);
    let wrong = compare_letters(("dead", &letters.walk()), &[("t", &rows.walk())]);
    assert_eq!(
        said(&wrong),
        ["v2 t/0 [20, 30): it holds 2 dead letters, the rows' tables count 1"]
    );
    // A record that two tables refuse may be one letter or two.
    let both = compare_letters(
        ("dead", &letters.walk()),
        &[("t", &rows.walk()), ("u", &rows.walk())],
    );
    assert_eq!(said(&both), [""; 0]);
}

#[test]
fn ranges_join_anew_where_somebody_moved_the_stream() {
    let mut log = Log::new();
    log.commit(&[(0, 0, 10)]);
    log.offsets.insert(0, 4);
    let moved = OffsetMove {
        topic: "t".to_owned(),
        partition: 0,
        from: Some(10),
        to: 4,
    };
    log.records.push(ConsumedBy {
        version: log.records.len() as u64,
        made_by: Some(MadeBy::Reset {
            stream: "s".to_owned(),
            moves: vec![moved],
        }),
        offsets: Some(BTreeMap::from([("t".to_owned(), log.offsets.clone())])),
        rows_added: Some(0),
        ..ConsumedBy::default()
    });
    log.commit(&[(0, 4, 12)]);
    let chain = log.walk();
    assert_eq!(said(&chain.violations), Vec::<String>::new());
    let track = &chain.tracks[&partition(0)];
    assert_eq!((track.begin, track.end, track.pieces.len()), (4, 12, 1));
    assert_eq!(track.moves, 1);
    // Without it the same is twice.
    log.records.remove(2);
    assert!(!log.walk().violations.is_empty());
}
