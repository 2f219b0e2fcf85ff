use drumline_proto::v1::{PartitionStatus, StreamTableStatus};

use super::*;
use crate::facts::{Event, JobEnd, TaskMetrics};

fn seen() -> Seen {
    let facts = Facts::new();
    facts.publish(Event::MasterStarted {
        build: "0.1.0".into(),
        lake: "file:///lake".into(),
    });
    facts.publish(Event::WorkerJoined {
        worker: "w".into(),
        url: "http://127.0.0.1:1".into(),
        cores: 4,
        memory_bytes: 1,
        build: "0.1.0".into(),
        pid: 1,
    });
    facts.publish(Event::JobEnded {
        application: "a".into(),
        job: "j".into(),
        end: JobEnd::Failed,
        elapsed_micros: 2_000_000,
        reason: "no".into(),
        metrics: TaskMetrics {
            rows_read: 7,
            ..TaskMetrics::default()
        },
    });
    facts.publish(Event::StreamChanged {
        stream: "odd \"name\"\n".into(),
        state: "running".into(),
        reason: String::new(),
    });
    facts.publish(Event::TableCommitted {
        table: "t".into(),
        version: 1,
        rows: 3,
        files: 1,
        bytes: 10,
        application: String::new(),
        statement: 0,
        stream: "odd \"name\"\n".into(),
    });
    Seen {
        history: facts.history(),
        totals: facts.totals(),
        streams: vec![status()],
        process: Process::read().unwrap(),
    }
}

fn status() -> StreamStatus {
    StreamStatus {
        name: "odd \"name\"\n".into(),
        lag: 5,
        lag_millis: 1500,
        records: 2_000_000,
        requests: 30,
        reasons: [("null value".to_owned(), 3)].into(),
        partitions: vec![PartitionStatus {
            topic: "t".into(),
            partition: 7,
            committed: 10,
            end: 15,
            lag_millis: 1500,
            watermark_unix_millis: 1_541_000_000_500,
            ..PartitionStatus::default()
        }],
        tables: vec![StreamTableStatus {
            table: "rows".into(),
            last_commit_unix_millis: 1000,
            files: 4,
            ..StreamTableStatus::default()
        }],
        ..StreamStatus::default()
    }
}

fn text() -> String {
    let mut text = String::new();
    page(seen(), &mut text).unwrap();
    text
}

#[test]
fn a_scrape_shows_counts_states_and_durations() {
    let text = text();
    for line in [
        "drumline_workers{state=\"alive\"} 1.0",
        "drumline_worker_cores 4.0",
        "drumline_jobs_finished_total{state=\"failed\"} 1.0",
        "drumline_job_duration_seconds_bucket{le=\"1.0\"} 0",
        "drumline_job_duration_seconds_bucket{le=\"3.0\"} 1",
        "drumline_job_duration_seconds_bucket{le=\"+Inf\"} 1",
        "drumline_rows_read_total 7.0",
        "drumline_stream_rows_committed_total{stream=\"odd \\\"name\\\"\\n\"} 3.0",
        "drumline_stream_lag_records{stream=\"odd \\\"name\\\"\\n\"} 5.0",
        "drumline_stream_lag_seconds{stream=\"odd \\\"name\\\"\\n\"} 1.5",
        "drumline_stream_requests_per_million_records{stream=\"odd \\\"name\\\"\\n\"} 15.0",
        "topic=\"t\",partition=\"7\"} 1541000000.5",
        "reason=\"null value\"} 3.0",
        "table=\"rows\"} 4.0",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn every_metric_is_documented_with_its_type() {
    let documented = include_str!("../../../docs/metrics.md");
    let text = text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for (name, kind) in types.filter_map(|line| line.split_once(' ')) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        let row = format!("| `{name}{suffix}` | {kind} |");
        assert!(
            documented.contains(&row),
            "docs/metrics.md has no row {row}"
        );
    }
}
