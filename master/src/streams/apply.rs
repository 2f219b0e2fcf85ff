//! Applying a stream: everything that can be wrong is looked at before anything is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use drumline_lake::{Catalog, Change, StreamObject};
use drumline_proto::v1::{
    ApplyStreamResponse, Failure, FailureKind, PartitionEdges, ProbeResult, StreamDefinition,
};

use super::beginnings::check_offsets;
use super::definition::{check_names, fill_in};
use super::handle::Streams;
use super::statements::Statements;
use super::status::FINISHED;
use super::tables::{StreamTables, all_targets};
use super::targets::{Target, targets};
use super::{Layout, bounds, grow, service};
use crate::Error;
use crate::cluster::Workers;

/// What applying needs of the master.
#[derive(Debug, Clone)]
pub(crate) struct Applier {
    pub(crate) catalog: Catalog,
    pub(crate) streams: Streams,
    pub(crate) tables: StreamTables,
    pub(crate) workers: Workers,
    pub(crate) statements: Statements,
    /// Changes of streams take turns, people's and those that records ask for: they are checked against each other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Replays of dead letters take turns too: each goes on from what the one before left.
    pub(crate) replaying: Arc<tokio::sync::Mutex<()>>,
}

/// Why a definition is refused, and the key of it that is to blame.
pub(super) struct Refusal {
    pub(super) key: String,
    pub(super) failure: Failure,
}

