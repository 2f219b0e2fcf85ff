//! `/metrics`: what monitoring asks for, in the OpenMetrics text format, read from `facts` at each scrape.
//!
//! Names begin with `drumline_` and carry their unit; labels are bounded: states, and names of streams.
//! docs/metrics.md lists them all, and a test holds it to that.

mod streams;

use std::fmt::{self, Write};
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use drumline_proto::v1::StreamStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use drumline_engine::Process;

use crate::facts::{Facts, History, JOB_SECONDS, State, Totals, WorkerState};
use crate::streams::Streams;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers scrapes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    facts: Facts,
    streams: Streams,
}

impl Metrics {
    pub(crate) fn new(facts: Facts, streams: Streams) -> Self {
        Self { facts, streams }
    }

    /// The answer to one scrape.
    pub(crate) async fn scrape(&self) -> Response {
        let statuses = self.streams.status().await;
        let seen = Seen {
            history: self.facts.history(),
            totals: self.facts.totals(),
            streams: statuses.into_values().collect(),
            process: Process::read().unwrap_or_default(),
        };
        let mut text = String::new();
        match page(seen, &mut text) {
            Ok(()) => ([(http::header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics page");
                http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

fn page(seen: Seen, text: &mut impl Write) -> fmt::Result {
    let mut registry = Registry::with_prefix("drumline");
    registry.register_collector(Box::new(seen));
    encode(text, &registry)
}

/// What one scrape shows.
#[derive(Debug)]
struct Seen {
    history: History,
    totals: Arc<Totals>,
    streams: Vec<StreamStatus>,
    process: Process,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One metric of several series at most.
struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl IntoIterator<Item = (Labels<'v>, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in series {
            match labels.is_empty() {
                true => metric.encode_gauge(&value)?,
                false => metric.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, [(vec![], value)])
    }

    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl IntoIterator<Item = (Labels<'v>, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in series {
            match labels.is_empty() {
                true => metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                false => metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) -> fmt::Result {
        self.counters(name, help, unit, [(vec![], value as f64)])
    }
}

impl Collector for Seen {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer { encoder };
        self.cluster(&mut writer)?;
        self.applications(&mut writer)?;
        self.jobs(&mut writer)?;
        self.lake(&mut writer)?;
        self.streams(&mut writer)?;
        let process = &self.process;
        writer.gauge(
            "process_resident_memory",
            "Resident memory of the master",
            Some(Unit::Bytes),
            process.resident_bytes as f64,
        )?;
        writer.counters(
            "process_cpu",
            "Processor time of the master",
            Some(Unit::Seconds),
            [(vec![], process.cpu_seconds)],
        )?;
        writer.gauge(
            "process_start_time",
            "When the master started, since 1970",
            Some(Unit::Seconds),
            self.history.started_at as f64 / 1000.0,
        )
    }
}

impl Seen {
    fn cluster(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let workers = || self.history.workers.values();
        let members = || workers().filter(|worker| worker.state.is_member());
        let states = [
            WorkerState::Alive,
            WorkerState::Draining,
            WorkerState::SetAside,
        ];
        writer.gauges(
            "build_info",
            "The master's build; always 1",
            None,
            [(vec![("version", self.history.build.as_str())], 1.0)],
        )?;
        writer.gauges(
            "workers",
            "Workers that are members of the cluster",
            None,
            states.map(|state| {
                let count = workers().filter(|worker| worker.state == state).count();
                (vec![("state", state.name())], count as f64)
            }),
        )?;
        writer.gauge(
            "worker_cores",
            "Cores of all members",
            None,
            members().map(|worker| f64::from(worker.cores)).sum(),
        )?;
        writer.gauge(
            "worker_resident_memory",
            "Resident memory of all members, as of their last heartbeats",
            Some(Unit::Bytes),
            members()
                .map(|worker| worker.memory_used_bytes as f64)
                .sum(),
        )?;
        writer.gauge(
            "running_tasks",
            "Tasks that run on members",
            None,
            members()
                .map(|worker| f64::from(worker.running_tasks))
                .sum(),
        )?;
        writer.counter(
            "workers_joined",
            "Workers that joined",
            None,
            self.totals.workers_joined,
        )?;
        writer.counter(
            "workers_lost",
            "Workers that went silent or whose call broke",
            None,
            self.totals.workers_lost,
        )
    }

    fn applications(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let count = |state: State| {
            let applications = self.history.applications.values();
            applications
                .filter(|application| application.state == state)
                .count() as f64
        };
        writer.gauges(
            "applications",
            "Applications that are not over",
            None,
            [State::Waiting, State::Running]
                .map(|state| (vec![("state", state.name())], count(state))),
        )?;
        writer.counter(
            "applications_submitted",
            "Applications accepted",
            None,
            self.totals.applications_submitted,
        )?;
        writer.counters(
            "applications_finished",
            "Applications that ended, by how",
            None,
            by_state(&self.totals.applications_finished),
        )?;
        writer.counter(
            "statements_finished",
            "Statements that ended with success",
            None,
            self.totals.statements_finished,
        )
    }

    fn jobs(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let totals = &self.totals;
        let running = self
            .history
            .jobs
            .values()
            .filter(|job| !job.state.is_over());
        writer.gauge(
            "running_jobs",
            "Jobs that run",
            None,
            running.count() as f64,
        )?;
        writer.counters(
            "jobs_finished",
            "Jobs that ended, by how",
            None,
            by_state(&totals.jobs_finished),
        )?;
        writer.counter(
            "job_retries",
            "Attempts that had to be repeated",
            None,
            totals.job_retries,
        )?;
        let mut metric = writer.encoder.encode_descriptor(
            "job_duration",
            "How long jobs took, from their plan to their last row",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let bounds = JOB_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(totals.job_seconds).collect();
        let jobs = totals.job_seconds.iter().sum();
        metric.encode_histogram::<NoLabelSet>(totals.job_seconds_sum, jobs, &buckets, None)?;
        writer.counters(
            "tasks_finished",
            "Tasks that ended, by how",
            None,
            by_state(&totals.tasks_finished),
        )?;
        for (name, help, unit, value) in [
            ("rows_read", "Rows read from tables", None, totals.rows_read),
            (
                "read",
                "Bytes read from files of tables",
                Some(Unit::Bytes),
                totals.bytes_read,
            ),
            (
                "rows_exchanged",
                "Rows sent between tasks",
                None,
                totals.rows_exchanged,
            ),
            (
                "exchanged",
                "Bytes sent between tasks, as encoded",
                Some(Unit::Bytes),
                totals.bytes_exchanged,
            ),
            (
                "spilled",
                "Bytes written to disk for want of memory",
                Some(Unit::Bytes),
                totals.spilled_bytes,
            ),
        ] {
            writer.counter(name, help, unit, value)?;
        }
        Ok(())
    }

    fn lake(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let committed = &self.totals.statement_commits;
        writer.counter(
            "statement_commits",
            "Commits made by statements",
            None,
            committed.commits,
        )?;
        writer.counter(
            "statement_rows_committed",
            "Rows committed by statements",
            None,
            committed.rows,
        )?;
        writer.counter(
            "statement_committed",
            "Bytes of files committed by statements",
            Some(Unit::Bytes),
            committed.bytes,
        )
    }

    fn streams(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let streams = self.history.streams.values();
        writer.gauges(
            "stream_state",
            "1 for the state that each stream is in",
            None,
            streams.map(|stream| {
                let labels = vec![
                    ("stream", stream.name.as_str()),
                    ("state", stream.state.as_str()),
                ];
                (labels, 1.0)
            }),
        )?;
        streams::write(&self.streams, writer)?;
        let commits = || self.totals.stream_commits.iter();
        let of = |name| vec![("stream", name)];
        writer.counters(
            "stream_commits",
            "Commits of each stream, all its tables together",
            None,
            commits().map(|(name, all)| (of(name.as_str()), all.commits as f64)),
        )?;
        writer.counters(
            "stream_rows_committed",
            "Rows that each stream committed, dead letters included",
            None,
            commits().map(|(name, all)| (of(name.as_str()), all.rows as f64)),
        )?;
        writer.counters(
            "stream_files_committed",
            "Files that each stream committed",
            None,
            commits().map(|(name, all)| (of(name.as_str()), all.files as f64)),
        )?;
        writer.counters(
            "stream_committed",
            "Bytes of files that each stream committed",
            Some(Unit::Bytes),
            commits().map(|(name, all)| (of(name.as_str()), all.bytes as f64)),
        )
    }
}

fn by_state(
    counts: &std::collections::BTreeMap<State, u64>,
) -> impl Iterator<Item = (Labels<'static>, f64)> {
    let states = [State::Succeeded, State::Failed, State::Cancelled];
    let rows = states.map(|state| {
        let count = counts.get(&state).copied().unwrap_or_default();
        (vec![("state", state.name())], count as f64)
    });
    rows.into_iter()
}

#[cfg(test)]
mod tests;
