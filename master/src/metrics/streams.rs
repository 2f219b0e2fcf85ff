//! What `/metrics` tells of streams: how far each is, and each of its partitions and tables.

use std::fmt;

use drumline_proto::v1::{PartitionStatus, StreamStatus, StreamTableStatus};
use prometheus_client::registry::Unit;

use super::{Labels, Writer};
use crate::streams::requests_per_million;

/// A gauge of one of a stream's parts: name, what it is, its unit, and where it is known its value.
type Of<T> = (
    &'static str,
    &'static str,
    Option<Unit>,
    fn(&T) -> Option<f64>,
);

const PARTITIONS: [Of<PartitionStatus>; 5] = [
    (
        "stream_partition_lag_records",
        "Records of a partition that are not committed yet",
        None,
        |row| (row.end >= 0).then(|| (row.end - row.committed.max(0)).max(0) as f64),
    ),
    (
        "stream_partition_lag",
        "Age of the next record to commit, by the broker's date of it",
        Some(Unit::Seconds),
        |row| (row.lag_millis >= 0).then(|| row.lag_millis as f64 / 1000.0),
    ),
    (
        "stream_partition_committed_offset",
        "Next offset to commit",
        None,
        |row| (row.committed >= 0).then_some(row.committed as f64),
    ),
    (
        "stream_partition_end_offset",
        "Offset after the last record",
        None,
        |row| (row.end >= 0).then_some(row.end as f64),
    ),
    (
        "stream_partition_watermark",
        "Newest of the brokers' dates among committed records, since 1970",
        Some(Unit::Seconds),
        |row| {
            let millis = row.watermark_unix_millis;
            (millis > 0).then(|| millis as f64 / 1000.0)
        },
    ),
];

const TABLES: [Of<StreamTableStatus>; 4] = [
    (
        "stream_table_version",
        "Version of a table that a stream writes",
        None,
        |table| Some(table.version as f64),
    ),
    (
        "stream_table_files",
        "Files of a table that a stream writes",
        None,
        |table| Some(table.files as f64),
    ),
    (
        "stream_table",
        "Bytes of the files of a table that a stream writes",
        Some(Unit::Bytes),
        |table| Some(table.bytes as f64),
    ),
    (
        "stream_table_last_commit",
        "When a stream last committed to a table, since 1970",
        Some(Unit::Seconds),
        |table| {
            let millis = table.last_commit_unix_millis;
            (millis > 0).then(|| millis as f64 / 1000.0)
        },
    ),
];

const STREAMS: [Of<StreamStatus>; 5] = [
    (
        "stream_lag_records",
        "Records between what a stream has committed and the ends of its partitions",
        None,
        |status| (status.lag >= 0).then_some(status.lag as f64),
    ),
    (
        "stream_lag",
        "Age of the next record to commit, of the partition that is furthest behind",
        Some(Unit::Seconds),
        |status| (status.lag_millis >= 0).then(|| status.lag_millis as f64 / 1000.0),
    ),
    (
        "stream_read_records_per_second",
        "Records read in the last ten seconds",
        None,
        |status| Some(status.records_per_second),
    ),
    (
        "stream_read_bytes_per_second",
        "Bytes of keys and values read in the last ten seconds",
        None,
        |status| Some(status.bytes_per_second),
    ),
    (
        "stream_requests_per_million_records",
        "Calls of object stores for a million records, since the master started",
        None,
        requests_per_million,
    ),
];

pub(super) fn write(statuses: &[StreamStatus], writer: &mut Writer<'_>) -> fmt::Result {
    for (name, help, unit, value) in STREAMS {
        let rows = statuses.iter().filter_map(|status| {
            let labels: Labels<'_> = vec![("stream", status.name.as_str())];
            Some((labels, value(status)?))
        });
        writer.gauges(name, help, unit, rows)?;
    }
    let records = statuses.iter().map(|status| {
        let labels: Labels<'_> = vec![("stream", status.name.as_str())];
        (labels, status.records as f64)
    });
    writer.counters(
        "stream_records",
        "Records that commits went past since the master started",
        None,
        records,
    )?;
    let requests = statuses.iter().map(|status| {
        let labels: Labels<'_> = vec![("stream", status.name.as_str())];
        (labels, status.requests as f64)
    });
    writer.counters(
        "stream_store_requests",
        "Calls of object stores that streams took since the master started",
        None,
        requests,
    )?;
    let letters = statuses.iter().flat_map(|status| {
        status.reasons.iter().map(|(reason, count)| {
            let labels: Labels<'_> = vec![
                ("stream", status.name.as_str()),
                ("reason", reason.as_str()),
            ];
            (labels, *count as f64)
        })
    });
    writer.counters(
        "stream_dead_letters",
        "Dead letters committed since the master started, by what is wrong with them",
        None,
        letters,
    )?;
    for (name, help, unit, value) in TABLES {
        let rows = statuses.iter().flat_map(|status| {
            status.tables.iter().filter_map(move |table| {
                let labels: Labels<'_> = vec![
                    ("stream", status.name.as_str()),
                    ("table", table.table.as_str()),
                ];
                Some((labels, value(table)?))
            })
        });
        writer.gauges(name, help, unit, rows)?;
    }
    let partitions: Vec<(&StreamStatus, &PartitionStatus, String)> = statuses
        .iter()
        .flat_map(|status| {
            let rows = status.partitions.iter();
            rows.map(move |row| (status, row, row.partition.to_string()))
        })
        .collect();
    for (name, help, unit, value) in PARTITIONS {
        let rows = partitions.iter().filter_map(|(status, row, partition)| {
            let labels: Labels<'_> = vec![
                ("stream", status.name.as_str()),
                ("topic", row.topic.as_str()),
                ("partition", partition.as_str()),
            ];
            Some((labels, value(row)?))
        });
        writer.gauges(name, help, unit, rows)?;
    }
    Ok(())
}
