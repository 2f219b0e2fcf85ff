//! One try of one statement: plan, wait for a turn, run, and either hand over rows or stage files.
//!
//! Every attempt plans anew, against the newest snapshots and the workers that are left, so that its job
//! has an id of its own. Whatever an attempt leaves behind when it is dropped is invisible: staged files
//! without a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use arrow::array::RecordBatch;
use drumline_engine::{Engine, Interrupt, Planned, Query, Statement};
use drumline_lake::{ErrorKind, Lease, StatementId};
use drumline_proto::v1::ResultTicket;
use futures::TryStreamExt;
use tokio::sync::{mpsc, oneshot};

use super::commit::Summary;
use super::flight::seal_ticket;
use super::machine::{AttemptId, Event, Outcome};
use super::results::{Limits, Pumped, ResultSlot, pump};
use super::resume::change;
use super::rewrites::{Turn, rewritten};
use super::runner::Message;
use super::{Application, Body, Services, job};
use crate::catalog::{PinnedTables, define, schema_ipc};
use crate::cluster::HealthEvent;
use crate::facts::Event as Fact;
use crate::failure::Failure;
use crate::topics::Pins;
use crate::upkeep;

mod ended;
mod write;

pub(super) use ended::Ended;

const PREFER_HASH_JOIN: &str = "datafusion.optimizer.prefer_hash_join";

/// A statement as it was submitted.
#[derive(Debug)]
pub(super) enum Source {
    Sql(Statement),
    Plan(Vec<u8>),
}

/// Reads a text into statements; a plan is one.
pub(super) fn read(engine: &Engine, body: Body) -> Result<Vec<Source>, Failure> {
    match body {
        Body::Sql(sql) => Ok(engine.parse(&sql)?.into_iter().map(Source::Sql).collect()),
        Body::Plan(plan) => Ok(vec![Source::Plan(plan)]),
    }
}

impl Source {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Sql(statement) => &statement.text,
            Self::Plan(_) => "(logical plan)",
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Self::Sql(statement) => statement.text_hash(),
            // A plan only reads, so nothing is ever committed under this.
            Self::Plan(_) => 0,
        }
    }
}

/// What an attempt needs. It reports to the runner's inbox, and ends with [`Ended`].
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    /// Attempts of this statement under masters that were killed.
    pub(super) attempts_before: u32,
    pub(super) avoid: BTreeSet<String>,
    /// Stops its job.
    pub(super) interrupt: Interrupt,
    /// Its joins sort instead of holding one side in memory.
    pub(super) merge_joins: bool,
    pub(super) source: Arc<Source>,
    pub(super) application: Arc<Application>,
    pub(super) services: Arc<Services>,
    pub(super) settings: Arc<BTreeMap<String, String>>,
    pub(super) inbox: mpsc::Sender<Message>,
    /// The statement's turn to rewrite a table; attempts before this one may have it already.
    pub(super) turn: Arc<Turn>,
    /// What the statement found of topics.
    pub(super) topics: Arc<Pins>,
    /// The workers of its job.
    pub(super) used: OnceLock<BTreeSet<String>>,
}

impl Attempt {
    pub(super) async fn run(self) -> Ended {
        let mut ended = self.try_run().await.unwrap_or_else(|failed| failed);
        if let Outcome::WorkerLost {
            worker: Some(worker),
            ..
        } = &mut ended.outcome
        {
            self.name_worker(worker);
        }
        self.report(&mut ended);
        ended
    }

    /// Tells how it went on the workers it ran on.
    fn report(&self, ended: &mut Ended) {
        if let Some((mut worker, reason)) = ended.blamed.take() {
            self.name_worker(&mut worker);
            let failed = HealthEvent::Failed { worker, reason };
            self.services.cluster.report(failed);
        } else if matches!(ended.outcome, Outcome::Done | Outcome::Staged) {
            for worker in self.used.get().into_iter().flatten() {
                let worker = worker.clone();
                self.services
                    .cluster
                    .report(HealthEvent::Succeeded { worker });
            }
        }
    }

    /// A connection knows its worker by URL; everybody else by id.
    fn name_worker(&self, worker: &mut String) {
        let Ok(url) = worker.parse::<url::Url>() else {
            return;
        };
        let workers = self.services.workers.borrow();
        if let Some(target) = workers.iter().find(|target| target.url == url) {
            worker.clone_from(&target.id);
        }
    }

    async fn try_run(&self) -> Result<Ended, Ended> {
        let (planned, tables) = self.plan_in_turn().await?;
        match planned {
            Planned::Query(query) => self.answer(&query).await,
            Planned::Write(write) => self.write(write, &tables).await,
            Planned::Copy(copy) => self.copy(copy).await,
            Planned::Vacuum(vacuum) => self.vacuum(&vacuum, &tables).await,
            Planned::Definition(definition) => {
                self.may_define().await;
                let message = define(&self.services.names, definition, self.statement_id()).await?;
                Ok(Ended::done(Summary::message(message)))
            }
            Planned::Set { key, value } => Ok(self.set(key, value)),
        }
    }

