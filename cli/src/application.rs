//! Runs an application and shows what it does: answers on stdout, progress and messages on stderr.
//!
//! The events come from the master, first to last. Rows are fetched while events go on, because a job
//! only advances as its rows are read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use drumline_proto::v1::application_event::Event;
use drumline_proto::v1::{
    ApplicationFinished, ApplicationState, Failure as WireFailure, FailureKind, JobFinished,
    ResultReady, StatementFinished, SubmitRequest,
};
use futures::StreamExt as _;

use crate::connect::{Application, Client, Rows};
use crate::failure::{Code, Failure, Result};
use crate::output::{Columns, Format, RowWriter, Written};
use crate::progress::Progress;
use crate::signals::StopSignals;
use crate::terminal::Terminal;
use crate::{caret, output};

/// How long a cancelled application may take to say that no task of it runs any more.
const CANCEL_DEADLINE: Duration = Duration::from_secs(15);

/// How an application's output is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) terminal: Terminal,
    pub(crate) format: Format,
    /// What each job's tasks did, on stderr.
    pub(crate) facts: bool,
}

/// SQL to run.
#[derive(Clone, Debug)]
pub(crate) struct Script<'a> {
    pub(crate) name: &'a str,
    pub(crate) sql: &'a str,
    /// File it came from; `None`: typed in.
    pub(crate) source: Option<&'a str>,
    pub(crate) settings: HashMap<String, String>,
}