pub(super) fn user(
    key: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Refusal {
    refusal(FailureKind::User, key, message, hint)
}

pub(super) fn refusal(
    kind: FailureKind,
    key: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Refusal {
    let failure = Failure {
        kind: kind.into(),
        message: message.into(),
        hint: hint.into(),
        ..Failure::default()
    };
    Refusal {
        key: key.into(),
        failure,
    }
}

fn keyed(key: &str, error: &Error) -> Refusal {
    Refusal {
        key: key.to_owned(),
        failure: service::failure_of(error),
    }
}

impl Applier {
    pub(crate) async fn apply(&self, definition: StreamDefinition) -> ApplyStreamResponse {
        self.apply_after(definition, None).await
    }

    /// The same; where a revision is told, only if the stream is at it still.
    pub(super) async fn apply_after(
        &self,
        mut definition: StreamDefinition,
        revision: Option<u64>,
    ) -> ApplyStreamResponse {
        let _turn = self.turn.lock().await;
        fill_in(&mut definition);
        match self.checked(definition, revision).await {
            Ok(response) => response,
            Err(Refusal { key, failure }) => ApplyStreamResponse {
                failure: Some(failure),
                key,
                ..ApplyStreamResponse::default()
            },
        }
    }

    async fn checked(
        &self,
        mut definition: StreamDefinition,
        revision: Option<u64>,
    ) -> Result<ApplyStreamResponse, Refusal> {
        check_names(&definition)?;
        let lake_error = |error: drumline_lake::Error| {
            let failure = service::failure_of(&Error::from(error));
            Refusal {
                key: "lake".to_owned(),
                failure,
            }
        };
        self.catalog
            .lake()
            .check_writable()
            .await
            .map_err(lake_error)?;
        self.carry_over(&mut definition, revision).await?;
        let edges = definition.until.is_some() || !definition.begins_earliest();
        let probed = self.probe(&definition, edges).await?;
        if let Some(failure) = probed.failure {
            return Err(Refusal {
                key: probed.key,
                failure,
            });
        }
        // Which registered schema makes the columns is decided once, here: workers and restarts agree on it.
        for topic in &mut definition.topics {
            if let Some(id) = probed.schema_ids.get(&topic.label()) {
                topic.decode.get_or_insert_default().schema_id = *id;
            }
        }
        let matched = probed.matched.clone().into_iter().collect();
        let matching = definition.clone().matching(&matched);
        let topics = probed.partitions.keys().cloned().collect();
        self.check_alone(&matching, &topics).await?;
        let before = self
            .catalog
            .refresh()
            .await
            .map_err(lake_error)?
            .stream(&definition.name)
            .cloned();
        let old = before
            .as_ref()
            .map(|before| service::decode(&definition.name, &before.definition))
            .transpose()
            .map_err(|error| keyed("stream", &error))?;
        check_offsets(&matching, old.as_ref(), &probed.partitions)?;
        let targets = targets(&definition, &probed)?;
        let own = old.as_ref().map(tables_of).unwrap_or_default();
        let ensured = self.tables.ensure(&definition.name, &targets, &own).await;
        ensured.map_err(|(key, error)| keyed(&key, &error))?;
        self.bound(&mut definition, old.as_ref(), &probed).await?;
        let matching = definition.clone().matching(&matched);
        // Changing a stream leaves it paused or running as it was.
        definition.paused = before
            .as_ref()
            .map_or(definition.paused, |before| before.paused);
        let text = service::encode(&definition).map_err(|error| {
            let failure = service::failure_of(&error);
            Refusal {
                key: "stream".to_owned(),
                failure,
            }
        })?;
        let created = before.is_none();
        if created {
            self.widen(&targets).await?;
        }
        let changed = before
            .as_ref()
            .is_none_or(|before| before.definition != text);
        if created {
            let begun = self.tables.begin_at(&matching, &probed.edges).await;
            begun.map_err(|error| keyed("start_from", &error))?;
        }
        if changed {
            let revision = before.map_or(1, |before| before.revision + 1);
            let stream = StreamObject {
                definition: text,
                paused: definition.paused,
                revision,
                tables: targets.iter().map(|target| target.name.clone()).collect(),
            };
            let name = definition.name.clone();
            if !created {
                self.cut(&name, &matching, &probed.edges, &targets).await?;
            }
            let put = || Change::PutStream {
                name: name.clone(),
                stream: stream.clone(),
            };
            if let Err(error) = self.catalog.change(|_| Ok(vec![put()])).await {
                self.streams.release(&name).await;
                return Err(lake_error(error));
            }
            definition.revision = revision;
            let layout = Layout::from(probed);
            self.streams.put(definition, Some(layout)).await;
        }
        Ok(ApplyStreamResponse {
            created,
            changed,
            ..ApplyStreamResponse::default()
        })
    }

    /// Has the old definition end at one offset of each partition, where the new one begins: tables that come new
    /// to a partition too.
    async fn cut(
        &self,
        name: &str,
        matching: &StreamDefinition,
        edges: &[PartitionEdges],
        targets: &[Target],
    ) -> Result<(), Refusal> {
        let is_held = self.streams.hold(name).await;
        if is_held && let Err(refusal) = self.widen(targets).await {
            self.streams.release(name).await;
            return Err(refusal);
        }
        let cut = match is_held {
            true => match self.tables.begin_beside(matching).await {
                Ok(()) => self.tables.begin_at(matching, edges).await,
                Err(error) => Err(error),
            },
            false => {
                self.streams.release(name).await;
                let message = format!(
                    "a commit of stream {name} broke off, so its tables stand at different offsets, and its old \
                     definition could not make them even in time"
                );
                let hint = "see `drumline stream status` for why, and apply again; or delete the stream and apply it";
                return Err(refusal(FailureKind::Retryable, "stream", message, hint));
            }
        };
        if let Err(error) = cut {
            self.streams.release(name).await;
            return Err(keyed("start_from", &error));
        }
        Ok(())
    }

    /// Takes over what the stream has got by itself; refuses where somebody has changed it meanwhile.
    async fn carry_over(
        &self,
        definition: &mut StreamDefinition,
        revision: Option<u64>,
    ) -> Result<(), Refusal> {
        let failed = |error: &Error| Refusal {
            key: "stream".to_owned(),
            failure: service::failure_of(error),
        };
        let snapshot = self.catalog.refresh().await;
        let snapshot = snapshot.map_err(|error| failed(&Error::from(error)))?;
        let kept = snapshot.stream(&definition.name);
        if revision.is_some_and(|revision| kept.is_none_or(|kept| kept.revision != revision)) {
            let message = format!("stream {} was changed meanwhile", definition.name);
            let hint = "the columns are asked for again";
            return Err(refusal(FailureKind::Retryable, "stream", message, hint));
        }
        if let Some(kept) = kept {
            let kept = service::decode(&definition.name, &kept.definition);
            grow::carry_over(definition, &kept.map_err(|error| failed(&error))?);
        }
        Ok(())
    }

    /// No table may get one topic from two streams: it keeps one offset for each partition.
    pub(super) async fn check_alone(
        &self,
        definition: &StreamDefinition,
        topics: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let others = self.streams.status().await;
        let others = others.values().filter(|other| other.state != FINISHED);
        let others = others.filter_map(|other| {
            let other = other.definition.as_ref()?;
            let topics = other.topics.iter().flat_map(|topic| topic.names());
            Some((other, topics.map(str::to_owned).collect()))
        });
        match bounds::overlap(definition, topics, others) {
            None => Ok(()),
            Some((other, topic, table)) => Err(user(
                "topic",
                format!("stream {other} writes topic {topic} to table {table} already"),
                format!(
                    "a table keeps one position of each partition: name another table and INSERT INTO {table} SELECT \
                     from it when it is filled, or `drumline stream delete {other}` first"
                ),
            )),
        }
    }

    /// Finds where a stream that ends by itself does, and refuses one that has nothing left to read.
    async fn bound(
        &self,
        definition: &mut StreamDefinition,
        before: Option<&StreamDefinition>,
        probed: &ProbeResult,
    ) -> Result<(), Refusal> {
        let state = self.streams.status().await.remove(&definition.name);
        let has_finished = state.is_some_and(|status| status.state == FINISHED);
        definition.bounds = bounds::bounds(definition, &probed.edges, before, has_finished);
        let is_same = before.is_some_and(|before| before.bounds == definition.bounds);
        if definition.until.is_none() || is_same {
            return Ok(());
        }
        let matched = probed.matched.clone().into_iter().collect();
        let matching = definition.clone().matching(&matched);
        let read = self.tables.read(&matching).await;
        let (held, _) = read.map_err(|error| keyed("until", &error))?;
        let mut edges = probed.edges.iter();
        let is_empty = edges.all(|edge| edge.until.is_none_or(|until| until <= edge.start));
        match bounds::has_nothing_to_write(&matching, &held) && !is_empty {
            false => Ok(()),
            true => Err(user(
                "until",
                format!(
                    "the tables of stream {} have everything below that already: nothing would be written",
                    definition.name
                ),
                "rows below a table's own offset are never written to it again: name another table and INSERT INTO \
                 the first SELECT from it, or `drumline stream reset` one that is paused",
            )),
        }
    }

    pub(super) async fn probe(
        &self,
        definition: &StreamDefinition,
        edges: bool,
    ) -> Result<ProbeResult, Refusal> {
        let mut alive = self.workers.subscribe();
        let joined = alive.wait_for(|workers| !workers.is_empty());
        if tokio::time::timeout(std::time::Duration::from_secs(10), joined)
            .await
            .is_err()
        {
            return Err(refusal(
                FailureKind::Retryable,
                "stream",
                "no worker has joined this master, so nobody can look at the brokers",
                "start one with `drumline worker --master URL`",
            ));
        }
        let probed = self.streams.probe(definition.clone(), edges).await;
        probed.ok_or_else(|| {
            refusal(
                FailureKind::Retryable,
                "brokers",
                format!(
                    "no worker could say in time whether brokers `{}` can be used",
                    definition.brokers
                ),
                "check that the workers reach the brokers, then apply again",
            )
        })
    }
}

/// Tables that a stream of this definition writes: its own may get columns.
fn tables_of(definition: &StreamDefinition) -> BTreeSet<String> {
    let latest = definition.topics.iter().map(|it| it.latest_table.clone());
    let mut tables = all_targets(definition);
    tables.extend(latest.filter(|table| !table.is_empty()));
    tables
}
