//! A Confluent-compatible schema registry: schemas by id, with what they refer to.
//!
//! A registered schema never changes, so what was fetched once is kept. Secrets are read by each worker
//! from its environment or a file, and are in no message. [`Schemas`] is what a source's thread asks: it
//! never blocks, and a registry that is away makes the source wait instead of losing records.

mod schemas;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drumline_proto::v1::SchemaRegistry;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};
pub(crate) use schemas::{Pending, Schemas};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CONTENT: &str = "application/vnd.schemaregistry.v1+json, application/json";
/// Schemas that one may refer to, all together: more is a circle or a mistake.
const REFERENCES: usize = 500;

/// Language of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Avro,
    Protobuf,
    Json,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::Json => "JSON Schema",
        }
    }
}

/// A schema as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub id: i32,
    pub language: Language,
    pub text: String,
    /// Names and texts of what it refers to, each after what it needs itself.
    pub references: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    id: i32,
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

/// A client of one registry.
pub(crate) struct Registry {
    urls: Vec<String>,
    client: reqwest::Client,
    credentials: Credentials,
    known: Mutex<HashMap<i32, Arc<Registered>>>,
}

enum Credentials {
    None,
    Basic { username: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads the secrets that the definition names; asks nothing yet.
    pub(crate) fn new(definition: &SchemaRegistry) -> Result<Self> {
        drumline_security::install_crypto();
        let urls: Vec<String> = definition
            .url
            .split(',')
            .map(|url| url.trim().trim_end_matches('/').to_owned())
            .collect();
        for url in &urls {
            check_url(url)?;
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(CONTENT));
        let client = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .connect_timeout(ANSWER_WITHIN / 2)
            .default_headers(headers)
            .user_agent(concat!("drumline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Registry {
                url: definition.url.clone(),
                reason: format!("cannot be asked: {}", error.without_url()),
            })?;
        Ok(Self {
            urls,
            client,
            credentials: credentials(definition, &|name| std::env::var(name).ok())?,
            known: Mutex::default(),
        })
    }

    fn url(&self) -> String {
        self.urls.join(",")
    }

    /// The schema of this id, with all it refers to.
    pub(crate) async fn schema(&self, id: i32) -> Result<Arc<Registered>> {
        let known = |registry: &Self| {
            let known = registry
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if let Some(known) = known(self) {
            return Ok(known);
        }
        let answer: Answer = self
            .get(&format!("schemas/ids/{id}"), &format!("schema {id}"))
            .await?;
        self.keep(id, answer).await
    }

    /// The newest schema of a subject.
    pub(crate) async fn newest(&self, subject: &str) -> Result<Arc<Registered>> {
        let path = format!("subjects/{}/versions/latest", escaped(subject));
        let answer: Answer = self.get(&path, &format!("subject {subject}")).await?;
        self.keep(answer.id, answer).await
    }

    async fn keep(&self, id: i32, answer: Answer) -> Result<Arc<Registered>> {
        let language = match answer.schema_type.as_deref() {
            None | Some("AVRO") => Language::Avro,
            Some("PROTOBUF") => Language::Protobuf,
            Some("JSON") => Language::Json,
            Some(other) => {
                return Err(Error::NotRegistered {
                    url: self.url(),
                    what: format!("schema {id} of a known language, but one in {other}"),
                });
            }
        };
        let references = self.references(answer.references).await?;
        let registered = Arc::new(Registered {
            id,
            language,
            text: answer.schema,
            references,
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::clone(&registered));
        Ok(registered)
    }

    /// Everything these refer to: what has no needs of its own comes first.
    async fn references(&self, wanted: Vec<Reference>) -> Result<Vec<(String, String)>> {
        // Fetched from the top down, so that turned around each one stands after its needs.
        let (mut found, mut asked) = (Vec::new(), 0);
        let mut waiting = std::collections::VecDeque::from(wanted);
        while let Some(Reference {
            name,
            subject,
            version,
        }) = waiting.pop_front()
        {
            asked += 1;
            if asked > REFERENCES {
                return Err(Error::NotRegistered {
                    url: self.url(),
                    what: format!("end of the references of subject {subject}"),
                });
            }
            let path = format!("subjects/{}/versions/{version}", escaped(&subject));
            let what = format!("version {version} of subject {subject}, which {name} stands for");
            let answer: Answer = self.get(&path, &what).await?;
            waiting.extend(answer.references);
            found.push((name, answer.schema));
        }
        found.reverse();
        let mut names = BTreeSet::new();
        found.retain(|(name, _)| names.insert(name.clone()));
        Ok(found)
    }

    /// Asks one address after another until one answers.
    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T> {
        let mut last = None;
        for url in &self.urls {
            match self.ask(url, path, what).await {
                Err(error @ Error::Registry { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::Bug {
            context: "a schema registry without an address".to_owned(),
        }))
    }

    async fn ask<T: DeserializeOwned>(&self, url: &str, path: &str, what: &str) -> Result<T> {
        let away = |reason: String| Error::Registry {
            url: url.to_owned(),
            reason,
        };
        let request = self.client.get(format!("{url}/{path}"));
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { username, password } => {
                request.basic_auth(username, Some(password))
            }
            Credentials::Bearer(token) => request.bearer_auth(token),
        };
        let response = request
            .send()
            .await
            .map_err(|error| away(format!("cannot be reached: {}", cause(&error))))?;
        match response.status() {
            StatusCode::OK => response
                .json()
                .await
                .map_err(|error| away(format!("answers with no {what}: {}", cause(&error)))),
            StatusCode::NOT_FOUND => Err(Error::NotRegistered {
                url: url.to_owned(),
                what: what.to_owned(),
            }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Error::RegistryRefused {
                    url: url.to_owned(),
                    status: status.as_u16(),
                })
            }
            status => Err(away(format!("answers {status} to a question for {what}"))),
        }
    }
}

/// The innermost reason: the outer ones repeat the address.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    let mut escaped = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn wrong(key: &str, reason: String) -> Error {
    Error::Definition {
        key: format!("registry.{key}"),
        reason,
    }
}

fn check_url(url: &str) -> Result<()> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .filter(|rest| !rest.is_empty());
    match rest {
        None => Err(wrong(
            "url",
            "the schema registry's address has to begin with http:// or https://".to_owned(),
        )),
        // Not repeated: it holds a secret.
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => Err(wrong(
            "url",
            "the schema registry's address holds credentials; use username and password_env or password_file"
                .to_owned(),
        )),
        Some(_) => Ok(()),
    }
}

fn credentials(
    definition: &SchemaRegistry,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Credentials> {
    let SchemaRegistry {
        username,
        password_env,
        password_file,
        token_env,
        token_file,
        ..
    } = definition;
    let secret = |what: &str, variable: &str, file: &str| -> Result<Option<String>> {
        if !variable.is_empty() {
            let value = environment(variable).filter(|value| !value.is_empty());
            let missing = || {
                wrong(
                    &format!("{what}_env"),
                    format!("the environment variable {variable} is not set where the worker runs"),
                )
            };
            return value.map(Some).ok_or_else(missing);
        }
        if !file.is_empty() {
            let text = std::fs::read_to_string(file).map_err(|error| {
                wrong(
                    &format!("{what}_file"),
                    format!("{file} cannot be read where the worker runs: {error}"),
                )
            })?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(None)
    };
    if let Some(token) = secret("token", token_env, token_file)? {
        return Ok(Credentials::Bearer(token));
    }
    match secret("password", password_env, password_file)? {
        Some(_) if username.is_empty() => Err(wrong(
            "username",
            "a password for the schema registry needs a username".to_owned(),
        )),
        None if !username.is_empty() => Err(wrong(
            "password_env",
            format!("user {username} of the schema registry needs password_env or password_file"),
        )),
        Some(password) => Ok(Credentials::Basic {
            username: username.clone(),
            password,
        }),
        None => Ok(Credentials::None),
    }
}

#[cfg(test)]
mod tests;
