//! Which topics it is that are read: known when reading begins, asked again before anything read is offered.
//!
//! A topic can be deleted and made again while a stream reads it. Whatever was read of the new one was read
//! before the question that precedes an offer, and that question then finds another id: so no offer holds records
//! of two topics of one name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::watch::Watch;
use crate::kafka::ids::topic_ids;
use crate::{Error, Result};

/// How long the brokers may take to answer who a topic is, in one try and in all.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// A topic that a table took records from.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub table: String,
    pub topic: String,
    /// Kafka's id of it.
    pub id: String,
    /// Where the table left off, by partition.
    pub left_off: BTreeMap<i32, i64>,
}

/// The topics that a source reads. Shared with those who offer what was read.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    topics: Vec<String>,
    held: Vec<Held>,
    /// What the brokers said when reading began.
    met: OnceLock<BTreeMap<String, String>>,
    // Weak: a client ends with its source, or when that takes another.
    consumer: Mutex<Weak<BaseConsumer<Watch>>>,
}

impl Identity {
    pub(crate) fn new(topics: &[String], held: Vec<Held>) -> Self {
        Self {
            topics: topics.to_vec(),
            held,
            met: OnceLock::new(),
            consumer: Mutex::default(),
        }
    }

    /// A topic's id, once reading has begun, where the brokers give one.
    pub(crate) fn id(&self, topic: &str) -> Option<&str> {
        self.met.get()?.get(topic).map(String::as_str)
    }

    /// Asks who the topics are, and refuses one that is not that of the tables.
    pub(super) fn meet(&self, consumer: &Arc<BaseConsumer<Watch>>) -> Result<()> {
        let ids = self.ask(consumer)?;
        for held in &self.held {
            if let Some(is) = ids.get(&held.topic).filter(|is| **is != held.id) {
                return Err(Error::TopicReplaced {
                    topic: held.topic.clone(),
                    table: held.table.clone(),
                    was: held.id.clone(),
                    is: is.clone(),
                    left_off: held.left_off.clone(),
                });
            }
        }
        self.ask_through(consumer);
        let _ = self.met.set(ids);
        Ok(())
    }

    /// Questions go through this connection from now on.
    pub(super) fn ask_through(&self, consumer: &Arc<BaseConsumer<Watch>>) {
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(consumer);
    }

    /// Asks again: whether what was read until now was all of the same topics.
    pub(crate) async fn confirm(self: Arc<Self>) -> Result<()> {
        let asked = tokio::task::spawn_blocking(move || self.are_still_there());
        asked.await.map_err(|error| Error::Bug {
            context: format!("a question about a topic did not end: {error}"),
        })?
    }

    fn are_still_there(&self) -> Result<()> {
        let Some(met) = self.met.get().filter(|met| !met.is_empty()) else {
            return Ok(());
        };
        let consumer = self.consumer.lock();
        let consumer = consumer.unwrap_or_else(PoisonError::into_inner).upgrade();
        // Where the source has ended it says why itself.
        let Some(consumer) = consumer else {
            return Ok(());
        };
        let now = self.ask(&consumer)?;
        for (topic, was) in met {
            if let Some(is) = now.get(topic).filter(|is| *is != was) {
                return Err(Error::TopicReplaced {
                    topic: topic.clone(),
                    table: String::new(),
                    was: was.clone(),
                    is: is.clone(),
                    left_off: BTreeMap::new(),
                });
            }
        }
        Ok(())
    }

    fn ask(&self, consumer: &BaseConsumer<Watch>) -> Result<BTreeMap<String, String>> {
        let until = Instant::now() + KNOWN_WITHIN;
        loop {
            let code = match topic_ids(consumer.client(), &self.topics, ASKED_WITHIN) {
                Ok(ids) => return Ok(ids),
                Err(code) => code,
            };
            let gone = matches!(
                code,
                RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            );
            // A topic just made is not known to every broker yet, and brokers come back.
            if Instant::now() >= until {
                return Err(Error::Read {
                    topic: self.topics.join(", "),
                    reason: format!("its id: {code}"),
                    passing: !gone,
                });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
