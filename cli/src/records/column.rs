//! What a column shows of a record: for people with units, for programs as it is.

use chrono::{DateTime, Utc};
use serde_json::Value;

/// One column.
pub(crate) struct Column {
    /// Over the column, for people.
    pub(crate) title: &'static str,
    /// Name of the field in CSV.
    pub(crate) name: &'static str,
    /// Where in the record its value is, as a JSON pointer.
    pub(crate) field: &'static str,
    pub(crate) unit: Unit,
    /// What can be left out where the terminal is narrow: the highest first, 0 never.
    pub(crate) spare: u8,
}

/// How a value is shown to people.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// As it is.
    Text,
    /// Text that may be cut.
    Words,
    /// A number, with thousands set apart.
    Count,
    Bytes,
    /// Milliseconds since 1970, as how long ago that was.
    Ago,
    /// A number that several fields make.
    Sum(fn(&Value) -> u64),
    /// The same, of bytes.
    SumBytes(fn(&Value) -> u64),
    /// Made of several fields.
    Made(fn(&Value, DateTime<Utc>) -> String),
}

impl Column {
    /// Where a made column has no field of its own.
    pub(crate) const NO_FIELD: &'static str = "/-";

    pub(crate) const fn new(
        title: &'static str,
        name: &'static str,
        field: &'static str,
        unit: Unit,
    ) -> Self {
        Self {
            title,
            name,
            field,
            unit,
            spare: 0,
        }
    }

    /// Can be left out on a narrow terminal: the highest number first.
    pub(crate) const fn spare(mut self, spare: u8) -> Self {
        self.spare = spare;
        self
    }

    /// The cell for people.
    pub(crate) fn shown(&self, record: &Value, now: DateTime<Utc>) -> String {
        let value = record.pointer(self.field).unwrap_or(&Value::Null);
        match self.unit {
            Unit::Text => plain(value),
            Unit::Words => one_line(&plain(value)),
            Unit::Count => value.as_u64().map_or_else(|| plain(value), count),
            Unit::Bytes => value.as_u64().map_or_else(|| plain(value), bytes),
            Unit::Ago => ago(value.as_i64().unwrap_or(0), now),
            Unit::Sum(sum) => count(sum(record)),
            Unit::SumBytes(sum) => bytes(sum(record)),
            Unit::Made(make) => make(record, now),
        }
    }

    /// The cell for programs.
    pub(crate) fn raw(&self, record: &Value, now: DateTime<Utc>) -> String {
        match (self.unit, record.pointer(self.field)) {
            (Unit::Sum(sum) | Unit::SumBytes(sum), _) => sum(record).to_string(),
            (Unit::Made(make), None) => make(record, now),
            (_, value) => plain(value.unwrap_or(&Value::Null)),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// No control characters: they would move the cursor about.
fn one_line(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    safe.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `1234567` as `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A size in units of 1024.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A span of time, in the two units that matter.
pub(crate) fn span(millis: i64) -> String {
    let millis = millis.max(0);
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..=59 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn ago(at: i64, now: DateTime<Utc>) -> String {
    if at == 0 {
        return String::new();
    }
    let seconds = (now.timestamp_millis() - at).max(0) / 1000;
    match seconds {
        0..=59 => format!("{seconds} s ago"),
        60..=3599 => format!("{} min ago", seconds / 60),
        3600..=86_399 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// How long a record's work took, or has taken so far.
pub(crate) fn took(record: &Value, now: DateTime<Utc>) -> String {
    let number = |name: &str| record[name].as_i64().unwrap_or(0);
    let start = match number("started_at") {
        0 => number("submitted_at"),
        start => start,
    };
    match (start, number("ended_at")) {
        (0, _) => String::new(),
        (start, 0) => span(now.timestamp_millis() - start),
        (start, end) => span(end - start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_that_people_read() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(24 << 30), "24.0 GiB");
        assert_eq!(span(0), "0 ms");
        assert_eq!(span(1999), "1.9 s");
        assert_eq!(span(61_000), "1 min 1 s");
        assert_eq!(span(90_000_000), "1 d 1 h");
    }

    #[test]
    fn what_runs_counts_up_to_now_and_what_is_over_does_not() {
        let now = DateTime::from_timestamp_millis(10_000).unwrap();
        let took = |value| took(&value, now);
        assert_eq!(
            took(serde_json::json!({"started_at": 4000, "ended_at": 0})),
            "6.0 s"
        );
        assert_eq!(
            took(serde_json::json!({"started_at": 4000, "ended_at": 5000})),
            "1.0 s"
        );
        assert_eq!(
            took(serde_json::json!({"started_at": 0, "ended_at": 0})),
            ""
        );
        assert_eq!(
            took(serde_json::json!({"submitted_at": 9000, "ended_at": 0})),
            "1.0 s"
        );
    }

    #[test]
    fn programs_get_numbers_as_they_are() {
        let column = Column::new("ROWS", "rows", Column::NO_FIELD, Unit::Sum(|_| 600_000));
        let now = DateTime::from_timestamp_millis(0).unwrap();
        assert_eq!(column.shown(&Value::Null, now), "600 000");
        assert_eq!(column.raw(&Value::Null, now), "600000");
    }

    #[test]
    fn words_stay_on_their_line() {
        assert_eq!(one_line("a\n  b\u{1b}[2J"), "a b [2J");
    }
}
