//! Applications: submit, watch, cancel.

use std::collections::HashMap;
use std::time::Duration;

use drumline_proto::v1;
use drumline_proto::v1::submit_request::Body;

use crate::{Client, Error, Result};

/// A SQL script to be submitted.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// One or more statements, separated by semicolons.
    pub sql: String,
    /// Shown to people; not unique.
    pub name: String,
    /// Session settings (`drumline.*`, `datafusion.*`).
    pub settings: HashMap<String, String>,
    /// The file the text came from; empty: typed in.
    pub source: String,
}

impl Submission {
    /// A script without a name or settings.
    pub fn sql(text: impl Into<String>) -> Submission {
        Submission {
            sql: text.into(),
            ..Submission::default()
        }
    }
}

impl Client {
    /// Hands a script to the cluster. Returns once it has an id; it runs whether watched or not,
    /// but a statement that returns rows goes on only as they are read ([`Client::sql`] does).
    pub async fn submit(&self, submission: Submission) -> Result<Application> {
        let Submission {
            sql,
            name,
            settings,
            source,
        } = submission;
        self.submit_request(v1::SubmitRequest {
            name,
            settings,
            source,
            body: Some(Body::Sql(sql)),
        })
        .await
    }

    pub(crate) async fn submit_request(&self, request: v1::SubmitRequest) -> Result<Application> {
        let answer = self
            .applications()
            .submit(request)
            .await
            .map_err(|status| self.failed(&status))?;
        Ok(self.application(answer.into_inner().application_id))
    }

    /// The application of this id; whether there is one shows when it is watched.
    pub fn application(&self, id: impl Into<String>) -> Application {
        Application {
            client: self.clone(),
            id: id.into(),
        }
    }
}

/// A submitted application.
#[derive(Debug, Clone)]
pub struct Application {
    client: Client,
    id: String,
}

impl Application {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything that happened to it and will happen, from its beginning.
    pub fn watch(&self) -> Events {
        Events {
            application: self.clone(),
            stream: None,
            last: None,
            finished: false,
            patience: PATIENCE,
            contact: None,
        }
    }

    /// Stops it. Returns when no task of it runs any more.
    pub async fn cancel(&self) -> Result<()> {
        let request = v1::CancelRequest {
            application_id: self.id.clone(),
        };
        self.client
            .applications()
            .cancel(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        Ok(())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// How long a master may be away before a watcher gives up, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between tries grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Whether the master is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// It does not answer any more; it is being waited for.
    Lost,
    /// It says that it stops, and will go on with the application when it is started again; it is being waited for.
    Going,
    /// It answers again.
    Back,
}

type OnContact = Box<dyn Fn(Contact) + Send + Sync>;

/// An application's events in order, each once. When the connection breaks it is made again and
/// what was seen is skipped, so a restart of the master shows as a pause.
pub struct Events {
    application: Application,
    stream: Option<tonic::Streaming<v1::ApplicationEvent>>,
    last: Option<u64>,
    finished: bool,
    patience: Duration,
    contact: Option<OnContact>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("application", &self.application)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// How long the master may be away before waiting for it ends; 60 seconds unless set here.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Told when the master is lost or goes, and when it is back.
    pub fn on_contact(self, tell: impl Fn(Contact) + Send + Sync + 'static) -> Self {
        Self {
            contact: Some(Box::new(tell)),
            ..self
        }
    }

    fn tell(&self, contact: Contact) {
        if let Some(tell) = &self.contact {
            tell(contact);
        }
    }

    /// The next event; `None` after the application's last.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the master stays away for too long.
    pub async fn next(&mut self) -> Result<Option<v1::ApplicationEvent>> {
        if self.finished {
            return Ok(None);
        }
        let mut away_since = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.read().await {
                Ok(Some(event)) => {
                    if away_since.is_some() {
                        self.tell(Contact::Back);
                    }
                    self.last = Some(event.sequence);
                    self.finished = matches!(
                        event.event,
                        Some(v1::application_event::Event::ApplicationFinished(_))
                    );
                    return Ok(Some(event));
                }
                Ok(None) => Error::Unreachable {
                    url: self.application.client.url().to_owned(),
                    reason: format!(
                        "it stopped telling about application {}",
                        self.application.id
                    ),
                },
                Err(error) => error,
            };
            self.stream = None;
            if !matches!(error, Error::Unreachable { .. }) {
                return Err(error);
            }
            let since = match away_since {
                Some(since) => since,
                None => {
                    let says_so = matches!(
                        &error,
                        Error::Unreachable { reason, .. } if reason == drumline_proto::MASTER_GOES
                    );
                    self.tell(match says_so {
                        true => Contact::Going,
                        false => Contact::Lost,
                    });
                    *away_since.insert(tokio::time::Instant::now())
                }
            };
            if since.elapsed() + pause > self.patience {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn read(&mut self) -> Result<Option<v1::ApplicationEvent>> {
        let client = &self.application.client;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let request = v1::WatchRequest {
                    application_id: self.application.id.clone(),
                };
                client
                    .applications()
                    .watch(request)
                    .await
                    .map_err(|status| client.failed(&status))?
                    .into_inner()
            }
        };
        loop {
            match stream
                .message()
                .await
                .map_err(|status| client.failed(&status))?
            {
                Some(event) if self.last.is_some_and(|last| event.sequence <= last) => {}
                event => {
                    self.stream = Some(stream);
                    return Ok(event);
                }
            }
        }
    }
}
