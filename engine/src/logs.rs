//! The newest lines of a process's log, kept in memory for whoever asks: bounded in lines and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Lines that are kept.
const LINES: usize = 10_000;
/// Bytes that are kept.
const BYTES: usize = 8 << 20;
/// Longest line; what is longer is cut.
const MAX_LINE: usize = 64 << 10;

/// The tail of a log. Cheap to clone; all clones are one tail.
#[derive(Debug, Clone)]
pub struct LogTail {
    kept: Arc<Mutex<Kept>>,
    newest: watch::Sender<u64>,
}

/// A line, numbered from 1 since the process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number.
    pub number: u64,
    /// A JSON object.
    pub text: Arc<str>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    newest: u64,
}

impl Default for LogTail {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl LogTail {
    /// Adds a line, without its end.
    pub fn push(&self, mut text: String) {
        if text.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        let mut kept = self.lock();
        kept.newest += 1;
        kept.bytes += text.len();
        let number = kept.newest;
        kept.lines.push_back(LogLine {
            number,
            text: text.into(),
        });
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= oldest.text.len();
        }
        drop(kept);
        self.newest.send_replace(number);
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> Vec<LogLine> {
        let kept = self.lock();
        let skipped = kept.lines.len().saturating_sub(count);
        kept.lines.iter().skip(skipped).cloned().collect()
    }

    /// Lines after line `number`, the first `count` of those that are still kept.
    pub fn after(&self, number: u64, count: usize) -> Vec<LogLine> {
        let kept = self.lock();
        let first = kept.lines.partition_point(|line| line.number <= number);
        kept.lines.iter().skip(first).take(count).cloned().collect()
    }

    /// The newest line's number, as it grows.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    // A line is kept whole or, if that panics, not: the rest is good either way.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_and_numbered() {
        let tail = LogTail::default();
        for number in 0..LINES + 5 {
            tail.push(number.to_string());
        }
        assert_eq!(texts(&tail.last(2)), ["10003", "10004"]);
        assert_eq!(tail.last(usize::MAX).len(), LINES);
        assert_eq!(*tail.newest().borrow(), 10_005);
        assert_eq!(texts(&tail.after(10_003, 9)), ["10003", "10004"]);
        // What is gone is passed over.
        assert_eq!(texts(&tail.after(0, 1)), ["5"]);
        assert!(tail.after(10_005, 9).is_empty());
    }

    #[test]
    fn long_lines_push_others_out_and_are_cut() {
        let tail = LogTail::default();
        for _ in 0..200 {
            tail.push("é".repeat(MAX_LINE));
        }
        let kept = tail.last(usize::MAX);
        assert!(kept.len() < 150, "{}", kept.len());
        assert!(kept.iter().all(|line| line.text.len() <= MAX_LINE));
    }
}
