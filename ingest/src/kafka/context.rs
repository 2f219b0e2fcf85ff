//! What every client of ours tells beside its answers: tokens it needs, and why it was not let in.
//!
//! librdkafka mends connections by itself and then says no more than that no broker answers. What a broker said
//! is in its log, which comes with events: so clients are polled while they are asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, ClientContext};

use super::oauth::Tokens;
use super::settings;
use crate::{Error, Result};

/// How long one try may take, of those that a question has.
const TRY: Duration = Duration::from_secs(1);

/// Events that are taken at once.
const EVENTS: usize = 64;

/// Words of librdkafka's log that mean: the same again will not do.
const REFUSALS: [&str; 6] = [
    "authentication",
    "certificate",
    "handshake",
    "oauthbearer",
    "sasl mechanism",
    "unsupported protocol",
];

/// The context of a client.
pub(crate) struct Observer {
    brokers: String,
    mechanism: String,
    tokens: Option<Tokens>,
    broken: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
}

impl Observer {
    /// The observer of a client with these settings.
    pub(crate) fn of(config: &ClientConfig) -> Result<Self> {
        let text = |key: &str| config.get(key).unwrap_or_default().to_owned();
        let mut mechanism = text("sasl.mechanism");
        if mechanism.is_empty() {
            mechanism = text("sasl.mechanisms");
        }
        let protocol = text("security.protocol").to_ascii_uppercase();
        let mechanism = match (protocol.as_str(), mechanism.is_empty()) {
            ("SSL", _) => "TLS".to_owned(),
            ("", true) | ("PLAINTEXT", _) => "no authentication".to_owned(),
            (protocol, true) => protocol.to_owned(),
            (protocol, false) => format!("{mechanism} over {protocol}"),
        };
        Ok(Self {
            brokers: text("bootstrap.servers"),
            mechanism,
            tokens: Tokens::of(config)?,
            broken: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Why the last connection that failed did.
    pub(crate) fn broken(&self) -> Option<String> {
        locked(&self.broken).clone()
    }

    /// That a broker did not let us in, if one did not.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let reason = locked(&self.refused).clone()?;
        Some(Error::Refused {
            brokers: self.brokers.clone(),
            mechanism: self.mechanism.clone(),
            reason,
        })
    }

    fn note(&self, message: &str) {
        let why = why(message).to_owned();
        let lower = why.to_ascii_lowercase();
        if REFUSALS.iter().any(|word| lower.contains(word)) {
            locked(&self.refused).get_or_insert_with(|| why.clone());
        }
        *locked(&self.broken) = Some(why);
    }
}

fn locked(text: &Mutex<Option<String>>) -> std::sync::MutexGuard<'_, Option<String>> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConsumerContext for Observer {}

impl ClientContext for Observer {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(brokers = self.brokers, facility, message, "librdkafka");
        if facility == "FAIL" {
            self.note(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(brokers = self.brokers, %error, reason, "librdkafka");
        if matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        ) {
            self.note(reason);
        }
    }

    // What nobody takes, rdkafka would log.
    fn stats_raw(&self, _: &[u8]) {}

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no token is configured")?;
        tokens.token().map_err(|reason| {
            *locked(&self.refused) = Some(reason.clone());
            reason.into()
        })
    }
}

/// What happened, out of a line such as `[thrd:a:1/2]: a:1/2: Connect to ipv4#a:1 failed: Connection
/// refused (after 0ms in state CONNECT)`.
pub(crate) fn why(line: &str) -> &str {
    let line = match line.split_once("]: ") {
        Some((thread, rest)) if thread.starts_with("[thrd:") => rest,
        _ => line,
    };
    line.split_once(" (after ").map_or(line, |(line, _)| line)
}

/// A client that answers questions.
pub(crate) type Asker = BaseConsumer<Observer>;

/// A client for questions, with a token if it needs one.
pub(crate) fn asker(config: &ClientConfig) -> Result<Asker> {
    let client: Asker = settings::create(config, Observer::of(config)?)?;
    if client.context().tokens.is_some() {
        drain(&client);
    }
    Ok(client)
}

/// Takes the events that wait: logs, errors, and the wish for a token.
fn drain(client: &Asker) {
    for _ in 0..EVENTS {
        // Nothing is assigned: whatever comes is an event.
        let _ = client.poll(Duration::from_millis(1));
        if client.context().refusal().is_some() {
            return;
        }
    }
}

/// What the cluster says of itself, within a time. Blocks. A broker that does not let us in ends it at once.
pub(crate) fn metadata(client: &Asker, within: Duration) -> Result<Metadata> {
    let begun = Instant::now();
    loop {
        let error = match client.fetch_metadata(None, TRY) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        drain(client);
        if let Some(refused) = client.context().refusal() {
            return Err(refused);
        }
        if begun.elapsed() >= within {
            return Err(unreachable(client, within, &error));
        }
    }
}

/// A question that got no answer.
pub(crate) fn unreachable(client: &Asker, within: Duration, error: &KafkaError) -> Error {
    drain(client);
    let context = client.context();
    if let Some(refused) = context.refusal() {
        return refused;
    }
    let reason = match error {
        KafkaError::MetadataFetch(
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut,
        ) => {
            let limit = format!("no broker answered within {} s", within.as_secs());
            match context.broken() {
                Some(why) => format!("{limit}: {why}"),
                None => limit,
            }
        }
        KafkaError::MetadataFetch(code) => code.to_string(),
        other => other.to_string(),
    };
    Error::Brokers {
        brokers: context.brokers.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(settings: &[(&str, &str)]) -> Observer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "k:9093");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        Observer::of(&config).unwrap()
    }

    #[test]
    fn who_is_not_let_in_hears_by_whom_and_how() {
        let observer = observer(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
        ]);
        observer.log(
            RDKafkaLogLevel::Error,
            "FAIL",
            "[thrd:sasl_ssl://k:9093/bootstrap]: sasl_ssl://k:9093/bootstrap: SASL authentication error: \
             Authentication failed (after 5ms in state AUTH_REQ)",
        );
        let error = observer.refusal().unwrap();
        assert_eq!(
            error.to_string(),
            "kafka at k:9093 does not let us in (SCRAM-SHA-256 over SASL_SSL): sasl_ssl://k:9093/bootstrap: SASL \
             authentication error: Authentication failed"
        );
        assert!(error.hint().unwrap().contains("sasl.password"), "{error:?}");
    }

    #[test]
    fn a_broker_that_is_away_has_refused_nobody() {
        let observer = observer(&[]);
        let line = "[thrd:k:9093]: k:9093: Connect to ipv4#1.2.3.4:9093 failed: Connection refused (after 0ms)";
        observer.log(RDKafkaLogLevel::Error, "FAIL", line);
        assert!(observer.refusal().is_none());
        let broken = observer.broken().unwrap();
        assert_eq!(
            broken,
            "k:9093: Connect to ipv4#1.2.3.4:9093 failed: Connection refused"
        );
    }

    #[test]
    fn a_line_of_the_library_is_cut_to_what_happened() {
        let line = "[thrd:127.0.0.1:1/2]: 127.0.0.1:1/2: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(
            why(line),
            "127.0.0.1:1/2: Connect to ipv4#127.0.0.1:1 failed: Connection refused"
        );
        assert_eq!(why("plain"), "plain");
    }
}
