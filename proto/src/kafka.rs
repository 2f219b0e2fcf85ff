//! Kafka settings of a stream's definition: which of them are secrets, and how a definition names what is kept
//! elsewhere.
//!
//! Definitions lie in the lake, and are shown to who may look at streams. So a secret is never in one: its value
//! is `${env:NAME}` or `${file:PATH}`, which the worker opens that makes the client.

use crate::v1::StreamDefinition;

/// What is shown in a secret's place.
pub const REDACTED: &str = "(redacted)";

/// Whether a setting of librdkafka, or one of ours beside them, is a secret.
pub fn is_secret(setting: &str) -> bool {
    setting.ends_with(".password")
        || setting.ends_with(".secret")
        || setting.ends_with(".passphrase")
        || setting.ends_with("key.pem")
        || setting == "sasl.oauthbearer.token"
}

/// Whether a value names where it is kept.
pub fn is_elsewhere(value: &str) -> bool {
    value.contains("${env:") || value.contains("${file:")
}

/// A setting that would be kept, and shown, in clear.
pub fn secret_in_clear(definition: &StreamDefinition) -> Option<&str> {
    let clear = |(setting, value): &(&String, &String)| is_secret(setting) && !is_elsewhere(value);
    let mut clear: Vec<&String> = definition
        .kafka
        .iter()
        .filter(clear)
        .map(|(key, _)| key)
        .collect();
    clear.sort();
    clear.first().map(|setting| setting.as_str())
}

/// The definition as it may be shown.
pub fn without_secrets(mut definition: StreamDefinition) -> StreamDefinition {
    for (setting, value) in &mut definition.kafka {
        if is_secret(setting) && !is_elsewhere(value) {
            REDACTED.clone_into(value);
        }
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)]) -> StreamDefinition {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        StreamDefinition {
            kafka: settings.iter().map(pair).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_secret_in_clear_is_found_and_never_shown() {
        let clear = with(&[("sasl.username", "ann"), ("sasl.password", "s3cret")]);
        assert_eq!(secret_in_clear(&clear), Some("sasl.password"));
        let shown = without_secrets(clear);
        assert_eq!(
            shown,
            with(&[("sasl.username", "ann"), ("sasl.password", REDACTED)])
        );
        let elsewhere = with(&[
            ("ssl.key.password", "${file:/run/secrets/key}"),
            ("sasl.oauthbearer.client.secret", "${env:KAFKA_SECRET}"),
            ("ssl.key.location", "/etc/key.pem"),
        ]);
        assert_eq!(secret_in_clear(&elsewhere), None);
        assert_eq!(without_secrets(elsewhere.clone()), elsewhere);
    }
}
