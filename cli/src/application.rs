//! Runs an application and shows what it does: answers on stdout, progress and messages on stderr.
//!
//! The events come from the master, first to last. Rows are read while events go on, because a job
//! only advances as its rows are read.

mod report;

use std::collections::HashMap;
use std::time::Duration;

use drumline_client::proto::application_event::Event;
use drumline_client::proto::{self, ApplicationFinished, ApplicationState, ResultReady};
use drumline_client::{Application, Client, Contact, Error, Kind, Rows, Submission};
use futures::{Stream, StreamExt as _};

use crate::caret;
use crate::failure::{Failure, Result};
use crate::output::{Format, RowWriter, Written};
use crate::progress::Progress;
use crate::signals::StopSignals;
use crate::terminal::Terminal;

/// How long a cancelled application may take to say that no task of it runs any more.
const CANCEL_DEADLINE: Duration = Duration::from_secs(15);
/// How often a query is asked, when failures that may pass come before any of its rows were shown.
const ATTEMPTS: u32 = 3;

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
    for attempt in 1.. {
        match once(client, script, view, signals).await? {
            End::Good => return Ok(()),
            End::Bad { error, may_repeat } if may_repeat && attempt < ATTEMPTS => {
                view.terminal.say(format!("asking again: {error}"));
            }
            End::Bad { error, .. } => return Err(explain(error, script)),
        }
    }
    Ok(())
}

/// How one submission ended.
enum End {
    /// Well, or with nobody left to read its answer.
    Good,
    /// `may_repeat`: it was one query, its failure may pass, and nothing of its answer is out.
    Bad { error: Error, may_repeat: bool },
}

async fn once(
    client: &Client,
    script: &Script<'_>,
    view: View,
    signals: &mut StopSignals,
) -> Result<End> {
    let submission = Submission {
        sql: script.sql.to_owned(),
        name: script.name.to_owned(),
        settings: script.settings.clone(),
        source: script.source.unwrap_or_default().to_owned(),
    };
    let mut submitted = std::pin::pin!(client.submit(submission));
    let application = tokio::select! {
        application = &mut submitted => match application {
            Ok(application) => application,
            Err(error) => return Ok(End::Bad { error, may_repeat: false }),
        },
        () = signals.recv() => {
            // It may be accepted already, and would run without anybody knowing its id.
            if let Ok(Ok(application)) = tokio::time::timeout(CANCEL_DEADLINE, submitted).await {
                cancel(&application, view.terminal).await;
            }
            return Err(Failure::cancelled());
        }
    };
    let mut run = Run::new(client, view);
    let followed = tokio::select! {
        followed = run.follow(&application) => followed,
        () = signals.recv() => Ok(Followed::Interrupted),
    };
    run.progress.clear();
    match followed {
        Ok(Followed::Succeeded) => Ok(End::Good),
        Ok(Followed::ReaderGone) => {
            cancel(&application, view.terminal).await;
            Ok(End::Good)
        }
        Ok(Followed::Interrupted) => {
            drop(run);
            view.terminal.say("cancelling");
            cancel(&application, view.terminal).await;
            Err(Failure::cancelled())
        }
        Ok(Followed::Failed(error)) => {
            let passing =
                error.kind() == Kind::Retryable && !matches!(error, Error::Unreachable { .. });
            let may_repeat = passing && run.statements == 1 && run.is_query && !run.shown;
            Ok(End::Bad { error, may_repeat })
        }
        // Our own stdout failed.
        Err(failure) => {
            cancel(&application, view.terminal).await;
            Err(failure)
        }
    }
}

async fn cancel(application: &Application, terminal: Terminal) {
    match tokio::time::timeout(CANCEL_DEADLINE, application.cancel()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => terminal.say(format!("warning: could not cancel: {error}")),
        Err(_) => terminal.say("warning: the master has not confirmed the cancellation"),
    }
}

/// Where following an application led.
enum Followed {
    Succeeded,
    Failed(Error),
    /// Nobody reads our stdout any more.
    ReaderGone,
    /// The user stopped it.
    Interrupted,
}

struct Run<'a> {
    client: &'a Client,
    view: View,
    progress: Progress,
    answer: Option<Answer>,
    /// Why rows broke off, until the application says it better.
    broken: Option<Error>,
    statements: u32,
    /// A statement gave rows.
    is_query: bool,
    /// Something is on stdout.
    shown: bool,
    /// The statement whose result was announced last.
    opened: u32,
}

