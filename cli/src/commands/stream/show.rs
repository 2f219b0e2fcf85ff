//! Streams for people: one line each, or all of one, once or again and again.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use drumline_client::Streams;
use drumline_client::proto::{PartitionStatus, StreamStatus, StreamSummary};

use super::Shape;
use crate::failure::Result;
use crate::output::{self, Columns};

const EVERY: Duration = Duration::from_secs(1);
/// To the upper left corner, with nothing below.
const AGAIN: &str = "\x1b[H\x1b[J";

pub(super) async fn watch(streams: &Streams, name: &str, shape: Shape) -> Result {
    let mut ticks = tokio::time::interval(EVERY);
    let is_terminal = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        ticks.tick().await;
        let told = streams.status(name).await?;
        if let Shape::Json = shape {
            output::print_json(&told)?;
            continue;
        }
        let text = status(&told);
        match is_terminal {
            true => output::print(&format!("{AGAIN}{text}"))?,
            // Nobody draws over a file: only what has changed is worth another look.
            false if text != shown => output::print(&format!("{text}\n"))?,
            false => {}
        }
        shown = text;
    }
}

pub(super) fn list(streams: &[StreamSummary]) -> String {
    let mut columns = Columns::new(&[
        "STREAM",
        "STATE",
        "SINCE",
        "TOPICS",
        "PARTITIONS",
        "LAG",
        "SECONDS",
        "ROWS",
        "DEAD LETTERS",
        "REASON",
    ]);
    for stream in streams {
        columns.row([
            stream.name.clone(),
            stream.state.clone(),
            moment(stream.since_unix_millis),
            stream.topics.to_string(),
            stream.partitions.to_string(),
            known(stream.lag),
            seconds(stream.lag_millis),
            stream.rows.to_string(),
            stream.dead_letters.to_string(),
            stream.last_error.clone(),
        ]);
    }
    columns.render()
}

pub(super) fn status(status: &StreamStatus) -> String {
    let since = match status.since_unix_millis {
        0 => String::new(),
        since => format!(" since {}", moment(since)),
    };
    let behind = match status.lag_millis {
        millis if millis > 0 => format!(" ({} s)", seconds(millis)),
        _ => String::new(),
    };
    let mut text = format!(
        "stream {}: {}{since}, lag {}{behind}\n",
        status.name,
        status.state,
        known(status.lag)
    );
    if !status.last_error.is_empty() {
        text.push_str(&format!("reason: {}\n", status.last_error));
    }
    if status.records_per_second > 0.0 {
        text.push_str(&format!(
            "reading {:.0} records/s, {}/s\n",
            status.records_per_second,
            size(status.bytes_per_second)
        ));
    }
    if status.records > 0 {
        text.push_str(&format!(
            "{} records and {} calls of object stores since the master started: {:.1} for a million records\n",
            status.records,
            status.requests,
            status.requests as f64 * 1e6 / status.records as f64
        ));
    }
    text.push_str(&format!("\n{}", tables(status)));
    text.push_str(&format!("\n{}", partitions(&status.partitions)));
    if !status.reasons.is_empty() {
        text.push_str(&format!("\n{}", reasons(&status.reasons)));
    }
    text
}

/// Kinds of dead letters, the most frequent first.
pub(super) fn reasons(counts: &HashMap<String, u64>) -> String {
    let mut reasons: Vec<_> = counts.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut columns = Columns::new(&["DEAD LETTERS", "REASON"]);
    for (reason, count) in reasons {
        columns.row([count.to_string(), reason.clone()]);
    }
    columns.render()
}

fn tables(status: &StreamStatus) -> String {
    let mut columns = Columns::new(&[
        "TABLE",
        "KIND",
        "ROWS",
        "FILES",
        "SIZE",
        "COMMITS",
        "VERSION",
        "LAST COMMIT",
    ]);
    for table in &status.tables {
        columns.row([
            table.table.clone(),
            table.kind.clone(),
            table.rows.to_string(),
            table.files.to_string(),
            size(table.bytes as f64),
            table.commits.to_string(),
            table.version.to_string(),
            moment(table.last_commit_unix_millis),
        ]);
    }
    columns.render()
}

