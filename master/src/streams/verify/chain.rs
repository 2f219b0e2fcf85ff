//! Walks a table's log: do the ranges of a stream's commits join without gap or overlap, at every version? Pure.
//!
//! Records of others (statements, OPTIMIZE, other programs) may stand between: they must not move an offset.

use std::collections::{BTreeMap, BTreeSet};

use drumline_lake::{Consumed, ConsumedBy, MadeBy, OffsetMove, OffsetRange, RangeCounts};
use drumline_proto::v1::Violation;

use crate::streams::Partition;

/// What one commit took of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) version: u64,
    pub(super) from: i64,
    pub(super) to: i64,
    /// None in commits of older builds.
    pub(super) counts: Option<RangeCounts>,
    /// Made by the stream that is looked at, and not by another one.
    pub(super) is_ours: bool,
}

/// A table's way through one partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Track {
    pub(super) begin: i64,
    pub(super) end: i64,
    /// Commits before `begin` are no longer in the log.
    pub(super) earlier_gone: bool,
    /// How often somebody moved the stream here by hand, and the rows stayed.
    pub(super) moves: u64,
    pub(super) pieces: Vec<Piece>,
}

/// A table's way through all partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    pub(super) tracks: BTreeMap<Partition, Track>,
    /// Commits of the stream.
    pub(super) commits: u64,
    /// Rows that all streams' commits added, as their files tell.
    pub(super) added: u64,
    /// Versions by which others added, changed or deleted rows.
    pub(super) by_others: Vec<u64>,
    /// Commits of streams replace rows: the table holds the newest of each key.
    pub(super) is_merged: bool,
    /// Whether every record tells how many rows it added.
    pub(super) is_counted: bool,
    pub(super) violations: Vec<Violation>,
}

type Held = BTreeMap<Partition, i64>;

/// Walks `consumed`, the log of `table`, for `stream`.
pub(super) fn walk(table: &str, stream: &str, consumed: &Consumed) -> Chain {
    let mut walk = Walk {
        table,
        stream,
        // Before the first record nothing was read; where that record is gone, nobody knows.
        held: (consumed.first == 0).then(Held::new),
        chain: Chain {
            is_counted: consumed.first == 0,
            ..Chain::default()
        },
    };
    for record in &consumed.records {
        walk.take(record);
    }
    let stored: Held = consumed
        .snapshot
        .offsets
        .iter()
        .map(|((topic, partition), next)| (at(topic, *partition), *next))
        .collect();
    walk.compare(consumed.snapshot.version, &stored, "the stored offset is");
    for (partition, next) in stored {
        walk.chain.tracks.entry(partition).or_default().end = next;
    }
    walk.chain
}

struct Walk<'a> {
    table: &'a str,
    stream: &'a str,
    held: Option<Held>,
    chain: Chain,
}

