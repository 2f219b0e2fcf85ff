//! Client settings: what Drumline fixes, what it suggests, and what a user may pass on.

use std::collections::{BTreeMap, HashMap};

use drumline_proto::v1::StreamDefinition;
use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::oauth::Tokens;
use super::secrets::Secrets;
use crate::{Error, Result};

/// Settings a stream's exactness rests on; a definition that sets one is refused.
const FIXED: [(&str, &str); 7] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    // Where positions beyond transaction markers and the ends of partitions come from.
    ("statistics.interval.ms", "500"),
    // A position that Kafka no longer has is a failure to show, not a place to jump away from.
    ("auto.offset.reset", "error"),
];

/// Settings that would run what a definition names on this machine.
const RUNS_CODE: [&str; 5] = [
    "plugin.library.paths",
    "sasl.kerberos.kinit.cmd",
    "ssl.engine.location",
    "ssl.engine.id",
    "ssl.providers",
];

/// Settings that a definition may override.
const CONSUMER_DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "drumline"),
    ("check.crcs", "true"),
    ("fetch.wait.max.ms", "100"),
    ("socket.keepalive.enable", "true"),
    // How soon new partitions of a topic are noticed.
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// A consumer of a stream's topics.
pub(crate) fn of_stream(definition: &StreamDefinition, secrets: &Secrets) -> Result<ClientConfig> {
    consumer(
        &definition.name,
        &definition.brokers,
        &definition.kafka,
        secrets,
    )
}

/// A consumer for `stream`; the group only holds positions for lag tools.
fn consumer(
    stream: &str,
    brokers: &str,
    passed_on: &HashMap<String, String>,
    secrets: &Secrets,
) -> Result<ClientConfig> {
    let mut config = base(brokers);
    for (key, value) in CONSUMER_DEFAULTS {
        config.set(key, value);
    }
    config.set("group.id", format!("drumline.{stream}"));
    for (key, value) in passed_on {
        if key == "bootstrap.servers" || FIXED.iter().any(|(fixed, _)| fixed == key) {
            return Err(Error::KafkaSetting {
                setting: key.clone(),
                reason: "is set by drumline itself".to_owned(),
            });
        }
        if RUNS_CODE.contains(&key.as_str()) {
            return Err(Error::KafkaSetting {
                setting: key.clone(),
                reason: "would run code of the definition's on every worker".to_owned(),
            });
        }
        config.set(key, secrets.open(key, value)?);
    }
    for (key, value) in FIXED {
        config.set(key, value);
    }
    Ok(config)
}

/// Bounds what a consumer reads ahead to `bytes`, but for what the definition sets itself.
pub(crate) fn read_ahead(
    config: &mut ClientConfig,
    passed_on: &HashMap<String, String>,
    bytes: u64,
) {
    // One answer of a broker may go beyond what the queue takes.
    let fetch = bytes.clamp(LEAST_FETCH, 50 << 20);
    let bounds = [
        ("queued.max.messages.kbytes", (bytes >> 10).max(1)),
        ("fetch.max.bytes", fetch),
        ("fetch.message.max.bytes", (fetch / 4).min(4 << 20)),
    ];
    for (key, value) in bounds {
        if !passed_on.contains_key(key) {
            config.set(key, value.to_string());
        }
    }
}

/// librdkafka wants to be able to fetch its largest message, of 1 MB.
const LEAST_FETCH: u64 = 1 << 20;

/// A client that produces or administers, for who starts this process and names its settings alike.
pub(crate) fn client(brokers: &str, passed_on: &BTreeMap<String, String>) -> Result<ClientConfig> {
    let mut config = base(brokers);
    let secrets = Secrets::any();
    for (key, value) in passed_on {
        config.set(key, secrets.open(key, value)?);
    }
    Ok(config)
}

fn base(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set_log_level(RDKafkaLogLevel::Error);
    config
}

/// Makes the client, and names the setting that librdkafka does not take.
pub(crate) fn create<C, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T>
where
    C: rdkafka::ClientContext,
{
    let mut told = config.clone();
    Tokens::hide(&mut told);
    told.create_with_context(context)
        .map_err(|error| match error {
            KafkaError::ClientConfig(_, reason, setting, _) => Error::KafkaSetting {
                setting,
                reason: lower(&reason),
            },
            KafkaError::ClientCreation(reason) => Error::KafkaClient {
                reason: lower(&reason),
            },
            other => Error::KafkaClient {
                reason: other.to_string(),
            },
        })
}

/// librdkafka's sentences, in the shape of our messages.
fn lower(reason: &str) -> String {
    let mut letters = reason.trim().trim_end_matches('.').chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}
