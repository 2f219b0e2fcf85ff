//! Ranges of offsets, and how they are cut for those who read them at the same time.

use drumline_proto::v1;

/// Fewer records are not worth a consumer of their own.
const SMALLEST: u64 = 20_000;

/// Half-open range of a partition's offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// Offset after the last one.
    pub to: i64,
}

impl Span {
    /// How many offsets it has; there are at most so many records.
    pub fn len(&self) -> u64 {
        u64::try_from(self.to.saturating_sub(self.from)).unwrap_or(0)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }
}

impl From<v1::TopicRange> for Span {
    fn from(range: v1::TopicRange) -> Self {
        Self {
            partition: range.partition,
            from: range.from,
            to: range.to,
        }
    }
}

impl From<Span> for v1::TopicRange {
    fn from(span: Span) -> Self {
        Self {
            partition: span.partition,
            from: span.from,
            to: span.to,
        }
    }
}

pub(super) fn offsets(spans: &[Span]) -> u64 {
    spans.iter().map(Span::len).sum()
}

/// Cuts the spans into this many groups of about the same size; some are empty where there is little to read.
/// Each partition stands in the spans once, and so it does in each group.
pub(super) fn cut(spans: &[Span], groups: usize) -> Vec<Vec<Span>> {
    let groups = groups.max(1);
    let share = offsets(spans).div_ceil(groups as u64).max(SMALLEST);
    let mut cut: Vec<Vec<Span>> = Vec::with_capacity(groups);
    let mut group = Vec::new();
    let mut room = share;
    for span in spans.iter().filter(|span| !span.is_empty()) {
        let mut rest = *span;
        while !rest.is_empty() {
            let taken = rest.len().min(room);
            let middle = rest
                .from
                .saturating_add(i64::try_from(taken).unwrap_or(i64::MAX));
            group.push(Span { to: middle, ..rest });
            rest.from = middle;
            room -= taken;
            if room == 0 {
                cut.push(std::mem::take(&mut group));
                room = share;
            }
        }
    }
    if !group.is_empty() {
        cut.push(group);
    }
    cut.resize(groups, Vec::new());
    cut
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(partition: i32, from: i64, to: i64) -> Span {
        Span {
            partition,
            from,
            to,
        }
    }

    #[test]
    fn little_is_read_by_one() {
        let spans = [span(0, 5, 10), span(1, 0, 3), span(2, 4, 4)];
        let mut expected = vec![vec![]; 4];
        expected[0] = vec![span(0, 5, 10), span(1, 0, 3)];
        assert_eq!(cut(&spans, 4), expected);
    }

    #[test]
    fn one_large_partition_is_read_by_all() {
        let cut = cut(&[span(3, 1_000, 401_000)], 4);
        let expected: Vec<_> = (0..4)
            .map(|at| vec![span(3, 1_000 + at * 100_000, 101_000 + at * 100_000)])
            .collect();
        assert_eq!(cut, expected);
    }

    proptest! {
        #[test]
        fn every_offset_is_in_one_group(
            sizes in prop::collection::vec((0i64..1_000_000_000, 0i64..300_000), 0..9),
            groups in 1usize..17,
        ) {
            let spans: Vec<Span> = sizes
                .iter()
                .enumerate()
                .map(|(partition, (from, count))| span(partition as i32, *from, from + count))
                .collect();
            let cut = cut(&spans, groups);
            prop_assert_eq!(cut.len(), groups);
            for group in &cut {
                let partitions: BTreeSet<i32> = group.iter().map(|span| span.partition).collect();
                prop_assert_eq!(partitions.len(), group.len(), "a partition twice in a group");
            }
            let mut back: Vec<Span> = Vec::new();
            for piece in cut.into_iter().flatten() {
                match back.last_mut() {
                    Some(last) if last.partition == piece.partition => {
                        prop_assert_eq!(last.to, piece.from);
                        last.to = piece.to;
                    }
                    _ => back.push(piece),
                }
            }
            let wanted: Vec<Span> = spans.into_iter().filter(|span| !span.is_empty()).collect();
            prop_assert_eq!(back, wanted);
        }
    }
}
