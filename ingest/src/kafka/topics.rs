//! Which topics a cluster has, and making those that are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::context::{self, Observer};
use super::settings;
use crate::{Error, Result};

/// How long a broker may take to answer before it counts as unreachable.
pub(super) const REACHABLE_WITHIN: Duration = Duration::from_secs(5);

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
    let config = settings::client(brokers, settings)?;
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = context::metadata(&context::asker(&config)?, REACHABLE_WITHIN)?;
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
pub(crate) fn partition_counts(config: &ClientConfig) -> Result<BTreeMap<String, u32>> {
    let metadata = context::metadata(&context::asker(config)?, REACHABLE_WITHIN)?;
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

/// Creates those of `topics` that do not exist, each with its number of partitions and the broker's
/// default replication. Topics that are there stay as they are. `settings` go to librdkafka.
pub async fn ensure_topics(
    brokers: &str,
    settings: &BTreeMap<String, String>,
    topics: &[(&str, u32)],
) -> Result<()> {
    let config = settings::client(brokers, settings)?;
    let asked = config.clone();
    let present = tokio::task::spawn_blocking(move || partition_counts(&asked))
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
    let admin: AdminClient<Observer> = settings::create(&config, Observer::of(&config)?)?;
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

/// Topics whose names hold the wanted one, or lie in it, or differ in case or separators.
pub(crate) fn similar<'a>(wanted: &str, present: impl Iterator<Item = &'a str>) -> Vec<String> {
    let plain = |name: &str| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect::<String>()
    };
    let wanted = plain(wanted);
    let like = |name: &&str| {
        let name = plain(name);
        let shared = name
            .bytes()
            .zip(wanted.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        name.contains(&wanted) || wanted.contains(&name) || shared * 3 >= wanted.len() * 2
    };
    present.filter(like).take(3).map(str::to_owned).collect()
}
