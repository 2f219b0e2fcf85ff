//! Looks at tables, holds the lease, submits what the machine says and waits for its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use drumline_lake::{Candidate, Lease, ObjectKind, Turn, Vacuum, Wishes};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::machine::{Action, Event, Machine, Patient};
use super::needs::{self, Need};
use super::{EPOCH, SUBMITTER};
use crate::applications::{Applications, Body, Submission};
use crate::facts::State;

/// How often an owner says that it lives, and others look whether it does.
const BEAT: Duration = Duration::from_secs(5);

/// How old what a dropped table left must be: queries of other masters may read what was replaced.
const SWEEP_KEEPS: Duration = Duration::from_secs(24 * 3600);

/// What upkeep works with.
pub(crate) struct Parts {
    pub(crate) applications: Applications,
    /// Names this master among others.
    pub(crate) owner: String,
    /// How often tables are looked at.
    pub(crate) every: Duration,
    pub(crate) shutdown: CancellationToken,
}

struct Runner {
    parts: Parts,
    lease: Lease,
    candidate: Candidate,
    beats: u64,
    machine: Machine,
    /// Waits for applications.
    running: JoinSet<Event>,
    looks: bool,
}

/// Ends with the master.
pub(crate) async fn run(parts: Parts) {
    let lake = parts.applications.services().names.catalog().lake().clone();
    let shutdown = parts.shutdown.clone();
    let mut looking = tokio::time::interval(parts.every);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beating = tokio::time::interval(BEAT);
    beating.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut runner = Runner {
        parts,
        lease: Lease::of(&lake),
        candidate: Candidate::default(),
        beats: 0,
        machine: Machine::default(),
        running: JoinSet::new(),
        looks: false,
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = beating.tick() => runner.beat().await,
            _ = looking.tick() => runner.looks = true,
            Some(ended) = runner.running.join_next() => match ended {
                Ok(event) => runner.step(event).await,
                Err(error) => tracing::error!(%error, "waiting for upkeep"),
            },
        }
        if std::mem::take(&mut runner.looks) {
            runner.look().await;
        }
    }
    runner.release().await;
}

impl Runner {
    async fn step(&mut self, event: Event) {
        for action in self.machine.step(Instant::now(), event) {
            match action {
                Action::Look => self.looks = true,
                Action::Submit { id, need, epoch } => self.submit(id, need, epoch).await,
            }
        }
    }

    /// Holds the lease, or takes it when it is free.
    async fn beat(&mut self) {
        if let Err(error) = self.hold().await {
            tracing::debug!(%error, "the lease of upkeep");
        }
        let epoch = self.candidate.epoch(tokio::time::Instant::now());
        self.step(Event::Owns(epoch)).await;
    }

    async fn hold(&mut self) -> drumline_lake::Result<()> {
        let found = self.lease.look().await?;
        let now = tokio::time::Instant::now();
        let epoch = match self.candidate.step(now, &found) {
            Turn::Wait => return Ok(()),
            Turn::Own(epoch) => epoch,
            Turn::Take(epoch) => match self.lease.take(epoch, &self.parts.owner).await? {
                true => {
                    tracing::info!(epoch, "keeps the tables of the lake fit");
                    epoch
                }
                false => return Ok(()),
            },
        };
        self.beats += 1;
        self.lease.beat(epoch, self.beats, false).await?;
        self.candidate.told(now, epoch);
        Ok(())
    }

    /// Another may follow at once.
    async fn release(&mut self) {
        let Some(epoch) = self.candidate.epoch(tokio::time::Instant::now()) else {
            return;
        };
        if let Err(error) = self.lease.beat(epoch, self.beats + 1, true).await {
            tracing::debug!(%error, "the lease of upkeep is not given back");
        }
    }

    async fn look(&mut self) {
        if self.candidate.epoch(tokio::time::Instant::now()).is_none() {
            return;
        }
        match self.patients().await {
            Ok(patients) => self.step(Event::Looked(patients)).await,
            Err(error) => tracing::warn!(%error, "tables are not looked at"),
        }
    }

    async fn patients(&self) -> drumline_lake::Result<Vec<Patient>> {
        let names = &self.parts.applications.services().names;
        let catalog = names.catalog().refresh().await?;
        let now = Utc::now();
        let mut patients = Vec::new();
        for (name, object) in catalog.objects() {
            if object.kind != ObjectKind::Table {
                continue;
            }
            // What one table asks for must not keep others from what they need.
            let needs = async {
                let asks = Wishes::of(&name.to_string(), &object.properties)?;
                if asks.is_empty() {
                    return Ok(Vec::new());
                }
                let snapshot = names.open(&name, object).await?.snapshot().await?;
                let wishes = Wishes::checked(
                    &name.to_string(),
                    &snapshot.properties,
                    &snapshot.schema,
                    &snapshot.partition_columns,
                    snapshot.format,
                )?;
                needs::of(&wishes, &snapshot, now)
            };
            match needs.await {
                Ok(needs) if needs.is_empty() => {}
                Ok(needs) => patients.push(Patient {
                    id: Some(object.id),
                    needs,
                }),
                Err(error) => tracing::warn!(table = %name, %error, "the table is not kept fit"),
            }
        }
        let sweep = Vacuum {
            keep: SWEEP_KEEPS,
            dry_run: true,
        };
        let unnamed = names.catalog().unnamed_tables(sweep, now).await?;
        if unnamed > 0 {
            patients.push(Patient {
                id: None,
                needs: vec![needs::sweep(unnamed, SWEEP_KEEPS)],
            });
        }
        Ok(patients)
    }

    /// Submits it like anybody's application, and waits for its end elsewhere.
    async fn submit(&mut self, id: Option<uuid::Uuid>, need: Need, epoch: u64) {
        let Need { name, script, .. } = need;
        let submission = Submission {
            name: name.clone(),
            source: String::new(),
            submitted_by: SUBMITTER.to_owned(),
            body: Body::Sql(script),
            settings: BTreeMap::from([(EPOCH.to_owned(), epoch.to_string())]),
        };
        let applications = self.parts.applications.clone();
        self.running.spawn(async move {
            let failed = match succeeds(&applications, submission).await {
                Ok(succeeded) => !succeeded,
                Err(error) => {
                    tracing::warn!(%error, upkeep = name, "not submitted");
                    true
                }
            };
            Event::Ended { id, failed }
        });
    }
}

async fn succeeds(applications: &Applications, submission: Submission) -> crate::Result<bool> {
    let id = applications.submit(submission).await?;
    applications.log(&id)?.completed().await;
    let history = applications.services().facts.history();
    let ended = history.applications.get(&id);
    Ok(ended.is_some_and(|application| application.state == State::Succeeded))
}