/// Submits, follows to the end, shows. A stop signal cancels the application on the master.
pub(crate) async fn run(
    client: &Client,
    script: &Script<'_>,
    view: View,
    signals: &mut StopSignals,
) -> Result {
    let submit = client.submit(SubmitRequest {
        name: script.name.to_owned(),
        settings: script.settings.clone().into_iter().collect(),
        source: script.source.unwrap_or_default().to_owned(),
        body: Some(drumline_proto::v1::submit_request::Body::Sql(
            script.sql.to_owned(),
        )),
    });
    let mut application = tokio::select! {
        application = submit => application?,
        () = signals.recv() => return Err(Failure::cancelled()),
    };
    let mut run = Run {
        view,
        script,
        progress: Progress::new(view.terminal),
        answer: None,
    };
    let end = tokio::select! {
        end = run.follow(&mut application) => end,
        () = signals.recv() => Ok(End::Stop(Failure::cancelled())),
    };
    run.progress.clear();
    drop(run);
    match end {
        Ok(End::Finished) => Ok(()),
        Ok(End::ReaderGone) => {
            cancel(&application, view.terminal).await;
            Ok(())
        }
        Ok(End::Stop(failure)) => {
            cancel(&application, view.terminal).await;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

async fn cancel(application: &Application, terminal: Terminal) {
    match tokio::time::timeout(CANCEL_DEADLINE, application.cancel()).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => terminal.say(format!("warning: could not cancel: {}", failure.message)),
        Err(_) => terminal.say("warning: the master has not confirmed the cancellation"),
    }
}

enum End {
    Finished,
    /// Nobody reads our stdout any more.
    ReaderGone,
    Stop(Failure),
}

struct Run<'a> {
    view: View,
    script: &'a Script<'a>,
    progress: Progress,
    answer: Option<Answer>,
}

/// Rows that are being read.
struct Answer {
    rows: Rows,
    writer: RowWriter<std::io::Stdout>,
}

impl Run<'_> {
    async fn follow(&mut self, application: &mut Application) -> Result<End> {
        loop {
            tokio::select! {
                biased;
                batch = next_batch(&mut self.answer) => match batch {
                    Some(Ok(batch)) => {
                        let Some(answer) = &mut self.answer else { continue };
                        if answer.writer.write(&batch)? == Written::ReaderGone {
                            return Ok(End::ReaderGone);
                        }
                    }
                    // The application's own end says why, and better.
                    Some(Err(_)) => self.answer = None,
                    None => if self.finish_answer()? == Written::ReaderGone { return Ok(End::ReaderGone) },
                },
                event = application.next_event() => match event? {
                    Some(Event::ApplicationFinished(end)) => return self.ended(&end),
                    Some(event) => self.observe(application, event).await?,
                    None => return Err(Failure::unreachable("the master ended the conversation before the application's end")
                        .hint("see the application's state in the master's log, then submit again")),
                },
            }
        }
    }

    async fn observe(&mut self, application: &Application, event: Event) -> Result {
        match event {
            Event::StatementStarted(statement) => self.progress.statement_started(&statement.sql),
            Event::JobPlanned(job) => self.progress.job_planned(&job),
            Event::TaskChanged(task) => self.progress.task_changed(&task),
            Event::JobRetried(retry) => {
                // Rows of the attempt before are void.
                let line = format!(
                    "attempt {} of statement {}: {}",
                    retry.attempt, retry.ordinal, retry.reason
                );
                self.progress.say(self.view.terminal, &line);
            }
            Event::ResultReady(ready) => self.open_answer(application, ready).await?,
            Event::JobFinished(job) if self.view.facts => self
                .progress
                .say(self.view.terminal, facts(&job).trim_end()),
            Event::StatementFinished(statement) => {
                self.progress.clear();
                // The end of a statement can overtake its last rows.
                self.drain_answer().await?;
                let line = summary(&statement);
                self.view.terminal.say(line);
            }
            Event::ApplicationStarted(_)
            | Event::JobFinished(_)
            | Event::ApplicationFinished(_) => {}
        }
        Ok(())
    }

    async fn open_answer(&mut self, application: &Application, ready: ResultReady) -> Result {
        self.drain_answer().await?;
        let rows = application.rows(&ready).await?;
        let writer = RowWriter::new(self.view.format, rows.schema(), std::io::stdout());
        if self.view.format != Format::Table {
            // Rows scroll by: bars would be drawn between them.
            self.progress.clear();
        }
        self.answer = Some(Answer { rows, writer });
        Ok(())
    }

    async fn drain_answer(&mut self) -> Result {
        while self.answer.is_some() {
            match next_batch(&mut self.answer).await {
                Some(Ok(batch)) => {
                    if let Some(answer) = &mut self.answer
                        && answer.writer.write(&batch)? == Written::ReaderGone
                    {
                        self.answer = None;
                    }
                }
                Some(Err(_)) => self.answer = None,
                None => {
                    self.finish_answer()?;
                }
            }
        }
        Ok(())
    }

    fn finish_answer(&mut self) -> Result<Written> {
        let Some(answer) = self.answer.take() else {
            return Ok(Written::Yes);
        };
        self.progress.clear();
        answer.writer.finish()
    }

    fn ended(&self, end: &ApplicationFinished) -> Result<End> {
        match end.state() {
            ApplicationState::Succeeded => Ok(End::Finished),
            ApplicationState::Cancelled => Err(Failure::cancelled()),
            ApplicationState::Failed | ApplicationState::Unspecified => Err(explain(
                end.failure.clone().unwrap_or_default(),
                self.script,
            )),
        }
    }
}

/// The next rows of the open answer; pending while there is none.
async fn next_batch(answer: &mut Option<Answer>) -> Option<Result<arrow::array::RecordBatch>> {
    match answer {
        Some(answer) => answer.rows.next().await,
        None => std::future::pending().await,
    }
}

/// A failure of the application, with the place in its text.
fn explain(failure: WireFailure, script: &Script<'_>) -> Failure {
    let place = match failure.line {
        0 => String::new(),
        line => caret::render(script.sql, script.source, line, failure.column),
    };
    from_wire(failure).detail(place)
}

