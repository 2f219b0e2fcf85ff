//! What became of a table's records between two closings of its files, by partition.
//!
//! Each fate is counted where it is decided, none is worked out from the others: so `records` being the sum of
//! the rest is something that can be checked later, and `drumline stream verify` does.

use std::collections::BTreeMap;

use drumline_proto::v1::RangeCounts;

/// What can become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was read.
    Read,
    /// It is a row of the table.
    Row,
    /// The transform left it out.
    Filtered,
    /// It is a dead letter.
    Dead,
}

/// Counts of one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counts(BTreeMap<i32, RangeCounts>);

impl Counts {
    /// Records of a partition met their fate.
    pub(crate) fn add(&mut self, fate: Fate, partition: i32, count: u64) {
        let counts = self.0.entry(partition).or_default();
        let field = match fate {
            Fate::Read => &mut counts.records,
            Fate::Row => &mut counts.rows,
            Fate::Filtered => &mut counts.filtered,
            Fate::Dead => &mut counts.dead_letters,
        };
        *field += count;
    }

    /// Counts positions one by one, those of one partition that follow one another at once.
    pub(crate) fn add_all(&mut self, fate: Fate, partitions: impl IntoIterator<Item = i32>) {
        let mut run: Option<(i32, u64)> = None;
        for partition in partitions {
            run = match run {
                Some((same, count)) if same == partition => Some((same, count + 1)),
                other => {
                    if let Some((before, count)) = other {
                        self.add(fate, before, count);
                    }
                    Some((partition, 1))
                }
            };
        }
        if let Some((partition, count)) = run {
            self.add(fate, partition, count);
        }
    }

    pub(crate) fn of(&self, partition: i32) -> RangeCounts {
        self.0.get(&partition).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_partitions_add_up() {
        let mut counts = Counts::default();
        counts.add_all(Fate::Read, [0, 0, 1, 0, 2, 2]);
        counts.add_all(Fate::Row, [0, 0]);
        counts.add_all(Fate::Filtered, [0]);
        counts.add_all(Fate::Dead, []);
        assert_eq!(
            counts.of(0),
            RangeCounts {
                records: 3,
                rows: 2,
                filtered: 1,
                dead_letters: 0
            }
        );
        assert_eq!((counts.of(1).records, counts.of(2).records), (1, 2));
        assert_eq!(counts.of(3), RangeCounts::default());
    }
}