    /// Plans the statement; one that rewrites a table once it is its turn, on what those before it have made of it.
    async fn plan_in_turn(&self) -> Result<(Planned, Arc<PinnedTables>), Ended> {
        loop {
            let over = self.services.rewrites.over();
            let topics = Arc::clone(&self.topics);
            let tables = self.services.names.pin_with(topics).await?;
            let planned = self.plan(Arc::clone(&tables)).await?;
            let Some(table) = rewritten(&planned, &tables) else {
                return Ok((planned, tables));
            };
            if self.turn.is_of(table) {
                return Ok((planned, tables));
            }
            // Its turn in the line of jobs first: who is before it there may need the table's.
            if let Some(turn) = self.application.turn() {
                turn.comes().await;
            }
            self.turn.pass();
            let queued = |before| self.tell_turn(&planned, before);
            self.turn.take(&self.services.rewrites, table, queued).await;
            if over == self.services.rewrites.over() {
                return Ok((planned, tables));
            }
        }
    }

    /// Tells that others are before it to change the table.
    fn tell_turn(&self, planned: &Planned, before: u32) {
        let Planned::Write(write) = planned else {
            return;
        };
        self.services.facts.publish(Fact::JobQueued {
            application: self.application.id.clone(),
            statement: self.id.ordinal,
            attempt: self.told_id().attempt,
            position: before,
            table: write.table.to_string(),
        });
    }

    async fn plan(&self, tables: Arc<PinnedTables>) -> drumline_engine::Result<Planned> {
        let engine = &self.services.engine;
        match &*self.source {
            Source::Sql(statement) => engine.plan(statement, tables, &self.settings).await,
            Source::Plan(plan) => engine.plan_logical(plan, tables, &self.settings).await,
        }
    }

    fn set(&self, key: String, value: Option<String>) -> Ended {
        let mut settings = BTreeMap::clone(&self.settings);
        let message = match &value {
            Some(value) => format!("{key} is {value}"),
            None => format!("{key} is back to its default"),
        };
        change(&mut settings, key, value);
        Ended {
            settings: Some(settings),
            ..Ended::done(Summary::message(message))
        }
    }

    /// Runs a query whose rows go to the client.
    async fn answer(&self, query: &Query) -> Result<Ended, Ended> {
        let mut job = self.start(query).await?;
        let slot = self.open_slot(&job);
        let limits = Limits {
            // For ever, where there is no limit.
            read_within: job::read_limit(query).unwrap_or(Duration::MAX),
            ..self.services.limits
        };
        let pumped = tokio::select! {
            pumped = pump(job.rows, &slot, limits, self.may_deliver()) => pumped,
            () = job.told.follow() => return Err(Ended::failed(Failure::bug("the job's reports ended"))),
            stall = job.stalled => return Err(Ended::stalled(&stall)),
        };
        let pumped = pumped.map_err(|error| job.told.failed(error.into()))?;
        match pumped {
            Pumped::Delivered { rows } => {
                job.told.finished().await;
                Ok(Ended::done(Summary {
                    rows,
                    ..Summary::default()
                }))
            }
            Pumped::ClientGone => Err(Ended::of(Outcome::ClientGone)),
            Pumped::Unread => {
                let waited = limits.read_within;
                Err(Ended::failed(Failure {
                    hint: "read rows as they come, or write the result to a table; drumline.read_limit (seconds; 0: \
                           never) says how long a client may take none"
                        .to_owned(),
                    ..Failure::new(
                        ErrorKind::User,
                        format!(
                            "the client stopped reading the result: it took nothing for {} s, while its job \
                             held cores",
                            waited.as_secs()
                        ),
                    )
                }))
            }
            Pumped::Unfetched => {
                let waited = self.services.limits.fetch_within;
                Err(Ended::failed(Failure {
                    hint: "fetch a result when it is announced, or write it to a table".to_owned(),
                    ..Failure::new(
                        ErrorKind::User,
                        format!("nobody fetched the result within {} s", waited.as_secs()),
                    )
                }))
            }
        }
    }