/// Rows that are being read.
struct Answer {
    rows: Rows,
    writer: RowWriter<std::io::Stdout>,
}

impl<'a> Run<'a> {
    fn new(client: &'a Client, view: View) -> Self {
        Self {
            client,
            view,
            progress: Progress::new(view.terminal),
            answer: None,
            broken: None,
            statements: 0,
            is_query: false,
            shown: false,
            opened: 0,
        }
    }

    async fn follow(&mut self, application: &Application) -> Result<Followed> {
        let mut events = std::pin::pin!(events(application, self.view.terminal));
        loop {
            let event = tokio::select! {
                biased;
                batch = next_batch(&mut self.answer) => {
                    if self.show(batch)? == Written::ReaderGone {
                        return Ok(Followed::ReaderGone);
                    }
                    continue;
                }
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::ApplicationFinished(finished))) => {
                    return Ok(match ended(application.id(), finished) {
                        Ok(()) => self
                            .broken
                            .take()
                            .map_or(Followed::Succeeded, Followed::Failed),
                        Err(cancelled @ Error::Cancelled { .. }) => {
                            Followed::Failed(self.broken.take().unwrap_or(cancelled))
                        }
                        Err(error) => Followed::Failed(error),
                    });
                }
                Some(Ok(event)) => {
                    if self.observe(event).await? == Written::ReaderGone {
                        return Ok(Followed::ReaderGone);
                    }
                }
                Some(Err(error)) => return Ok(Followed::Failed(error)),
                None => {
                    return Err(Failure::unreachable(
                        "the master ended the conversation before the application's end",
                    )
                    .hint("look into the master's log, then submit again"));
                }
            }
        }
    }

    /// Something of the answer arrived: a batch, an error, or its end (`None`).
    fn show(
        &mut self,
        batch: Option<drumline_client::Result<arrow::array::RecordBatch>>,
    ) -> Result<Written> {
        let Some(answer) = &mut self.answer else {
            return Ok(Written::Yes);
        };
        match batch {
            Some(Ok(batch)) => {
                if self.view.format != Format::Table && batch.num_rows() > 0 {
                    // From here on rows scroll by: bars would be drawn between them.
                    self.progress.clear();
                }
                let result = answer.writer.write(&batch)?;
                self.shown |= answer.writer.has_written();
                Ok(result)
            }
            Some(Err(error)) => {
                self.broken = Some(error);
                self.answer = None;
                Ok(Written::Yes)
            }
            None => {
                self.progress.clear();
                self.shown = true;
                match self.answer.take() {
                    Some(answer) => answer.writer.finish(),
                    None => Ok(Written::Yes),
                }
            }
        }
    }

    /// Reads the open answer to its end.
    async fn drain(&mut self) -> Result<Written> {
        while self.answer.is_some() {
            let batch = next_batch(&mut self.answer).await;
            if self.show(batch)? == Written::ReaderGone {
                return Ok(Written::ReaderGone);
            }
        }
        Ok(Written::Yes)
    }

    async fn observe(&mut self, event: Event) -> Result<Written> {
        match event {
            Event::ApplicationStarted(started) => self.statements = started.statements,
            Event::StatementStarted(statement) => self.progress.statement_started(&statement.sql),
            Event::JobQueued(queued) => {
                let line = report::queued(&queued);
                self.progress.say(self.view.terminal, &line);
            }
            Event::JobPlanned(job) => self.progress.job_planned(&job),
            Event::TaskChanged(task) => self.progress.task_changed(&task),
            Event::JobRetried(retry) => {
                let line = format!(
                    "statement {}, attempt {}: {}",
                    retry.ordinal, retry.attempt, retry.reason
                );
                self.progress.say(self.view.terminal, &line);
            }
            Event::ResultReady(ready) => return self.open(&ready).await,
            Event::JobFinished(job) if self.view.facts => {
                self.progress
                    .say(self.view.terminal, report::facts(&job).trim_end());
            }
            Event::StatementFinished(statement) => {
                // The end of a statement can overtake its last rows.
                let drained = self.drain().await?;
                self.progress.clear();
                if self.broken.is_none() {
                    self.view.terminal.say(report::summary(&statement));
                }
                return Ok(drained);
            }
            Event::JobFinished(_) | Event::ApplicationFinished(_) => {}
        }
        Ok(Written::Yes)
    }

    async fn open(&mut self, ready: &ResultReady) -> Result<Written> {
        let drained = self.drain().await?;
        self.is_query = true;
        // Announced again by a restarted master, which does so only if none of its rows were handed out.
        if self.opened == ready.ordinal {
            self.broken = None;
        }
        self.opened = ready.ordinal;
        match self.client.rows(ready).await {
            Ok(rows) => {
                let writer = RowWriter::new(self.view.format, rows.schema(), std::io::stdout());
                self.answer = Some(Answer { rows, writer });
            }
            Err(error) => self.broken = Some(error),
        }
        Ok(drained)
    }
}

