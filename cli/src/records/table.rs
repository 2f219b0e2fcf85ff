//! Rows as text: columns for people, fitted to the terminal, or CSV for programs.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::column::{Column, Unit};

/// Between two columns.
const GAP: usize = 2;
/// A column of words is never cut below this.
const MIN_WORDS: usize = 12;

/// The terminal's width; nothing where stdout is none, and rows may be as long as they are.
pub(super) fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let given = std::env::var("COLUMNS").ok();
    given
        .and_then(|text| text.parse().ok())
        .or_else(asked_width)
        .or(Some(80))
}

/// No crate at hand asks the terminal without unsafe code; `stty` does.
fn asked_width() -> Option<usize> {
    let terminal = std::fs::File::open("/dev/tty").ok()?;
    let asked = Command::new("stty")
        .arg("size")
        .stdin(Stdio::from(terminal))
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(asked.stdout).ok()?;
    let columns = text.split_whitespace().nth(1)?.parse().ok()?;
    (columns > 0).then_some(columns)
}

/// Rows under a header.
pub(super) struct Table<'a> {
    columns: Vec<&'a Column>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl<'a> Table<'a> {
    /// Leaves columns out and cuts words until rows fit into `width`.
    pub(super) fn new(
        columns: &'a [Column],
        records: &[Value],
        now: DateTime<Utc>,
        width: Option<usize>,
    ) -> Self {
        let mut columns: Vec<&Column> = columns.iter().collect();
        let mut rows: Vec<Vec<String>> = records
            .iter()
            .map(|record| {
                let cells = columns.iter().map(|column| column.shown(record, now));
                cells.collect()
            })
            .collect();
        let mut widths: Vec<usize> = (0..columns.len())
            .map(|index| {
                let cells = rows.iter().map(|row| row[index].chars().count());
                cells.max().unwrap_or(0).max(columns[index].title.len())
            })
            .collect();
        let Some(limit) = width else {
            return Self {
                columns,
                widths,
                rows,
            };
        };
        while smallest(&columns, &widths) > limit {
            let spare = columns.iter().enumerate().rev();
            let Some((index, _)) = spare
                .filter(|(_, column)| column.spare > 0)
                .max_by_key(|(_, column)| column.spare)
            else {
                break;
            };
            columns.remove(index);
            widths.remove(index);
            for row in &mut rows {
                row.remove(index);
            }
        }
        let mut over = total(&widths).saturating_sub(limit);
        for (column, width) in columns.iter().zip(&mut widths).rev() {
            if matches!(column.unit, Unit::Words) && over > 0 {
                let least = MIN_WORDS.max(column.title.len()).min(*width);
                let cut = over.min(*width - least);
                *width -= cut;
                over -= cut;
            }
        }
        Self {
            columns,
            widths,
            rows,
        }
    }

    pub(super) fn header(&self) -> String {
        let titles = self.columns.iter().map(|column| column.title.to_owned());
        self.line(&titles.collect::<Vec<_>>())
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|row| self.line(row))
    }

    /// Numbers stand to the right, those that are made of several too.
    fn is_number(&self, column: &Column) -> bool {
        let is_this = |other: &&Column| std::ptr::eq(*other, column);
        match (column.unit, self.columns.iter().position(is_this)) {
            (Unit::Count | Unit::Bytes | Unit::Sum(_) | Unit::SumBytes(_), _) => true,
            (Unit::Made(_), Some(index)) => self.rows.iter().all(|row| {
                let first = row[index].chars().next();
                first.is_none_or(|first| first.is_ascii_digit())
            }),
            _ => false,
        }
    }

    fn line(&self, cells: &[String]) -> String {
        let columns = self.columns.iter().zip(&self.widths);
        let cells: Vec<String> = cells
            .iter()
            .zip(columns)
            .map(|(cell, (column, &width))| {
                let cell = cut(cell, width);
                match self.is_number(column) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            })
            .collect();
        let gap = " ".repeat(GAP);
        format!("{}\n", cells.join(&gap).trim_end())
    }
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// As narrow as rows can be made by cutting words.
fn smallest(columns: &[&Column], widths: &[usize]) -> usize {
    let least: Vec<usize> = columns
        .iter()
        .zip(widths)
        .map(|(column, &width)| match column.unit {
            Unit::Words => width.min(MIN_WORDS.max(column.title.len())),
            _ => width,
        })
        .collect();
    total(&least)
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// One line of CSV (RFC 4180).
pub(super) fn csv(cells: impl Iterator<Item = String>) -> String {
    let quoted = cells.map(|cell| {
        let is_plain = !cell.contains(['"', ',', '\n', '\r']);
        match is_plain {
            true => cell,
            false => format!("\"{}\"", cell.replace('"', "\"\"")),
        }
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            title: "ID",
            name: "id",
            field: "/id",
            unit: Unit::Text,
            spare: 0,
        },
        Column {
            title: "ROWS",
            name: "rows",
            field: "/rows",
            unit: Unit::Count,
            spare: 1,
        },
        Column {
            title: "SPILLED",
            name: "spilled",
            field: "/spilled",
            unit: Unit::Bytes,
            spare: 2,
        },
        Column {
            title: "REASON",
            name: "reason",
            field: "/reason",
            unit: Unit::Words,
            spare: 0,
        },
    ];

    fn shown(width: Option<usize>) -> String {
        let records = [
            json!({"id": "019a", "rows": 1234, "spilled": 0, "reason": ""}),
            json!({"id": "019b", "rows": 7, "spilled": 2048, "reason": "worker-1 was lost\nwhile it ran"}),
        ];
        let now = DateTime::from_timestamp_millis(0).unwrap();
        let table = Table::new(COLUMNS, &records, now, width);
        let rows: String = table.rows().collect();
        table.header() + &rows
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        insta::assert_snapshot!(shown(None), @r"
        ID     ROWS  SPILLED  REASON
        019a  1 234      0 B
        019b      7  2.0 KiB  worker-1 was lost while it ran
        ");
    }

    #[test]
    fn words_are_cut_before_columns_are_left_out() {
        insta::assert_snapshot!(shown(Some(40)), @r"
        ID     ROWS  SPILLED  REASON
        019a  1 234      0 B
        019b      7  2.0 KiB  worker-1 was lost…
        ");
        insta::assert_snapshot!(shown(Some(30)), @r"
        ID     ROWS  REASON
        019a  1 234
        019b      7  worker-1 was los…
        ");
        for width in 20..80 {
            for line in shown(Some(width)).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let cells = ["a", "b,c", "d\"e"].map(str::to_owned);
        assert_eq!(csv(cells.into_iter()), "a,\"b,c\",\"d\"\"e\"\n");
    }
}