/// A failure that came over the wire. The request being wrong is exit 1 too: the command was used
/// rightly, the job failed.
pub(crate) fn from_wire(failure: WireFailure) -> Failure {
    let message = match failure.message.as_str() {
        "" => "the master gave no reason".to_owned(),
        message => message.to_owned(),
    };
    let hint = match (failure.kind(), failure.hint.as_str()) {
        (FailureKind::Retryable, "") => "this may pass: try again".to_owned(),
        (FailureKind::Bug, "") => {
            "this is a defect of Drumline: please report it with the master's log".to_owned()
        }
        (_, hint) => hint.to_owned(),
    };
    Failure::new(Code::Failed, message).hint(hint)
}

/// What a statement did, on one line.
fn summary(statement: &StatementFinished) -> String {
    let elapsed = output::elapsed(Duration::from_micros(statement.elapsed_micros));
    let rows = output::rows(statement.rows);
    if !statement.message.is_empty() {
        return format!("{} ({elapsed})", statement.message);
    }
    match (statement.table.as_str(), statement.already_committed) {
        ("", _) => format!("{rows} in {elapsed}"),
        (table, true) => format!(
            "{table}: had been committed before as version {}, nothing done twice",
            statement.version
        ),
        (table, false) => {
            let files = statement.files;
            format!(
                "{rows} written to {table}, version {}, {files} files, in {elapsed}",
                statement.version
            )
        }
    }
}

/// What each task of a job did.
fn facts(job: &JobFinished) -> String {
    let mut columns = Columns::new(&[
        "STAGE",
        "TASK",
        "WORKER",
        "ROWS READ",
        "ROWS SENT",
        "BYTES SENT",
        "ELAPSED",
    ]);
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for task in &job.tasks {
        *total.entry("rows").or_default() += task.rows_exchanged;
        *total.entry("bytes").or_default() += task.bytes_exchanged;
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
    let (rows, bytes) = (
        total.get("rows").copied().unwrap_or(0),
        total.get("bytes").copied().unwrap_or(0),
    );
    let elapsed = output::elapsed(Duration::from_micros(job.elapsed_micros));
    format!(
        "job {} in {elapsed}: {rows} rows, {bytes} bytes exchanged\n{}",
        job.job_id,
        columns.render()
    )
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::TaskFacts;

    use super::*;

    fn script(sql: &str) -> Script<'_> {
        Script {
            name: "test",
            sql,
            source: None,
            settings: HashMap::new(),
        }
    }

    #[test]
    fn a_mistyped_name_shows_its_place_and_the_candidates() {
        let failure = WireFailure {
            kind: FailureKind::User as i32,
            message: "no column `artst`".to_owned(),
            hint: "did you mean `artist`?".to_owned(),
            ordinal: 0,
            line: 1,
            column: 8,
        };
        insta::assert_snapshot!(explain(failure, &script("SELECT artst FROM listen_events")).render(), @r"
        error: no column `artst`
          |
        1 | SELECT artst FROM listen_events
          |        ^
        hint: did you mean `artist`?
        ");
    }

    #[test]
    fn a_failure_without_a_place_has_no_caret() {
        let failure = WireFailure {
            message: "worker w1 was lost".to_owned(),
            kind: FailureKind::Retryable as i32,
            ..Default::default()
        };
        let shown = explain(failure, &script("SELECT 1"));
        assert_eq!(
            shown.render(),
            "error: worker w1 was lost\nhint: this may pass: try again\n"
        );
        assert_eq!(shown.code, Code::Failed);
    }

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
            elapsed_micros: 2_500_000,
            ..Default::default()
        };
        assert_eq!(
            summary(&write),
            "96 rows written to dim_users, version 1, 2 files, in 2.50 s"
        );
        let again = StatementFinished {
            already_committed: true,
            ..write
        };
        assert_eq!(
            summary(&again),
            "dim_users: had been committed before as version 1, nothing done twice"
        );
        let view = StatementFinished {
            message: "created view v".to_owned(),
            ..Default::default()
        };
        assert_eq!(summary(&view), "created view v (0 ms)");
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
