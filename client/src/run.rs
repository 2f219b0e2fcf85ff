//! SQL text → results, statement by statement.

use std::time::Duration;

use arrow::array::RecordBatch;
use drumline_proto::v1;
use drumline_proto::v1::application_event::Event;

use crate::{Application, Client, Error, Events, Failure, Kind, Result, Rows, Submission};

/// How often a question is asked again after a failure that may pass.
const ATTEMPTS: u32 = 3;
/// How long to wait for an application's own words about why its rows broke off.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Client {
    /// Runs SQL and gives its results one statement after another.
    pub async fn sql(&self, text: &str) -> Result<Run> {
        self.run(Submission::sql(text)).await
    }

    /// The same with a name and settings.
    pub async fn run(&self, submission: Submission) -> Result<Run> {
        Ok(Run::of(self.submit(submission).await?))
    }

    /// Runs SQL to its end and returns the rows of its last statement that has any.
    ///
    /// A single query that loses a worker while its rows are under way is asked again from the
    /// start. A script is not: its other statements may have changed something.
    pub async fn collect_sql(&self, text: &str) -> Result<Vec<RecordBatch>> {
        self.collect_request(v1::SubmitRequest {
            body: Some(v1::submit_request::Body::Sql(text.to_owned())),
            ..v1::SubmitRequest::default()
        })
        .await
    }

    pub(crate) async fn collect_request(
        &self,
        request: v1::SubmitRequest,
    ) -> Result<Vec<RecordBatch>> {
        let mut attempt = 1;
        loop {
            let mut run = Run::of(self.submit_request(request.clone()).await?);
            match run.collect().await {
                Err(error)
                    if attempt < ATTEMPTS
                        && error.kind() == Kind::Retryable
                        && run.is_one_query() =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

/// What one statement gave.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Rows to be read, before the run is asked for more.
    Rows {
        /// Statement, from 1.
        ordinal: u32,
        /// Its rows.
        rows: Rows,
    },
    /// It is done; after its rows, where it has any.
    Finished(v1::StatementFinished),
    /// Anything else that happened: stages planned, tasks running, another attempt.
    Progress(Event),
}

/// SQL on its way through the cluster. Dropping it lets the application run on; see
/// [`Application::cancel`].
#[derive(Debug)]
pub struct Run {
    application: Application,
    events: Events,
    statements: u32,
    gave_rows: bool,
}

impl Run {
    fn of(application: Application) -> Run {
        let events = application.watch();
        Run {
            application,
            events,
            statements: 0,
            gave_rows: false,
        }
    }

    /// The application that runs it.
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// What comes next; `None` when everything succeeded.
    ///
    /// # Errors
    /// The failure of the statement that ended the run, or [`Error::Cancelled`].
    pub async fn next(&mut self) -> Result<Option<Outcome>> {
        let event = loop {
            match self.events.next().await? {
                Some(v1::ApplicationEvent {
                    event: Some(Event::ResultReady(ready)),
                    ..
                }) => {
                    self.gave_rows = true;
                    match self.application.client().rows(&ready).await {
                        Ok(rows) => {
                            return Ok(Some(Outcome::Rows {
                                ordinal: ready.ordinal,
                                rows,
                            }));
                        }
                        // A restarted master announces the result again, or says why it cannot.
                        Err(Error::Unreachable { .. }) => {}
                        Err(error) => return Err(self.last_words(error).await),
                    }
                }
                Some(v1::ApplicationEvent {
                    event: Some(event), ..
                }) => break event,
                // Of a later release.
                Some(_) => {}
                None => return Ok(None),
            }
        };
        Ok(match event {
            Event::StatementFinished(finished) => Some(Outcome::Finished(finished)),
            Event::ApplicationFinished(finished) => {
                ended(self.application.id(), finished)?;
                None
            }
            event => {
                if let Event::ApplicationStarted(started) = &event {
                    self.statements = started.statements;
                }
                Some(Outcome::Progress(event))
            }
        })
    }

    /// To its end; the rows of the last statement that has any.
    pub async fn collect(&mut self) -> Result<Vec<RecordBatch>> {
        let mut last = Vec::new();
        // Rows broke off with their master: a restarted one announces them again, or says why it cannot.
        let mut broken = None;
        loop {
            let rows = match self.next().await {
                Ok(Some(Outcome::Rows { rows, .. })) => rows,
                Ok(Some(_)) => continue,
                Ok(None) => return broken.map_or(Ok(last), Err),
                Err(cancelled @ Error::Cancelled { .. }) => {
                    return Err(broken.unwrap_or(cancelled));
                }
                Err(error) => return Err(error),
            };
            match rows.collect().await {
                Ok(batches) => (last, broken) = (batches, None),
                Err(error @ Error::Unreachable { .. }) => broken = Some(error),
                Err(error) => return Err(self.last_words(error).await),
            }
        }
    }

    /// Rows broke off with `error`: what the application says about it is better, it has a
    /// position and a hint. For who reads [`Outcome::Rows`] on their own.
    pub async fn last_words(&mut self, error: Error) -> Error {
        let end = async {
            while let Some(event) = self.events.next().await? {
                if let Some(Event::ApplicationFinished(finished)) = event.event {
                    return ended(self.application.id(), finished);
                }
            }
            Ok(())
        };
        match tokio::time::timeout(LAST_WORDS, end).await {
            Ok(Err(said @ (Error::Failure(_) | Error::Cancelled { .. }))) => said,
            _ => error,
        }
    }

    fn is_one_query(&self) -> bool {
        self.statements == 1 && self.gave_rows
    }
}

fn ended(application: &str, finished: v1::ApplicationFinished) -> Result<()> {
    match finished.state() {
        v1::ApplicationState::Succeeded => Ok(()),
        v1::ApplicationState::Cancelled => Err(Error::Cancelled {
            application: application.to_owned(),
        }),
        v1::ApplicationState::Failed | v1::ApplicationState::Unspecified => {
            let failure = finished
                .failure
                .map(Failure::from)
                .unwrap_or_else(|| Failure {
                    kind: Kind::Bug,
                    message: format!("application {application} failed without a reason"),
                    hint: None,
                    ordinal: 0,
                    position: None,
                });
            Err(Error::Failure(Box::new(failure)))
        }
    }
}