    /// Throws files away, or answers with those that would go.
    async fn vacuum(
        &self,
        vacuum: &drumline_engine::Vacuum,
        tables: &PinnedTables,
    ) -> Result<Ended, Ended> {
        let names = &self.services.names;
        if let Some(epoch) = self.upkeep_epoch() {
            Lease::of(names.catalog().lake()).check(epoch).await?;
        }
        let how = drumline_lake::Vacuum {
            keep: vacuum.keep,
            dry_run: vacuum.dry_run,
        };
        let now = chrono::Utc::now();
        let found =
            match &vacuum.table {
                None => names.catalog().vacuum(how, now).await?,
                Some(name) => {
                    let object = tables.catalog().get(name).ok_or_else(|| {
                        drumline_lake::Error::NotFound {
                            kind: "table",
                            name: name.to_string(),
                        }
                    })?;
                    names.open(name, object).await?.vacuum(how, now).await?
                }
            };
        let place = match &vacuum.table {
            None => "the lake".to_owned(),
            Some(table) => table.to_string(),
        };
        if !vacuum.dry_run {
            let files = match found.files.len() {
                1 => "1 file".to_owned(),
                files => format!("{files} files"),
            };
            let message = format!("{files}, {} bytes, thrown away from {place}", found.bytes());
            return Ok(Ended::done(Summary::message(message)));
        }
        let column =
            |of: fn(&drumline_lake::Leftover) -> String| found.files.iter().map(of).collect();
        let columns = [
            ("path", column(|file| file.path.clone())),
            ("bytes", column(|file| file.size.to_string())),
            ("written_at", column(|file| file.written_at.to_rfc3339())),
        ];
        let rows = Query::of_text(&columns, BTreeMap::clone(&self.settings))?;
        self.answer(&rows).await
    }

    /// Set where upkeep runs the statement by itself.
    fn upkeep_epoch(&self) -> Option<u64> {
        let epoch = self.settings.get(upkeep::EPOCH)?;
        epoch.parse().ok().filter(|epoch| *epoch > 0)
    }

    /// Runs a job to its end; its rows are few.
    async fn collect(&self, query: &Query) -> Result<Vec<RecordBatch>, Ended> {
        let mut job = self.start(query).await?;
        let collected = tokio::select! {
            collected = job.rows.try_collect::<Vec<_>>() => collected,
            () = job.told.follow() => return Err(Ended::failed(Failure::bug("the job's reports ended"))),
            stall = job.stalled => return Err(Ended::stalled(&stall)),
        };
        let rows = collected.map_err(|error| job.told.failed(error.into()))?;
        job.told.finished().await;
        Ok(rows)
    }

    async fn start(&self, query: &Query) -> Result<job::RunningJob, Ended> {
        let mut query = query.clone();
        if self.merge_joins {
            let setting = (PREFER_HASH_JOIN.to_owned(), "false".to_owned());
            query.settings.extend([setting]);
        }
        let turn = self.application.turn();
        if let Some(turn) = turn {
            turn.comes().await;
        }
        // The end of a search must not stop the write that follows it.
        let interrupt = self.interrupt.child();
        let mut job = std::pin::pin!(job::start(
            &self.services,
            &self.application.id,
            self.told_id(),
            &query,
            &self.avoid,
            &interrupt,
        ));
        // What it does first is to join the line.
        let polled = futures::poll!(job.as_mut());
        if let Some(turn) = turn {
            turn.pass();
        }
        let job = match polled {
            Poll::Ready(job) => job?,
            Poll::Pending => job.await?,
        };
        let started = Event::Started {
            id: self.id,
            workers: job.workers.clone(),
        };
        // A search and its write run on the same workers.
        let _ = self.used.set(job.workers.clone());
        // A runner that is over has dropped this attempt.
        let _ = self.inbox.send(Message::Event(started)).await;
        Ok(job)
    }

    /// The statement's slot; announced when its first job runs.
    fn open_slot(&self, job: &job::RunningJob) -> Arc<ResultSlot> {
        let ordinal = self.id.ordinal;
        let (slot, is_new) = self.application.open_slot(ordinal, Arc::clone(&job.schema));
        if is_new {
            let ticket = ResultTicket {
                application_id: self.application.id.clone(),
                ordinal,
            };
            self.services.facts.publish(Fact::ResultReady {
                application: self.application.id.clone(),
                statement: ordinal,
                ticket: seal_ticket(&self.services.tickets, &ticket),
                schema_ipc: schema_ipc(&job.schema),
            });
        }
        slot
    }

    /// Waits for the runner's yes to a change of names. Without one, this attempt is being stopped.
    async fn may_define(&self) {
        let (yes, answer) = oneshot::channel();
        let ask = Message::MayDefine { id: self.id, yes };
        let _ = self.inbox.send(ask).await;
        if answer.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the runner's yes to the first row. Without one, this attempt is being stopped.
    async fn may_deliver(&self) {
        let (yes, answer) = oneshot::channel();
        let _ = self
            .inbox
            .send(Message::MayDeliver { id: self.id, yes })
            .await;
        if answer.await.is_err() {
            std::future::pending::<()>().await;
        }
        // A restarted master must know that it cannot announce this result again. While the journal cannot be
        // written, what runs goes on.
        let _ = self
            .services
            .facts
            .record(Fact::DeliveryStarted {
                application: self.application.id.clone(),
                statement: self.id.ordinal,
            })
            .await;
    }

    /// The attempt as it is told: those under masters that were killed count too.
    fn told_id(&self) -> AttemptId {
        AttemptId {
            attempt: self.attempts_before + self.id.attempt,
            ..self.id
        }
    }

    fn statement_id(&self) -> StatementId {
        StatementId {
            application: self.application.id.clone(),
            ordinal: self.id.ordinal,
            text_hash: self.source.hash(),
        }
    }
}
