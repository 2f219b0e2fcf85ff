//! What people want to know of reading: how old the next record to commit is, how fast it goes, how far time has come.
//!
//! Times are the brokers' dates of records. What is read is remembered batch by batch until it is committed: commits
//! reach to the end of a batch.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::machine::Positions;

/// Rates are those of this last while.
const WINDOW: Duration = Duration::from_secs(10);

/// What is told of one partition. Dates in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figure {
    /// Date of the first record that is read and not committed.
    pub waiting_since: Option<i64>,
    /// The newest and the oldest date among committed records.
    pub dates: Option<(i64, i64)>,
    pub records_per_second: f64,
    pub bytes_per_second: f64,
}

/// One source's partitions.
#[derive(Debug, Default)]
pub(super) struct Figures {
    partitions: Vec<(i32, Counted)>,
    // Records come in runs of one partition.
    last: usize,
}

#[derive(Debug, Default)]
struct Counted {
    open: Option<Chunk>,
    waiting: VecDeque<Chunk>,
    dates: Option<(i64, i64)>,
    records: u64,
    bytes: u64,
    samples: VecDeque<(Instant, u64, u64)>,
}

/// Records that are committed together.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    next: i64,
    first: Option<i64>,
    dates: Option<(i64, i64)>,
}

impl Figures {
    pub(super) fn took(&mut self, partition: i32, offset: i64, date: Option<i64>, bytes: usize) {
        let counted = self.counted(partition);
        counted.records += 1;
        counted.bytes += bytes as u64;
        let dates = date.map(|date| (date, date));
        match &mut counted.open {
            Some(chunk) => {
                chunk.next = offset + 1;
                chunk.dates = widened(chunk.dates, dates);
            }
            None => {
                counted.open = Some(Chunk {
                    next: offset + 1,
                    first: date,
                    dates,
                });
            }
        }
    }

    /// A batch ends here.
    pub(super) fn cut(&mut self) {
        for (_, counted) in &mut self.partitions {
            counted.waiting.extend(counted.open.take());
        }
    }

    pub(super) fn committed(&mut self, next: &Positions) {
        for (partition, next) in next {
            let counted = self.counted(*partition);
            while let Some(chunk) = counted.waiting.front().filter(|chunk| chunk.next <= *next) {
                counted.dates = widened(counted.dates, chunk.dates);
                counted.waiting.pop_front();
            }
        }
    }

    pub(super) fn told(&mut self, now: Instant) -> BTreeMap<i32, Figure> {
        let partitions = self.partitions.iter_mut();
        partitions
            .map(|(partition, counted)| (*partition, counted.told(now)))
            .collect()
    }

    fn counted(&mut self, partition: i32) -> &mut Counted {
        let is_it = |at: usize| {
            self.partitions
                .get(at)
                .is_some_and(|(p, _)| *p == partition)
        };
        if !is_it(self.last) {
            let found = self.partitions.iter().position(|(p, _)| *p == partition);
            self.last = found.unwrap_or_else(|| {
                self.partitions.push((partition, Counted::default()));
                self.partitions.len() - 1
            });
        }
        &mut self.partitions[self.last].1
    }
}

impl Counted {
    fn told(&mut self, now: Instant) -> Figure {
        let old = |(at, _, _): &(Instant, u64, u64)| now.saturating_duration_since(*at) > WINDOW;
        // The youngest of those that are too old is where the window begins.
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(old) {
            self.samples.pop_front();
        }
        let rate = |then: u64, count: u64, seconds: f64| match seconds > 0.0 {
            true => (count - then) as f64 / seconds,
            false => 0.0,
        };
        let (records, bytes) = self.samples.front().map_or((0.0, 0.0), |sample| {
            let seconds = now.saturating_duration_since(sample.0).as_secs_f64();
            (
                rate(sample.1, self.records, seconds),
                rate(sample.2, self.bytes, seconds),
            )
        });
        self.samples.push_back((now, self.records, self.bytes));
        Figure {
            waiting_since: self
                .waiting
                .front()
                .or(self.open.as_ref())
                .and_then(|chunk| chunk.first),
            dates: self.dates,
            records_per_second: records,
            bytes_per_second: bytes,
        }
    }
}

fn widened(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some((newest, oldest)), Some(more)) => Some((newest.max(more.0), oldest.min(more.1))),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_that_is_not_committed_is_told() {
        let mut figures = Figures::default();
        let now = Instant::now();
        let waiting = |figures: &mut Figures| figures.told(now)[&0].waiting_since;
        for (offset, date) in [(5, 300), (6, 100), (7, 200)] {
            figures.took(0, offset, Some(date), 10);
        }
        figures.took(1, 0, Some(1), 10);
        assert_eq!(
            waiting(&mut figures),
            Some(300),
            "the first, not the oldest"
        );
        figures.cut();
        figures.took(0, 8, Some(400), 10);
        figures.cut();
        figures.committed(&Positions::from([(0, 8)]));
        assert_eq!(waiting(&mut figures), Some(400));
        figures.committed(&Positions::from([(0, 9)]));
        let told = figures.told(now)[&0];
        assert_eq!((told.waiting_since, told.dates), (None, Some((400, 100))));
        assert_eq!(figures.told(now)[&1].waiting_since, Some(1));
    }

    #[test]
    fn rates_are_those_of_the_last_ten_seconds() {
        let mut figures = Figures::default();
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        figures.took(0, 0, None, 0);
        figures.told(at(0));
        for second in 1..=30 {
            for record in 0..if second <= 15 { 100 } else { 2 } {
                figures.took(0, record, None, 50);
            }
            let told = figures.told(at(second))[&0];
            let expected = match second {
                0..=15 => Some(100.0),
                16..=26 => None,
                _ => Some(2.0),
            };
            if let Some(expected) = expected {
                assert!(
                    (told.records_per_second - expected).abs() < 0.5,
                    "{second}: {told:?}"
                );
                assert!(
                    (told.bytes_per_second - expected * 50.0).abs() < 25.0,
                    "{told:?}"
                );
            }
        }
    }
}
