//! Counts of what has happened, for monitoring: they only grow.

use std::collections::BTreeMap;

use super::event::{Event, JobEnd, TaskMetrics};
use super::records::State;

/// Upper bounds of the job durations' buckets, in seconds.
pub(crate) const JOB_SECONDS: [f64; 12] = [
    0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0,
];

/// What has happened so far, as far as the journal remembers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) applications_submitted: u64,
    /// By state: succeeded, failed, cancelled.
    pub(crate) applications_finished: BTreeMap<State, u64>,
    pub(crate) statements_finished: u64,
    pub(crate) jobs_finished: BTreeMap<State, u64>,
    pub(crate) job_retries: u64,
    /// Jobs per bucket of [`JOB_SECONDS`], not cumulated; the last holds all that took longer.
    pub(crate) job_seconds: [u64; JOB_SECONDS.len() + 1],
    pub(crate) job_seconds_sum: f64,
    pub(crate) tasks_finished: BTreeMap<State, u64>,
    /// What tasks, and plans that ran in the master, did in all.
    pub(crate) rows_read: u64,
    pub(crate) bytes_read: u64,
    pub(crate) rows_exchanged: u64,
    pub(crate) bytes_exchanged: u64,
    pub(crate) spilled_bytes: u64,
    pub(crate) workers_joined: u64,
    pub(crate) workers_lost: u64,
    pub(crate) statement_commits: Committed,
    /// By stream.
    pub(crate) stream_commits: BTreeMap<String, Committed>,
}

/// What commits have added.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Committed {
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::ApplicationAccepted { .. } => self.applications_submitted += 1,
            Event::ApplicationFinished { state, .. } => {
                *self.applications_finished.entry(*state).or_default() += 1;
            }
            Event::StatementFinished { .. } => self.statements_finished += 1,
            Event::JobRetried { .. } => self.job_retries += 1,
            Event::JobEnded {
                end,
                elapsed_micros,
                metrics,
                ..
            } => {
                let state = match end {
                    JobEnd::Succeeded => State::Succeeded,
                    JobEnd::Failed => State::Failed,
                    JobEnd::Cancelled => State::Cancelled,
                };
                *self.jobs_finished.entry(state).or_default() += 1;
                let seconds = *elapsed_micros as f64 / 1e6;
                let bucket = JOB_SECONDS.iter().position(|bound| seconds <= *bound);
                self.job_seconds[bucket.unwrap_or(JOB_SECONDS.len())] += 1;
                self.job_seconds_sum += seconds;
                self.work(metrics);
            }
            Event::TaskEnded {
                failed, metrics, ..
            } => {
                let state = match failed {
                    true => State::Failed,
                    false => State::Succeeded,
                };
                *self.tasks_finished.entry(state).or_default() += 1;
                self.work(metrics);
            }
            Event::WorkerJoined { .. } => self.workers_joined += 1,
            Event::WorkerLeft { clean: false, .. } => self.workers_lost += 1,
            Event::TableCommitted {
                rows,
                files,
                bytes,
                stream,
                ..
            } => {
                let committed = match stream.is_empty() {
                    true => &mut self.statement_commits,
                    false => self.stream_commits.entry(stream.clone()).or_default(),
                };
                committed.commits += 1;
                committed.rows += rows;
                committed.files += files;
                committed.bytes += bytes;
            }
            // A series for each stream that ever was would never end.
            Event::StreamDeleted { stream } => {
                self.stream_commits.remove(stream);
            }
            _ => {}
        }
    }

    fn work(&mut self, metrics: &TaskMetrics) {
        self.rows_read += metrics.rows_read;
        self.bytes_read += metrics.bytes_read;
        self.rows_exchanged += metrics.rows_exchanged;
        self.bytes_exchanged += metrics.bytes_exchanged;
        self.spilled_bytes += metrics.spilled_bytes;
    }
}
