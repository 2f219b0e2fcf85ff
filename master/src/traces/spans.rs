//! Records as spans: an application, its statements, each one's jobs, their stages and tasks.
//!
//! A trace has its application's id, without the dashes. A span's id follows from the name of what it is, so a master
//! that was restarted in between goes on with the same trace.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::facts::{Application, History, Job, Stage, State, Statement, Task, TaskMetrics};

/// Characters of a statement's text that a span carries.
const TEXT: usize = 4096;

/// What a span is of, within its trace.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    Application,
    Statement(u32),
    Job(&'a str),
    Stage(&'a str, u32),
    Task(&'a str, u32, u32),
}

impl Subject<'_> {
    fn id(&self) -> SpanId {
        let name = match self {
            Self::Application => String::new(),
            Self::Statement(statement) => format!("statement {statement}"),
            Self::Job(job) => format!("job {job}"),
            Self::Stage(job, stage) => format!("stage {job} {stage}"),
            Self::Task(job, stage, task) => format!("task {job} {stage} {task}"),
        };
        let mut id = [0; 8];
        id.copy_from_slice(&Sha256::digest(name)[..8]);
        SpanId::from_bytes(id)
    }
}

/// A statement that succeeded, with all below it.
pub(super) fn of_statement(history: &History, application: &str, number: u32) -> Vec<SpanData> {
    let Some(record) = history.applications.get(application) else {
        return vec![];
    };
    let mut statements = record.statements.iter();
    let Some(statement) = statements.find(|statement| statement.statement == number) else {
        return vec![];
    };
    let mut trace = Trace::of(record);
    trace.statement(history, statement);
    trace.spans
}

/// An application that is over, with those of its statements that did not succeed: the others were told.
pub(super) fn of_end(history: &History, application: &str) -> Vec<SpanData> {
    let Some(record) = history.applications.get(application) else {
        return vec![];
    };
    let mut trace = Trace::of(record);
    trace.application(record);
    for statement in &record.statements {
        if statement.state != State::Succeeded {
            trace.statement(history, statement);
        }
    }
    trace.spans
}

/// The spans of one application.
struct Trace {
    id: TraceId,
    application: String,
    failure: Option<String>,
    spans: Vec<SpanData>,
}

/// Start and end.
type Times = (SystemTime, SystemTime);

impl Trace {
    fn of(record: &Application) -> Self {
        let id = Uuid::parse_str(&record.id).unwrap_or_default();
        Self {
            id: TraceId::from(id.as_u128()),
            application: record.id.clone(),
            failure: record
                .failure
                .as_ref()
                .map(|failure| failure.message.clone()),
            spans: vec![],
        }
    }

    fn application(&mut self, record: &Application) {
        let attributes = vec![
            KeyValue::new("drumline.application.name", record.name.clone()),
            KeyValue::new("drumline.application.kind", record.kind.clone()),
            KeyValue::new("drumline.submitted_by", record.submitted_by.clone()),
            KeyValue::new("drumline.resumed", i64::from(record.resumed)),
        ];
        let name = match record.name.is_empty() {
            true => "application".to_owned(),
            false => format!("application {}", record.name),
        };
        let failure = self.failure.clone();
        self.span(
            Subject::Application,
            None,
            name,
            times(record.submitted_at, record.ended_at, 0),
            status(record.state, failure.as_deref()),
            attributes,
        );
    }

    fn statement(&mut self, history: &History, record: &Statement) {
        let mut attributes = vec![
            KeyValue::new("db.system.name", "drumline"),
            KeyValue::new("db.query.text", beginning(&record.sql)),
            KeyValue::new("drumline.statement", i64::from(record.statement)),
            KeyValue::new("drumline.attempts", i64::from(record.attempts)),
            KeyValue::new("db.response.returned_rows", integer(record.rows)),
        ];
        if !record.table.is_empty() {
            attributes.push(KeyValue::new("db.collection.name", record.table.clone()));
            attributes.push(KeyValue::new(
                "drumline.table.version",
                integer(record.version),
            ));
            attributes.push(KeyValue::new("drumline.files", integer(record.files)));
        }
        let failure = self.failure.clone();
        self.span(
            Subject::Statement(record.statement),
            Some(Subject::Application),
            format!("statement {}", record.statement),
            times(record.started_at, record.ended_at, record.elapsed_micros),
            status(record.state, failure.as_deref()),
            attributes,
        );
        for job in &record.jobs {
            if let Some(job) = history.jobs.get(job) {
                self.job(job);
            }
        }
    }

    fn job(&mut self, record: &Job) {
        let mut attributes = vec![
            KeyValue::new("drumline.job", record.id.clone()),
            KeyValue::new("drumline.attempt", i64::from(record.attempt)),
        ];
        attributes.extend(measured(&record.metrics));
        self.span(
            Subject::Job(&record.id),
            Some(Subject::Statement(record.statement)),
            format!("job, attempt {}", record.attempt),
            times(record.started_at, record.ended_at, record.elapsed_micros),
            status(record.state, Some(&record.reason)),
            attributes,
        );
        for stage in &record.stages {
            self.stage(record, stage);
        }
    }

    fn stage(&mut self, job: &Job, record: &Stage) {
        // A stage runs from its first task's start to its last one's end.
        let starts = record.tasks.iter().map(|task| task.started_at);
        let Some(start) = starts.filter(|at| *at > 0).min() else {
            return;
        };
        let ends = record.tasks.iter().map(|task| task.ended_at);
        let attributes = vec![
            KeyValue::new("drumline.stage", i64::from(record.stage)),
            KeyValue::new("drumline.partitions", i64::from(record.partitions)),
        ];
        self.span(
            Subject::Stage(&record.job, record.stage),
            Some(Subject::Job(&record.job)),
            format!("stage {}", record.stage),
            times(start, ends.max().unwrap_or(job.ended_at), 0),
            status(record.state, Some(&job.reason)),
            attributes,
        );
        for task in record.tasks.iter().filter(|task| task.started_at > 0) {
            self.task(job, task);
        }
    }

    fn task(&mut self, job: &Job, record: &Task) {
        let mut attributes = vec![
            KeyValue::new("drumline.task", i64::from(record.task)),
            KeyValue::new("drumline.worker", record.worker.clone()),
        ];
        attributes.extend(measured(&record.metrics));
        let end = match record.ended_at {
            0 => job.ended_at,
            at => at,
        };
        self.span(
            Subject::Task(&record.job, record.stage, record.task),
            Some(Subject::Stage(&record.job, record.stage)),
            format!("task {}.{}", record.stage, record.task),
            times(record.started_at, end, 0),
            status(record.state, Some(&job.reason)),
            attributes,
        );
    }

    fn span(
        &mut self,
        subject: Subject<'_>,
        parent: Option<Subject<'_>>,
        name: String,
        (start_time, end_time): Times,
        status: Status,
        mut attributes: Vec<KeyValue>,
    ) {
        attributes.push(KeyValue::new(
            "drumline.application",
            self.application.clone(),
        ));
        self.spans.push(SpanData {
            span_context: SpanContext::new(
                self.id,
                subject.id(),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.id()),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("drumline").build(),
        });
    }
}

fn measured(metrics: &TaskMetrics) -> Vec<KeyValue> {
    [
        ("drumline.rows_read", metrics.rows_read),
        ("drumline.bytes_read", metrics.bytes_read),
        ("drumline.rows_out", metrics.rows_out),
        ("drumline.rows_exchanged", metrics.rows_exchanged),
        ("drumline.bytes_exchanged", metrics.bytes_exchanged),
        ("drumline.spilled_bytes", metrics.spilled_bytes),
        ("drumline.memory_peak_bytes", metrics.memory_peak_bytes),
    ]
    .into_iter()
    .map(|(name, value)| KeyValue::new(name, integer(value)))
    .collect()
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn beginning(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

/// From milliseconds since 1970; what was measured more finely may end later than its end says.
fn times(start: i64, end: i64, elapsed_micros: u64) -> Times {
    let at = |millis: i64| {
        let millis = u64::try_from(millis).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    };
    let start = at(start);
    let end = at(end).max(start + Duration::from_micros(elapsed_micros));
    (start, end)
}

fn status(state: State, reason: Option<&str>) -> Status {
    match state {
        State::Succeeded => Status::Ok,
        State::Failed => Status::error(reason.unwrap_or_default().to_owned()),
        State::Cancelled => Status::error("cancelled"),
        State::Waiting | State::Running => Status::Unset,
    }
}

#[cfg(test)]
mod tests;