/// The next rows of the open answer; pending while there is none.
async fn next_batch(
    answer: &mut Option<Answer>,
) -> Option<drumline_client::Result<arrow::array::RecordBatch>> {
    match answer {
        Some(answer) => answer.rows.next().await,
        None => std::future::pending().await,
    }
}

/// The application's events. Unlike `Events::next`, waiting for the next may be given up and taken up again.
fn events(
    application: &Application,
    terminal: Terminal,
) -> impl Stream<Item = drumline_client::Result<Event>> + use<> {
    let events = application
        .watch()
        .on_contact(move |contact| match contact {
            Contact::Lost => terminal.say("lost the master, waiting for it…"),
            Contact::Going => terminal.say(
                "the master is stopping, and goes on with this when it is started again; waiting for it…",
            ),
            Contact::Back => terminal.say("the master is back"),
        });
    futures::stream::unfold(events, |mut events| async {
        loop {
            match events.next().await {
                Ok(Some(event)) => match event.event {
                    Some(event) => return Some((Ok(event), events)),
                    // Of a later release.
                    None => continue,
                },
                Ok(None) => return None,
                Err(error) => return Some((Err(error), events)),
            }
        }
    })
}

/// What an application's end means.
fn ended(application: &str, finished: ApplicationFinished) -> std::result::Result<(), Error> {
    match finished.state() {
        ApplicationState::Succeeded => Ok(()),
        ApplicationState::Cancelled => Err(Error::Cancelled {
            application: application.to_owned(),
        }),
        ApplicationState::Failed | ApplicationState::Unspecified => {
            let failure = finished.failure.unwrap_or_else(|| proto::Failure {
                message: format!("application {application} failed without a reason"),
                ..proto::Failure::default()
            });
            Err(Error::Failure(Box::new(failure.into())))
        }
    }
}

/// A failure of the application, with the place in its text.
fn explain(error: Error, script: &Script<'_>) -> Failure {
    let place = match error.position() {
        Some(position) => caret::render(script.sql, script.source, position.line, position.column),
        None => String::new(),
    };
    Failure::from(error).detail(place)
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::FailureKind;

    use super::*;

    fn script(sql: &str) -> Script<'_> {
        Script {
            name: "test",
            sql,
            source: None,
            settings: HashMap::new(),
        }
    }

    fn failed(failure: proto::Failure) -> Error {
        let finished = ApplicationFinished {
            state: ApplicationState::Failed as i32,
            failure: Some(failure),
        };
        ended("a", finished).unwrap_err()
    }

    #[test]
    fn a_mistyped_name_shows_its_place_and_the_candidates() {
        let error = failed(proto::Failure {
            kind: FailureKind::User as i32,
            message: "no column `artst`".to_owned(),
            hint: "did you mean `artist`?".to_owned(),
            ordinal: 0,
            line: 1,
            column: 8,
        });
        insta::assert_snapshot!(explain(error, &script("SELECT artst FROM listen_events")).render(), @r"
        error: no column `artst`
          |
        1 | SELECT artst FROM listen_events
          |        ^
        hint: did you mean `artist`?
        ");
    }

    #[test]
    fn a_failure_without_a_place_has_no_caret() {
        let error = failed(proto::Failure {
            message: "worker w1 was lost".to_owned(),
            kind: FailureKind::Retryable as i32,
            ..Default::default()
        });
        let shown = explain(error, &script("SELECT 1"));
        assert_eq!(
            shown.render(),
            "error: worker w1 was lost\nhint: this may pass: try again\n"
        );
    }

    #[test]
    fn an_end_without_a_reason_is_still_a_failure() {
        assert!(ended("a", ApplicationFinished::default()).is_err());
        let finished = ApplicationFinished {
            state: ApplicationState::Succeeded as i32,
            failure: None,
        };
        assert!(ended("a", finished).is_ok());
    }
}
