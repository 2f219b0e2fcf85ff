//! The tables of the schema `system`, their columns and units. Times are UTC; `_micros` are microseconds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Serialize;
use serde_json::{Value, json};

use crate::facts::History;

/// A table: its columns, and where its rows come from.
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: &'static [(&'static str, Kind)],
    pub(super) rows: fn(&History) -> Vec<Value>,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Count,
    Real,
    Flag,
    Time,
}
use Kind::{Count, Flag, Real, Text, Texts, Time};

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "applications",
        columns: &[
            ("id", Text),
            ("name", Text),
            ("kind", Text),
            ("source", Text),
            ("submitted_by", Text),
            ("state", Text),
            ("submitted_at", Time),
            ("ended_at", Time),
            ("statement_count", Count),
            ("queue_position", Count),
            ("resumed", Count),
            ("error_kind", Text),
            ("error", Text),
            ("hint", Text),
        ],
        rows: |history| values(history.applications.values().map(|record| &**record)),
    },
    Table {
        name: "statements",
        columns: &[
            ("application", Text),
            ("statement", Count),
            ("sql", Text),
            ("state", Text),
            ("started_at", Time),
            ("ended_at", Time),
            ("elapsed_micros", Count),
            ("attempts", Count),
            ("jobs", Texts),
            ("rows", Count),
            ("table", Text),
            ("version", Count),
            ("files", Count),
            ("already_committed", Flag),
            ("message", Text),
            ("retries", Texts),
        ],
        rows: |history| {
            let applications = history.applications.values();
            values(applications.flat_map(|application| &application.statements))
        },
    },
    Table {
        name: "jobs",
        columns: &[
            ("id", Text),
            ("application", Text),
            ("statement", Count),
            ("attempt", Count),
            ("state", Text),
            ("started_at", Time),
            ("ended_at", Time),
            ("elapsed_micros", Count),
            ("reason", Text),
            ("stage_count", Count),
            ("task_count", Count),
            ("rows_read", Count),
            ("bytes_read", Count),
            ("rows_out", Count),
            ("rows_exchanged", Count),
            ("bytes_exchanged", Count),
            ("spilled_bytes", Count),
            ("plan", Text),
        ],
        rows: jobs,
    },
    Table {
        name: "stages",
        columns: &[
            ("job", Text),
            ("stage", Count),
            ("state", Text),
            ("partitions", Count),
            ("task_count", Count),
        ],
        rows: |history| {
            let stages = history.jobs.values().flat_map(|job| &job.stages);
            let row = |stage| {
                let mut row = value(stage);
                row["task_count"] = json!(row["tasks"].as_array().map_or(0, Vec::len));
                row
            };
            stages.map(row).collect()
        },
    },
    Table {
        name: "tasks",
        columns: &[
            ("job", Text),
            ("stage", Count),
            ("task", Count),
            ("attempt", Count),
            ("worker", Text),
            ("state", Text),
            ("started_at", Time),
            ("ended_at", Time),
            ("elapsed_micros", Count),
            ("rows_read", Count),
            ("bytes_read", Count),
            ("rows_out", Count),
            ("rows_exchanged", Count),
            ("bytes_exchanged", Count),
            ("spilled_bytes", Count),
            ("memory_peak_bytes", Count),
        ],
        rows: |history| values(tasks(history)),
    },
    Table {
        name: "operators",
        columns: &[
            ("job", Text),
            ("stage", Count),
            ("task", Count),
            ("position", Count),
            ("depth", Count),
            ("name", Text),
            ("rows_out", Count),
            ("compute_micros", Count),
            ("spilled_bytes", Count),
            ("memory_peak_bytes", Count),
        ],
        rows: operators,
    },
    Table {
        name: "workers",
        columns: &[
            ("id", Text),
            ("url", Text),
            ("state", Text),
            ("reason", Text),
            ("cores", Count),
            ("memory_bytes", Count),
            ("memory_used_bytes", Count),
            ("running_tasks", Count),
            ("build", Text),
            ("pid", Count),
            ("joined_at", Time),
            ("left_at", Time),
        ],
        rows: |history| values(history.workers.values().map(|record| &**record)),
    },
    Table {
        name: "streams",
        columns: &[
            ("name", Text),
            ("state", Text),
            ("reason", Text),
            ("since", Time),
            ("commits", Count),
            ("rows", Count),
            ("last_commit_at", Time),
            ("lag", Count),
            ("lag_seconds", Real),
            ("records_per_second", Real),
            ("bytes_per_second", Real),
            ("records", Count),
            ("requests_per_million", Real),
            ("dead_letters", Count),
            ("files", Count),
            ("bytes", Count),
        ],
        rows: streams,
    },
    Table {
        name: "stream_partitions",
        columns: &[
            ("stream", Text),
            ("topic", Text),
            ("partition", Count),
            ("worker", Text),
            ("epoch", Count),
            ("committed", Count),
            ("end", Count),
            ("until", Count),
            ("lag", Count),
            ("lag_seconds", Real),
            ("newest_at", Time),
            ("oldest_at", Time),
            ("records_per_second", Real),
            ("bytes_per_second", Real),
        ],
        rows: |history| {
            let streams = history.streams.values();
            values(streams.flat_map(|record| &record.progress.partitions))
        },
    },
    Table {
        name: "commits",
        columns: &[
            ("at", Time),
            ("table", Text),
            ("version", Count),
            ("rows", Count),
            ("files", Count),
            ("bytes", Count),
            ("application", Text),
            ("statement", Count),
            ("stream", Text),
        ],
        rows: |history| values(history.commits.iter().map(|record| &**record)),
    },
    // Of the journal, when the master started.
    Table {
        name: "repairs",
        columns: &[
            ("at", Time),
            ("kept", Count),
            ("dropped", Count),
            ("reason", Text),
        ],
        rows: |history| values(history.repairs.iter().map(|record| &**record)),
    },
];

