//! What commits say became of the records, against each other and against what Kafka has. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drumline_proto::v1::{CountedRecords, VerifiedPartition, VerifiedRange, Violation};

use super::chain::{Chain, Piece, Track};
use crate::streams::Partition;

/// Ranges of one partition that are handed out, the newest.
const RANGES: usize = 2000;

/// A partition's records as a worker counted them, between positions.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) cuts: Vec<i64>,
    pub(super) answer: CountedRecords,
}

impl Counted {
    /// Records in `[from, to)`; nothing where Kafka does not have all of it any more.
    fn between(&self, from: i64, to: i64) -> Option<u64> {
        if from < self.answer.low || to > self.answer.high {
            return None;
        }
        let first = self.cuts.binary_search(&from).ok()?;
        let last = self.cuts.binary_search(&to).ok()?;
        self.answer.records.get(first..last).map(|n| n.iter().sum())
    }
}

/// Where the ranges of these tables begin and end, by partition.
pub(super) fn cuts<'a>(
    chains: impl IntoIterator<Item = &'a Chain>,
) -> BTreeMap<Partition, Vec<i64>> {
    let mut cuts: BTreeMap<Partition, BTreeSet<i64>> = BTreeMap::new();
    for chain in chains {
        for (partition, track) in &chain.tracks {
            let ours = track.pieces.iter().filter(|piece| piece.is_ours);
            for piece in ours {
                let cuts = cuts.entry(partition.clone()).or_default();
                cuts.extend([piece.from, piece.to]);
            }
        }
    }
    cuts.into_iter()
        .map(|(partition, cuts)| (partition, cuts.into_iter().collect()))
        .collect()
}

/// What is found out about one table's partition.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) partition: VerifiedPartition,
    pub(super) violations: Vec<Violation>,
}

/// Looks at each commit's counts. `are_letters`: of the dead-letter table, which counts its own rows only.
pub(super) fn compare(
    table: &str,
    are_letters: bool,
    partition: &Partition,
    track: &Track,
    counted: Option<&Counted>,
) -> Compared {
    let mut compared = Compared {
        partition: VerifiedPartition {
            topic: partition.topic.clone(),
            partition: partition.partition,
            from: track.begin,
            to: track.end,
            earlier_commits_gone: track.earlier_gone,
            moves: track.moves,
            found_from: -1,
            ..VerifiedPartition::default()
        },
        violations: Vec::new(),
    };
    let wrong = |piece: &Piece, what: String| Violation {
        table: table.to_owned(),
        topic: partition.topic.clone(),
        partition: partition.partition,
        version: piece.version,
        from: piece.from,
        to: piece.to,
        what,
    };
    for piece in track.pieces.iter().filter(|piece| piece.is_ours) {
        let found = counted.and_then(|counted| counted.between(piece.from, piece.to));
        let seen = &mut compared.partition;
        if let Some(found) = found {
            if seen.found_from < 0 {
                seen.found_from = piece.from;
            }
            seen.found += found;
        }
        let Some(counts) = piece.counts else {
            seen.commits_without_counts += 1;
            continue;
        };
        seen.records += counts.records;
        seen.rows += counts.rows;
        seen.filtered += counts.filtered;
        seen.dead_letters += counts.dead_letters;
        let became = counts.rows + counts.filtered + counts.dead_letters;
        if !are_letters && became != counts.records {
            let what = format!(
                "of {} records {} became rows, {} were filtered and {} are dead letters",
                counts.records, counts.rows, counts.filtered, counts.dead_letters
            );
            compared.violations.push(wrong(piece, what));
        }
        let may_shrink = counted.is_some_and(|counted| counted.answer.compacted);
        match found {
            Some(found) if found > counts.records || (found < counts.records && !may_shrink) => {
                let what = format!(
                    "kafka has {found} records there, {} were read",
                    counts.records
                );
                compared.violations.push(wrong(piece, what));
            }
            _ => {}
        }
    }
    let ranges = track.pieces.iter().filter(|piece| piece.is_ours).rev();
    let ranges = ranges.take(RANGES).map(|piece| VerifiedRange {
        version: piece.version,
        from: piece.from,
        to: piece.to,
        rows: piece.counts.map_or(0, |counts| counts.rows),
    });
    compared.partition.ranges = ranges.collect();
    compared.partition.ranges.reverse();
    compared
}

/// Dead letters that tables count, against those that their own table holds: where one topic goes to several
/// tables, a record may be a dead letter for one of them, or for all.
pub(super) fn compare_letters(
    letters: (&str, &Chain),
    tables: &[(&str, &Chain)],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (partition, held) in &letters.1.tracks {
        let tracks: Vec<&Track> = tables
            .iter()
            .filter_map(|(_, chain)| chain.tracks.get(partition))
            .collect();
        if tracks.is_empty() {
            continue;
        }
        // Only where all of them have a boundary can they be compared.
        let mut common = boundaries(held);
        for track in &tracks {
            let theirs = boundaries(track);
            common.retain(|position| theirs.contains(position));
        }
        let positions: Vec<i64> = common.into_iter().collect();
        for pair in positions.windows(2) {
            let &[from, to] = pair else { continue };
            let within = |track: &Track, of: fn(&Piece) -> Option<u64>| {
                let pieces = track.pieces.iter();
                let inside = pieces.filter(|piece| piece.from >= from && piece.to <= to);
                inside.map(of).sum::<Option<u64>>()
            };
            let dead: Option<Vec<u64>> = tracks
                .iter()
                .map(|track| within(track, |piece| Some(piece.counts?.dead_letters)))
                .collect();
            let rows = within(held, |piece| Some(piece.counts?.rows));
            let (Some(dead), Some(rows)) = (dead, rows) else {
                continue;
            };
            let (least, most) = (dead.iter().max().copied().unwrap_or(0), dead.iter().sum());
            if rows < least || rows > most {
                let version = held
                    .pieces
                    .iter()
                    .find(|piece| piece.from >= from && piece.to <= to)
                    .map_or(0, |piece| piece.version);
                violations.push(Violation {
                    table: letters.0.to_owned(),
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    version,
                    from,
                    to,
                    what: format!(
                        "it holds {rows} dead letters, the rows' tables count {}",
                        match least == most {
                            true => most.to_string(),
                            false => format!("{least} to {most}"),
                        }
                    ),
                });
            }
        }
    }
    violations
}

fn boundaries(track: &Track) -> BTreeSet<i64> {
    let pieces = track.pieces.iter();
    pieces.flat_map(|piece| [piece.from, piece.to]).collect()
}
