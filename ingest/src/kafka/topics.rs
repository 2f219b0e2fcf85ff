//! Which topics a cluster has, and making those that are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::settings;
use crate::{Error, Result};

/// How long a broker may take to answer before it counts as unreachable.
const REACHABLE_WITHIN: Duration = Duration::from_secs(5);

/// What a Kafka cluster says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brokers {
    /// Brokers that it has.
    pub count: usize,
    /// Topics that may be seen.
    pub topics: usize,
    /// Partitions without a leader: nothing can be read from them now.
    pub leaderless: usize,
}

/// Asks a Kafka cluster who it is. `settings` go to librdkafka.
pub async fn look(brokers: &str, settings: &BTreeMap<String, String>) -> Result<Brokers> {
    let config = settings::client(brokers, settings);
    let at = brokers.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<DefaultConsumerContext> =
            settings::create(&config, DefaultConsumerContext)?;
        let metadata = client
            .fetch_metadata(None, REACHABLE_WITHIN)
            .map_err(|error| Error::Brokers {
                brokers: at,
                reason: unreachable_reason(&error),
            })?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        Ok(Brokers {
            count: metadata.brokers().len(),
            topics: metadata.topics().len(),
            leaderless: partitions
                .filter(|partition| partition.leader() < 0)
                .count(),
        })
    });
    asked.await.map_err(|error| Error::Bug {
        context: format!("asking the brokers did not finish: {error}"),
    })?
}

/// Partitions of every topic that `config` can see. Asks for the whole list, because asking for a
/// topic by name makes some brokers create it. Blocks.
pub(crate) fn partition_counts(
    brokers: &str,
    config: &ClientConfig,
) -> Result<BTreeMap<String, u32>> {
    let client: BaseConsumer<DefaultConsumerContext> =
        settings::create(config, DefaultConsumerContext)?;
    let metadata = client
        .fetch_metadata(None, REACHABLE_WITHIN)
        .map_err(|error| Error::Brokers {
            brokers: brokers.to_owned(),
            reason: unreachable_reason(&error),
        })?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .map(|topic| {
            (
                topic.name().to_owned(),
                u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
            )
        })
        .collect())
}

/// Where every partition of these topics ends, for a reader of committed records. Blocks.
pub(crate) fn ends(
    brokers: &str,
    config: &ClientConfig,
    topics: &BTreeMap<String, u32>,
) -> Result<Vec<(String, i32, i64)>> {
    let client: BaseConsumer<DefaultConsumerContext> =
        settings::create(config, DefaultConsumerContext)?;
    let partitions = topics.iter().flat_map(|(topic, count)| {
        (0..i32::try_from(*count).unwrap_or(i32::MAX)).map(move |partition| (topic, partition))
    });
    let end = |(topic, partition): (&String, i32)| {
        let (_, high) = client
            .fetch_watermarks(topic, partition, REACHABLE_WITHIN)
            .map_err(|error| Error::Brokers {
                brokers: brokers.to_owned(),
                reason: unreachable_reason(&error),
            })?;
        Ok((topic.clone(), partition, high))
    };
    partitions.map(end).collect()
}

/// Creates those of `topics` that do not exist, each with its number of partitions and the broker's
/// default replication. Topics that are there stay as they are. `settings` go to librdkafka.
pub async fn ensure_topics(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topics: &[(&str, u32)],
) -> Result<()> {
    let config = settings::client(brokers, settings);
    let (asked, at) = (config.clone(), brokers.to_owned());
    let present = tokio::task::spawn_blocking(move || partition_counts(&at, &asked))
        .await
        .map_err(|error| Error::Bug {
            context: format!("listing topics did not finish: {error}"),
        })??;
    let missing: Vec<_> = topics
        .iter()
        .filter(|(topic, _)| !present.contains_key(*topic))
        .map(|(topic, partitions)| {
            NewTopic::new(
                topic,
                i32::try_from(*partitions).unwrap_or(i32::MAX),
                TopicReplication::Fixed(-1),
            )
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let admin: AdminClient<DefaultClientContext> = settings::create(&config, DefaultClientContext)?;
    let options = AdminOptions::new()
        .request_timeout(Some(REACHABLE_WITHIN))
        .operation_timeout(Some(REACHABLE_WITHIN));
    let created = admin.create_topics(&missing, &options).await;
    let created = created.map_err(|error| Error::CreateTopic {
        topic: names(&missing),
        reason: error.to_string(),
    })?;
    for outcome in created {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Error::CreateTopic {
                    topic,
                    reason: code.to_string(),
                });
            }
        }
    }
    Ok(())
}

fn names(topics: &[NewTopic<'_>]) -> String {
    topics
        .iter()
        .map(|topic| topic.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn unreachable_reason(error: &KafkaError) -> String {
    match error {
        KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure) => {
            format!("no broker answered within {} s", REACHABLE_WITHIN.as_secs())
        }
        KafkaError::MetadataFetch(code) => code.to_string(),
        other => other.to_string(),
    }
}