impl Walk<'_> {
    fn take(&mut self, record: &ConsumedBy) {
        let told: Option<Held> = record.offsets.as_ref().map(|topics| {
            let all = topics.iter().flat_map(|(topic, partitions)| {
                partitions.iter().map(|(p, next)| (at(topic, *p), *next))
            });
            all.collect()
        });
        match &record.made_by {
            Some(MadeBy::Stream { stream, ranges, .. }) => {
                let derived;
                let ranges = match (ranges.as_slice(), &told) {
                    // An older build did not write its ranges: they are what moved.
                    ([], Some(told)) => {
                        derived = self.moved(told);
                        derived.as_slice()
                    }
                    (ranges, _) => ranges,
                };
                self.begin_unseen(told.as_ref(), ranges);
                self.take_ranges(record, stream, ranges);
            }
            Some(MadeBy::Reset { moves, .. }) => {
                self.begin_unseen(told.as_ref(), &[]);
                self.reset(moves, record.removes);
                // Rows stay or go, and may come again.
                self.chain.by_others.push(record.version);
            }
            _ => {
                self.begin_unseen(told.as_ref(), &[]);
                let adds = record.rows_added != Some(0);
                if !record.rearranges_only && (adds || record.removes) {
                    self.chain.by_others.push(record.version);
                }
            }
        }
        if let Some(told) = told {
            self.compare(record.version, &told, "its offset is");
            self.held = Some(told);
        }
    }

    /// The first record that tells offsets, of a log whose beginning is gone.
    fn begin_unseen(&mut self, told: Option<&Held>, ranges: &[OffsetRange]) {
        let (None, Some(told)) = (&self.held, told) else {
            return;
        };
        let mut held = told.clone();
        for range in ranges {
            held.insert(at(&range.topic, range.partition), range.from);
        }
        for (partition, next) in &held {
            let track = Track {
                begin: *next,
                end: *next,
                earlier_gone: true,
                moves: 0,
                pieces: Vec::new(),
            };
            self.chain.tracks.insert(partition.clone(), track);
        }
        self.held = Some(held);
    }

    /// Somebody moved positions by hand: ranges join anew from there.
    fn reset(&mut self, moves: &[OffsetMove], rows_went: bool) {
        let held = self.held.get_or_insert_default();
        for moved in moves {
            let partition = at(&moved.topic, moved.partition);
            held.insert(partition.clone(), moved.to);
            let before = self.chain.tracks.get(&partition).map_or(0, |it| it.moves);
            let track = Track {
                begin: moved.to,
                end: moved.to,
                earlier_gone: true,
                moves: match rows_went {
                    true => 0,
                    false => before + 1,
                },
                pieces: Vec::new(),
            };
            self.chain.tracks.insert(partition, track);
        }
    }

    fn moved(&self, told: &Held) -> Vec<OffsetRange> {
        let held = self.held.as_ref();
        let moved = told.iter().filter_map(|(partition, to)| {
            let from = held
                .and_then(|held| held.get(partition))
                .copied()
                .unwrap_or(match held {
                    Some(_) => 0,
                    None => *to,
                });
            (from != *to).then(|| OffsetRange {
                topic: partition.topic.clone(),
                partition: partition.partition,
                from,
                to: *to,
                ..OffsetRange::default()
            })
        });
        moved.collect()
    }

    fn take_ranges(&mut self, record: &ConsumedBy, stream: &str, ranges: &[OffsetRange]) {
        let is_ours = stream == self.stream;
        self.chain.commits += u64::from(is_ours);
        let mut seen = BTreeSet::new();
        for range in ranges {
            let partition = at(&range.topic, range.partition);
            if !seen.insert(partition.clone()) {
                self.wrong(
                    record.version,
                    range,
                    "the commit names the partition twice",
                );
            }
            if range.to < range.from {
                self.wrong(record.version, range, "the range goes backwards");
            }
            let held = self.held.get_or_insert_default();
            match held.insert(partition.clone(), range.to) {
                Some(held) if range.from > held => {
                    let gap = OffsetRange {
                        from: held,
                        to: range.from,
                        ..range.clone()
                    };
                    self.wrong(record.version, &gap, "no commit holds this range");
                }
                Some(held) if range.from < held => {
                    let twice = OffsetRange {
                        to: held.min(range.to),
                        ..range.clone()
                    };
                    let what = "an earlier commit holds this range already";
                    self.wrong(record.version, &twice, what);
                }
                _ => {}
            }
            let other = record
                .transactions
                .iter()
                .find(|(topic, p, _)| *topic == range.topic && *p == range.partition);
            if let Some((_, _, next)) = other.filter(|(_, _, next)| *next != range.to) {
                let what = format!("its application transaction says {next}");
                self.wrong(record.version, range, &what);
            }
            let track = self.chain.tracks.entry(partition).or_insert_with(|| Track {
                begin: range.from,
                ..Track::default()
            });
            track.end = range.to;
            if range.from < range.to {
                track.pieces.push(Piece {
                    version: record.version,
                    from: range.from,
                    to: range.to,
                    counts: range.counts,
                    is_ours,
                });
            }
        }
        // It keeps a table's current state by key: rows that were there are written again.
        if record.removes {
            self.chain.is_counted = false;
            self.chain.is_merged = true;
            return;
        }
        let told = ranges.iter().map(|range| range.counts.map(|c| c.rows));
        let told: Option<u64> = told.sum();
        match (told, record.rows_added) {
            (Some(told), Some(added)) if told != added => self.chain.violations.push(Violation {
                table: self.table.to_owned(),
                version: record.version,
                what: format!("its ranges tell of {told} rows, its files hold {added}"),
                ..Violation::default()
            }),
            _ => {}
        }
        match record.rows_added {
            Some(added) => self.chain.added += added,
            None => self.chain.is_counted = false,
        }
    }

    /// What a record or the table says, against where the ranges lead.
    fn compare(&mut self, version: u64, told: &Held, what: &str) {
        let Some(held) = self.held.clone() else {
            return;
        };
        let both: BTreeSet<&Partition> = told.keys().chain(held.keys()).collect();
        for partition in both {
            let (told, held) = (told.get(partition), held.get(partition));
            if told == held {
                continue;
            }
            let word = |next: Option<&i64>| next.map_or("none".to_owned(), i64::to_string);
            let range = OffsetRange {
                topic: partition.topic.clone(),
                partition: partition.partition,
                from: told.or(held).copied().unwrap_or_default(),
                to: held.or(told).copied().unwrap_or_default(),
                ..OffsetRange::default()
            };
            let what = format!("{what} {}, the commits lead to {}", word(told), word(held));
            self.wrong(version, &range, &what);
        }
    }

    fn wrong(&mut self, version: u64, range: &OffsetRange, what: &str) {
        self.chain.violations.push(Violation {
            table: self.table.to_owned(),
            topic: range.topic.clone(),
            partition: range.partition,
            version,
            from: range.from,
            to: range.to,
            what: what.to_owned(),
        });
    }
}

fn at(topic: &str, partition: i32) -> Partition {
    Partition {
        topic: topic.to_owned(),
        partition,
    }
}
