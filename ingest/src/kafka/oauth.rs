//! Tokens for SASL OAUTHBEARER, fetched here: librdkafka is built without an HTTP client of its own.
//!
//! | settings | token |
//! |---|---|
//! | `sasl.oauthbearer.method=oidc`, with `…client.id`, `…client.secret`, `…token.endpoint.url`, `…scope` | from the endpoint, by client credentials (RFC 6749, 4.4) |
//! | `sasl.oauthbearer.token` (Drumline's own) | as it is, for tokens that something else keeps fresh in a file |
//! | `enable.sasl.oauthbearer.unsecure.jwt=true`, `sasl.oauthbearer.config="principal=NAME"` | unsigned (RFC 7515, `alg: none`), for tests |
//!
//! The settings are librdkafka's, which takes out those it does not know.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Result};

/// Settings that are read here and that librdkafka is not told.
const OURS: [&str; 8] = [
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.token",
    "https.ca.location",
    "enable.sasl.oauthbearer.unsecure.jwt",
];

/// How long an endpoint may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long a token counts that does not say so.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Where a client's tokens come from.
#[derive(Clone)]
pub(crate) enum Tokens {
    Endpoint(Box<Endpoint>),
    Given(String),
    Unsigned(String),
}

#[derive(Clone)]
pub(crate) struct Endpoint {
    url: String,
    id: String,
    secret: String,
    scope: Option<String>,
    authority: Option<String>,
}

impl Tokens {
    /// What the settings say; none where they do not ask for this mechanism.
    pub(crate) fn of(config: &ClientConfig) -> Result<Option<Self>> {
        let mechanism = config
            .get("sasl.mechanism")
            .or(config.get("sasl.mechanisms"))
            .unwrap_or_default();
        if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            return Ok(None);
        }
        let text = |key: &str| config.get(key).map(str::to_owned);
        let needed = |key: &str| {
            text(key).ok_or_else(|| Error::KafkaSetting {
                setting: key.to_owned(),
                reason: "is needed for a token by client credentials".to_owned(),
            })
        };
        if let Some(token) = text("sasl.oauthbearer.token") {
            return Ok(Some(Self::Given(token)));
        }
        if config.get("sasl.oauthbearer.method") == Some("oidc") {
            return Ok(Some(Self::Endpoint(Box::new(Endpoint {
                url: needed("sasl.oauthbearer.token.endpoint.url")?,
                id: needed("sasl.oauthbearer.client.id")?,
                secret: needed("sasl.oauthbearer.client.secret")?,
                scope: text("sasl.oauthbearer.scope"),
                authority: text("https.ca.location"),
            }))));
        }
        if config.get("enable.sasl.oauthbearer.unsecure.jwt") == Some("true") {
            let described = config.get("sasl.oauthbearer.config").unwrap_or_default();
            let principal = described
                .split_whitespace()
                .find_map(|part| part.strip_prefix("principal="));
            return Ok(Some(Self::Unsigned(
                principal.unwrap_or("drumline").to_owned(),
            )));
        }
        Err(Error::KafkaSetting {
            setting: "sasl.oauthbearer.method".to_owned(),
            reason: "OAUTHBEARER needs a token: set it to oidc, or set sasl.oauthbearer.token"
                .to_owned(),
        })
    }

    /// Takes out what librdkafka would refuse.
    pub(crate) fn hide(config: &mut ClientConfig) {
        for key in OURS {
            config.remove(key);
        }
    }

    /// A token that counts from now on. Blocks; called by librdkafka while it is polled.
    pub(crate) fn token(&self) -> Result<OAuthToken, String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        match self {
            Self::Given(token) => Ok(told(token.clone(), "drumline", now, LIFETIME)),
            Self::Unsigned(principal) => {
                let claims = json!({
                    "sub": principal,
                    "iat": now.as_secs(),
                    "exp": (now + LIFETIME).as_secs(),
                });
                let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
                let token = format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims));
                Ok(told(token, principal, now, LIFETIME))
            }
            Self::Endpoint(endpoint) => {
                let endpoint = endpoint.clone();
                let id = endpoint.id.clone();
                // A runtime may not be entered inside of another one, and who polls may be in one.
                let fetched = std::thread::Builder::new()
                    .name("kafka-token".to_owned())
                    .spawn(move || endpoint.fetch())
                    .map_err(|error| format!("no thread to fetch a token: {error}"))?
                    .join();
                let answer = fetched.map_err(|_| "fetching a token failed".to_owned())??;
                let lifetime = answer.expires_in.map_or(LIFETIME, Duration::from_secs);
                Ok(told(answer.access_token, &id, now, lifetime))
            }
        }
    }
}

