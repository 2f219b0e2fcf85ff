//! Sessions of pages: signed texts that name a token, and which of them were ended before their time.
//!
//! They need no memory while they last, so they outlive the master. One that was signed out is remembered until it
//! would have expired, in `signed-out.json` of the state folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};

use crate::secret::{random, to_hex};
use crate::{Error, Refusal, Result, Seal, private};

/// How long a page stays signed in.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
const PURPOSE: &str = "session";
const FILE: &str = "signed-out.json";
const FORMAT: u32 = 1;
/// Sessions that are remembered; above it those that expire first are forgotten.
const MOST: usize = 10_000;

/// Name of the cookie that signs a page in. Browsers share cookies among all ports of a host, so it names the port
/// that the browser asked at.
pub fn session_cookie(uri: &Uri, headers: &HeaderMap) -> String {
    let asked = match uri.authority() {
        Some(authority) => authority.port_u16(),
        None => headers
            .get(HOST)
            .and_then(|host| host.to_str().ok()?.parse::<Authority>().ok()?.port_u16()),
    };
    match asked {
        Some(port) => format!("drumline_session_{port}"),
        None => "drumline_session".to_owned(),
    }
}

/// A session that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Of the token that signed in.
    pub(crate) token: String,
    pub(crate) id: String,
}

pub(crate) struct Sessions {
    seal: Seal,
    path: PathBuf,
    /// Ids of those signed out, and until when they would have been good, in seconds since 1970.
    over: ArcSwap<BTreeMap<String, i64>>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    sessions: BTreeMap<String, i64>,
}

impl Sessions {
    pub(crate) fn open(state_dir: &Path, seal: Seal) -> Result<Self> {
        let path = state_dir.join(FILE);
        let mut over = BTreeMap::new();
        if let Some(bytes) = private::read(&path)? {
            let wrong = |reason: String| Error::TokenFile {
                path: path.clone(),
                reason,
            };
            let file: File =
                serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            if file.format != FORMAT {
                return Err(wrong(format!(
                    "it has format {}, and this build reads format {FORMAT}",
                    file.format
                )));
            }
            over = file.sessions;
        }
        Ok(Self {
            seal,
            path,
            over: ArcSwap::from_pointee(over),
            writing: Mutex::new(()),
        })
    }

    /// A new session's cookie.
    pub(crate) fn begin(&self, token: &str) -> Result<String> {
        let payload = format!("{token}:{}", to_hex(&random::<16>()?));
        let sealed = self.seal.seal(PURPOSE, payload.as_bytes(), LIFETIME);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The session of a cookie that is good.
    pub(crate) fn of(&self, cookie: &str) -> Result<Session, Refusal> {
        let read = || {
            let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
            let payload = self.seal.open(PURPOSE, &sealed).ok()?;
            let (token, id) = std::str::from_utf8(payload).ok()?.split_once(':')?;
            (!self.is_over(id)).then(|| Session {
                token: token.to_owned(),
                id: id.to_owned(),
            })
        };
        read().ok_or(Refusal::SessionOver)
    }

    pub(crate) fn is_over(&self, id: &str) -> bool {
        self.over.load().contains_key(id)
    }

    /// Ends a session. It counts at once; an error says that it will not after a restart.
    pub(crate) fn end(&self, session: &Session) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Utc::now().timestamp();
        let mut over = BTreeMap::clone(&self.over.load());
        over.retain(|_, until| *until > now);
        over.insert(session.id.clone(), now + LIFETIME.as_secs() as i64);
        while over.len() > MOST {
            let first = over.iter().min_by_key(|(_, until)| **until);
            let Some(first) = first.map(|(id, _)| id.clone()) else {
                break;
            };
            over.remove(&first);
        }
        let file = File {
            format: FORMAT,
            sessions: over.clone(),
        };
        self.over.store(Arc::new(over));
        let bytes = serde_json::to_vec(&file)
            .map_err(|error| Error::bug(format!("sessions cannot be written: {error}")))?;
        private::replace(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_was_ended_stays_so_after_a_restart_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::random().unwrap();
        let sessions = Sessions::open(folder.path(), seal.clone()).unwrap();
        let (one, two) = (sessions.begin("t").unwrap(), sessions.begin("t").unwrap());
        sessions.end(&sessions.of(&one).unwrap()).unwrap();
        let again = Sessions::open(folder.path(), seal).unwrap();
        for sessions in [sessions, again] {
            assert_eq!(sessions.of(&one), Err(Refusal::SessionOver));
            assert_eq!(sessions.of(&two).unwrap().token, "t");
        }
    }

    #[test]
    fn each_port_has_a_cookie_of_its_own() {
        let name = |uri: &str, host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            session_cookie(&uri.parse().unwrap(), &headers)
        };
        assert_eq!(name("/", Some("localhost:7077")), "drumline_session_7077");
        assert_eq!(name("/", Some("[::1]:7078")), "drumline_session_7078");
        assert_eq!(
            name("https://h:7079/", Some("x:1")),
            "drumline_session_7079"
        );
        for host in [Some("example.org"), Some("b a d:1"), None] {
            assert_eq!(name("/", host), "drumline_session", "{host:?}");
        }
    }
}