impl Table {
    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|(name, kind)| {
            let kind = match kind {
                Text => DataType::Utf8,
                Texts => DataType::new_list(DataType::Utf8, true),
                Count => DataType::Int64,
                Real => DataType::Float64,
                Flag => DataType::Boolean,
                Time => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            };
            Field::new(*name, kind, true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// A record as JSON; every record is a plain structure, for which this cannot fail.
fn value(record: impl Serialize) -> Value {
    serde_json::to_value(record).unwrap_or_default()
}

fn values(records: impl IntoIterator<Item = impl Serialize>) -> Vec<Value> {
    records.into_iter().map(value).collect()
}

/// What happened to streams, and how far they are.
fn streams(history: &History) -> Vec<Value> {
    let row = |record: &std::sync::Arc<crate::facts::Stream>| {
        let mut row = value(&**record);
        if let (Value::Object(row), Value::Object(progress)) = (&mut row, value(&*record.progress))
        {
            row.extend(progress);
        }
        row
    };
    history.streams.values().map(row).collect()
}

fn tasks(history: &History) -> impl Iterator<Item = &crate::facts::Task> {
    let stages = history.jobs.values().flat_map(|job| &job.stages);
    stages.flat_map(|stage| &stage.tasks)
}

/// What all tasks and the head of a job did, summed; rows out are those of the head.
fn jobs(history: &History) -> Vec<Value> {
    const SUMMED: [&str; 5] = [
        "rows_read",
        "bytes_read",
        "rows_exchanged",
        "bytes_exchanged",
        "spilled_bytes",
    ];
    let row = |job: &crate::facts::Job| {
        let mut row = value(job);
        let tasks = job.stages.iter().flat_map(|stage| &stage.tasks);
        let all: Vec<Value> = tasks
            .map(|task| value(&task.metrics))
            .chain([value(&job.metrics)])
            .collect();
        for name in SUMMED {
            let sum: u64 = all.iter().filter_map(|one| one[name].as_u64()).sum();
            row[name] = json!(sum);
        }
        row["stage_count"] = json!(job.stages.len());
        row["task_count"] = json!(all.len() - 1);
        row["rows_out"] = json!(job.metrics.rows_out);
        if let Value::Object(fields) = &mut row {
            fields.remove("metrics");
        }
        row
    };
    history.jobs.values().map(|job| row(job)).collect()
}

/// Operators of tasks, and of what ran in the master: there, stage and task are null.
fn operators(history: &History) -> Vec<Value> {
    let mut rows = vec![];
    for job in history.jobs.values() {
        let tasks = job.stages.iter().flat_map(|stage| &stage.tasks);
        let tasks = tasks.map(|task| (json!(task.stage), json!(task.task), &task.metrics));
        let all = tasks.chain([(Value::Null, Value::Null, &job.metrics)]);
        for (stage, task, metrics) in all {
            for (position, operator) in metrics.operators.iter().enumerate() {
                let mut row = value(operator);
                row["job"] = json!(job.id);
                row["stage"] = stage.clone();
                row["task"] = task.clone();
                row["position"] = json!(position);
                rows.push(row);
            }
        }
    }
    rows
}