/// An endpoint's answer.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl Endpoint {
    fn fetch(&self) -> Result<Answer, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(self.ask())
    }

    async fn ask(&self) -> Result<Answer, String> {
        let failed = |what: &str| format!("token endpoint {}: {what}", self.url);
        let mut client = reqwest::Client::builder().timeout(WITHIN);
        if let Some(path) = &self.authority {
            let pem = std::fs::read(path).map_err(|error| failed(&format!("{path}: {error}")))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| failed(&format!("{path}: {error}")))?;
            for certificate in certificates {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().map_err(|error| failed(&error.to_string()))?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let form: Vec<String> = form
            .into_iter()
            .map(|(key, value)| format!("{key}={}", encoded(value)))
            .collect();
        let credentials =
            BASE64_STANDARD.encode(format!("{}:{}", encoded(&self.id), encoded(&self.secret)));
        let answer = client
            .post(&self.url)
            .header("authorization", format!("Basic {credentials}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form.join("&"))
            .send()
            .await
            .map_err(|error| failed(&innermost(&error)))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed(&format!("it answers {status}")));
        }
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| failed(&innermost(&error)))?;
        serde_json::from_slice(&bytes).map_err(|_| failed("its answer holds no access_token"))
    }
}

/// As forms and RFC 6749 write values.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What librdkafka wants to know of a token; what the token itself says counts for more.
fn told(token: String, principal: &str, now: Duration, lifetime: Duration) -> OAuthToken {
    let claims: HashMap<String, Value> = token
        .split('.')
        .nth(1)
        .and_then(|part| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part.trim_end_matches('='))
                .ok()
        })
        .and_then(|claims| serde_json::from_slice(&claims).ok())
        .unwrap_or_default();
    let expires = match claims.get("exp").and_then(Value::as_f64) {
        // Seconds, which may have a fraction.
        #[allow(clippy::cast_possible_truncation)]
        Some(seconds) => (seconds * 1000.0) as i64,
        None => i64::try_from((now + lifetime).as_millis()).unwrap_or(i64::MAX),
    };
    let subject = claims.get("sub").and_then(Value::as_str);
    OAuthToken {
        principal_name: subject.unwrap_or(principal).to_owned(),
        token,
        lifetime_ms: expires,
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn config(settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("sasl.mechanism", "OAUTHBEARER");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config
    }

    #[test]
    fn an_unsigned_token_names_its_principal_and_its_end() {
        let settings = [
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ("sasl.oauthbearer.config", "principal=ann"),
        ];
        let tokens = Tokens::of(&config(&settings)).unwrap().unwrap();
        let token = tokens.token().unwrap();
        assert_eq!(token.principal_name, "ann");
        assert!(token.token.ends_with('.'), "{}", token.token);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(token.lifetime_ms > i64::try_from(now.as_millis()).unwrap());
    }

    #[test]
    fn a_token_comes_from_its_endpoint_by_client_credentials() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut part = [0; 4096];
            while !String::from_utf8_lossy(&asked).contains("scope=") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0);
                asked.extend_from_slice(&part[..read]);
            }
            let body = r#"{"access_token":"opaque","expires_in":60}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let settings = [
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.token.endpoint.url", url.as_str()),
            ("sasl.oauthbearer.client.id", "drum"),
            ("sasl.oauthbearer.client.secret", "li:ne"),
            ("sasl.oauthbearer.scope", "kafka read"),
        ];
        let tokens = Tokens::of(&config(&settings)).unwrap().unwrap();
        let token = tokens.token().unwrap();
        assert_eq!(
            (token.token.as_str(), token.principal_name.as_str()),
            ("opaque", "drum")
        );
        let asked = server.join().unwrap();
        assert!(asked.starts_with("POST /token HTTP/1.1"), "{asked}");
        let expected = BASE64_STANDARD.encode("drum:li%3Ane");
        assert!(asked.contains(&expected), "{asked}");
        assert!(
            asked.ends_with("grant_type=client_credentials&scope=kafka%20read"),
            "{asked}"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |settings: &[(&str, &str)]| {
            let error = Tokens::of(&config(settings)).err().unwrap();
            error.to_string()
        };
        assert!(refused(&[]).contains("OAUTHBEARER needs a token"));
        let missing = refused(&[("sasl.oauthbearer.method", "oidc")]);
        assert!(
            missing.contains("sasl.oauthbearer.token.endpoint.url"),
            "{missing}"
        );
        assert!(Tokens::of(&ClientConfig::new()).unwrap().is_none());
    }
}