fn partitions(partitions: &[PartitionStatus]) -> String {
    let is_bounded = partitions.iter().any(|row| row.until.is_some());
    let mut columns = Columns::new(&[
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        if is_bounded { "UNTIL" } else { "END" },
        "LAG",
        "SECONDS",
        "RECORDS/S",
        "WATERMARK",
        "WORKER",
        "EPOCH",
    ]);
    for row in partitions {
        let lag = match row.end {
            end if end < 0 => -1,
            end => (end - row.committed.max(0)).max(0),
        };
        columns.row([
            row.topic.clone(),
            row.partition.to_string(),
            known(row.committed),
            known(row.until.unwrap_or(row.end)),
            known(lag),
            seconds(row.lag_millis),
            format!("{:.0}", row.records_per_second),
            moment(row.watermark_unix_millis),
            match row.worker.is_empty() {
                true => "-".to_owned(),
                false => row.worker.clone(),
            },
            row.epoch.to_string(),
        ]);
    }
    columns.render()
}

fn seconds(millis: i64) -> String {
    match millis {
        millis if millis < 0 => "-".to_owned(),
        millis => format!("{:.1}", millis as f64 / 1000.0),
    }
}

fn size(bytes: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)];
    let unit = units.into_iter().find(|(_, factor)| bytes >= *factor);
    unit.map_or(format!("{bytes:.0} B"), |(unit, factor)| {
        format!("{:.1} {unit}", bytes / factor)
    })
}

/// The wire's -1 is "not known yet".
pub(super) fn known(number: i64) -> String {
    if number < 0 {
        "-".to_owned()
    } else {
        number.to_string()
    }
}

fn moment(unix_millis: i64) -> String {
    match DateTime::<Utc>::from_timestamp_millis(unix_millis) {
        Some(moment) if unix_millis > 0 => moment.to_rfc3339_opts(SecondsFormat::Secs, true),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::StreamTableStatus;

    use super::*;

    #[test]
    fn status_shows_tables_and_partitions() {
        let told = StreamStatus {
            name: "beatlytica".to_owned(),
            state: "running".to_owned(),
            lag: 3,
            lag_millis: 1500,
            records_per_second: 120.4,
            bytes_per_second: 48_500.0,
            records: 2_000_000,
            requests: 31,
            reasons: [("null value".to_owned(), 2)].into(),
            partitions: vec![PartitionStatus {
                topic: "listen_events".to_owned(),
                partition: 0,
                epoch: 2,
                committed: 7,
                end: -1,
                lag_millis: -1,
                watermark_unix_millis: 1_541_000_000_000,
                ..Default::default()
            }],
            tables: vec![StreamTableStatus {
                table: "listen_events".to_owned(),
                kind: "rows".to_owned(),
                rows: 7,
                commits: 1,
                last_commit_unix_millis: 1_541_000_000_000,
                version: 1,
                files: 2,
                bytes: 4200,
            }],
            ..Default::default()
        };
        insta::assert_snapshot!(status(&told), @r"
        stream beatlytica: running, lag 3 (1.5 s)
        reading 120 records/s, 48.5 KB/s
        2000000 records and 31 calls of object stores since the master started: 15.5 for a million records

        TABLE          KIND  ROWS  FILES  SIZE    COMMITS  VERSION  LAST COMMIT
        listen_events  rows     7      2  4.2 KB        1        1  2018-10-31T15:33:20Z

        TOPIC          PARTITION  COMMITTED  END  LAG  SECONDS  RECORDS/S  WATERMARK             WORKER  EPOCH
        listen_events          0          7    -    -        -          0  2018-10-31T15:33:20Z       -      2

        DEAD LETTERS  REASON
                   2  null value
        ");
    }

    #[test]
    fn a_stream_that_waits_says_why_and_since_when() {
        let told = StreamStatus {
            name: "beatlytica".to_owned(),
            state: "waiting".to_owned(),
            last_error: "kafka at k:9092 cannot be reached: connection refused".to_owned(),
            since_unix_millis: 1_541_000_000_000,
            lag: -1,
            ..Default::default()
        };
        assert!(
            status(&told).starts_with(
                "stream beatlytica: waiting since 2018-10-31T15:33:20Z, lag -\n\
                 reason: kafka at k:9092 cannot be reached: connection refused\n"
            ),
            "{}",
            status(&told)
        );
    }
}
