//! The schema `kafka`: topics as tables, and what of them a statement reads.
//!
//! A topic that a stream of the catalog reads is decoded as that stream says; any other topic of the brokers
//! that the master was started with is text. How a statement reaches a topic, and up to which offsets it
//! reads, is settled when it is first planned and kept for every further attempt ([`Pins`]). Workers look and
//! read; nothing here reaches a broker.

mod choice;
mod fresh;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use drumline_engine::{Error, Result, Span, TimeOffsets, TopicTable, TopicTimes};
use drumline_lake::CatalogSnapshot;
use drumline_proto::v1::{StreamDefinition, TopicSeen, TopicSource};
use tokio::sync::OnceCell;

use crate::cluster::Workers;
use crate::options::TopicBrokers;
use crate::streams::Streams;

pub(crate) use drumline_engine::TOPICS_SCHEMA as SCHEMA;
pub(crate) use fresh::Unchanged;

/// Topics, for statements. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    workers: Workers,
    running: Streams,
    brokers: Option<Arc<TopicBrokers>>,
}

/// What one statement found of topics, the same for all its attempts.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    seen: Mutex<BTreeMap<String, Arc<OnceCell<Pinned>>>>,
}

#[derive(Debug, Clone)]
struct Pinned {
    source: TopicSource,
    schema: Vec<u8>,
    spans: Vec<Span>,
    /// Kafka's id of the topic, where it was asked for and the brokers give one.
    topic_id: Option<String>,
}

impl Topics {
    pub(crate) fn new(workers: Workers, running: Streams, brokers: Option<TopicBrokers>) -> Self {
        Self {
            workers,
            running,
            brokers: brokers.map(Arc::new),
        }
    }

    /// Topics that the catalog's streams read, sorted.
    pub(crate) fn names(catalog: &CatalogSnapshot) -> Vec<String> {
        choice::names(&choice::streams(catalog))
    }

    /// The catalog's streams, with the topics that their patterns match by now.
    async fn streams(&self, catalog: &CatalogSnapshot) -> Vec<StreamDefinition> {
        let mut streams = choice::streams(catalog);
        if streams.iter().any(StreamDefinition::has_patterns) {
            let running = self.running.status().await;
            for stream in &mut streams {
                let found = running
                    .get(&stream.name)
                    .and_then(|status| status.definition.as_ref());
                if let Some(found) = found {
                    stream.topics.clone_from(&found.topics);
                }
            }
        }
        streams
    }

    /// A topic as a table, up to where it reached when the statement first asked; nothing if no stream reads it
    /// and the master knows no brokers of its own.
    pub(crate) async fn table(
        &self,
        catalog: &CatalogSnapshot,
        name: &str,
        pins: &Pins,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let pin = pins.of(name);
        let found = pin
            .get_or_try_init(|| async {
                let streams = self.streams(catalog).await;
                let source = choice::source(&streams, self.brokers.as_deref(), name)
                    .map_err(Fault::Error)?
                    .ok_or(Fault::Unknown)?;
                let seen = self.workers.look_at_topic(&source, &[]).await;
                Ok(Pinned::new(source, seen.map_err(Fault::Error)?))
            })
            .await;
        let pinned = match found {
            Ok(pinned) => pinned.clone(),
            Err(Fault::Unknown) => return Ok(None),
            Err(Fault::Error(error)) => return Err(error),
        };
        let times: Arc<dyn TopicTimes> = Arc::new(self.clone());
        let table = TopicTable::records(pinned.source, &pinned.schema, pinned.spans, times)?;
        Ok(Some(Arc::new(table)))
    }
}

enum Fault {
    Unknown,
    Error(Error),
}

impl Pinned {
    fn new(source: TopicSource, seen: TopicSeen) -> Self {
        Self {
            source,
            schema: seen.schema,
            topic_id: Some(seen.topic_id).filter(|id| !id.is_empty()),
            spans: seen.partitions.into_iter().map(Span::from).collect(),
        }
    }
}

impl Pins {
    fn of(&self, name: &str) -> Arc<OnceCell<Pinned>> {
        // Inserts are whole, so a poisoned lock is still good.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(seen.entry(name.to_owned()).or_default())
    }
}

#[async_trait]
impl TopicTimes for Topics {
    async fn at(&self, source: &TopicSource, instants: &[i64]) -> Result<TimeOffsets> {
        let seen = self.workers.look_at_topic(source, instants).await?;
        let offsets = |time: drumline_proto::v1::TopicTime| {
            let offsets = time.offsets.into_iter().collect();
            (time.millis, offsets)
        };
        Ok(seen.times.into_iter().map(offsets).collect())
    }
}
