//! What statements and jobs did, in words for people.

use std::time::Duration;

use drumline_client::proto::{JobFinished, JobQueued, StatementFinished};

use crate::output::{self, Columns};

/// What a statement did, on one line.
pub(super) fn summary(statement: &StatementFinished) -> String {
    let elapsed = output::elapsed(Duration::from_micros(statement.elapsed_micros));
    let rows = output::rows(statement.rows);
    match (statement.table.as_str(), statement.already_committed) {
        ("", _) if statement.message.is_empty() => format!("{rows} in {elapsed}"),
        ("", _) => format!("{} ({elapsed})", statement.message),
        (table, true) => {
            format!(
                "{table}: had been committed before as version {}, nothing done twice",
                statement.version
            )
        }
        (table, false) => {
            let (files, version) = (statement.files, statement.version);
            // Rows that were added are told in our words, changes of rows in the master's.
            let done = match statement.message.as_str() {
                "" => format!("{rows} written to {table}"),
                added
                    if added.starts_with("wrote ") && added.ends_with(&format!(" to {table}")) =>
                {
                    format!("{rows} written to {table}")
                }
                changed => changed.to_owned(),
            };
            format!("{done}, version {version}, files {files}, in {elapsed}")
        }
    }
}

/// Why nothing happens yet.
pub(super) fn queued(job: &JobQueued) -> String {
    let before = match job.position {
        0 | 1 => "next in line".to_owned(),
        position => format!("number {position} in line"),
    };
    let ordinal = job.ordinal;
    match job.table.as_str() {
        "" => format!(
            "statement {ordinal} waits for free cores, {before}: all workers are busy, or none has joined yet"
        ),
        table => format!(
            "statement {ordinal} waits for its turn to change {table}, {before}: others are changing it"
        ),
    }
}

/// What each task of a job did.
pub(super) fn facts(job: &JobFinished) -> String {
    let mut columns = Columns::new(&[
        "STAGE",
        "TASK",
        "WORKER",
        "ROWS READ",
        "ROWS SENT",
        "BYTES SENT",
        "ELAPSED",
    ]);
    for task in &job.tasks {
        columns.row([
            task.stage.to_string(),
            task.task.to_string(),
            task.worker.clone(),
            task.rows_read.to_string(),
            task.rows_exchanged.to_string(),
            task.bytes_exchanged.to_string(),
            output::elapsed(Duration::from_micros(task.elapsed_micros)),
        ]);
    }
    if columns.is_empty() {
        return format!("job {}: ran in place, no exchange\n", job.job_id);
    }
    let rows: u64 = job.tasks.iter().map(|task| task.rows_exchanged).sum();
    let bytes: u64 = job.tasks.iter().map(|task| task.bytes_exchanged).sum();
    let elapsed = output::elapsed(Duration::from_micros(job.elapsed_micros));
    format!(
        "job {} in {elapsed}: {rows} rows, {bytes} bytes exchanged\n{}",
        job.job_id,
        columns.render()
    )
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::TaskFacts;

    use super::*;

    #[test]
    fn the_summary_says_what_was_done() {
        let query = StatementFinished {
            rows: 1,
            elapsed_micros: 34_000,
            ..Default::default()
        };
        assert_eq!(summary(&query), "1 row in 34 ms");
        let write = StatementFinished {
            rows: 96,
            table: "dim_users".to_owned(),
            version: 1,
            files: 2,
            message: "wrote 96 rows to dim_users".to_owned(),
            elapsed_micros: 2_500_000,
            ..Default::default()
        };
        assert_eq!(
            summary(&write),
            "96 rows written to dim_users, version 1, files 2, in 2.50 s"
        );
        let again = StatementFinished {
            already_committed: true,
            ..write
        };
        assert_eq!(
            summary(&again),
            "dim_users: had been committed before as version 1, nothing done twice"
        );
        let delete = StatementFinished {
            rows: 3,
            table: "dim_users".to_owned(),
            version: 2,
            message: "deleted 3 rows from dim_users".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            summary(&delete),
            "deleted 3 rows from dim_users, version 2, files 0, in 0 ms"
        );
        let view = StatementFinished {
            message: "created view v".to_owned(),
            ..Default::default()
        };
        assert_eq!(summary(&view), "created view v (0 ms)");
    }

    #[test]
    fn a_job_that_waits_says_where_it_stands() {
        let job = |position| JobQueued {
            ordinal: 2,
            attempt: 1,
            position,
            table: String::new(),
        };
        let turn = JobQueued {
            table: "plays".to_owned(),
            ..job(2)
        };
        assert!(queued(&turn).contains("its turn to change plays, number 2 in line"));
        assert!(queued(&job(1)).starts_with("statement 2 waits for free cores, next in line"));
        assert!(queued(&job(3)).contains("number 3 in line"));
    }

    #[test]
    fn facts_add_up_what_was_exchanged() {
        let task = |task| TaskFacts {
            stage: 1,
            task,
            worker: format!("w{task}"),
            rows_exchanged: 10,
            bytes_exchanged: 100,
            elapsed_micros: 5_000,
            rows_read: 50,
        };
        let job = JobFinished {
            job_id: "j".to_owned(),
            tasks: vec![task(0), task(1)],
            elapsed_micros: 9_000,
        };
        let shown = facts(&job);
        assert!(
            shown.starts_with("job j in 9 ms: 20 rows, 200 bytes exchanged\n"),
            "{shown}"
        );
        assert!(shown.contains("w0") && shown.contains("w1"), "{shown}");
    }

    #[test]
    fn a_job_without_stages_says_so() {
        let job = JobFinished {
            job_id: "j".to_owned(),
            ..Default::default()
        };
        assert_eq!(facts(&job), "job j: ran in place, no exchange\n");
    }
}
