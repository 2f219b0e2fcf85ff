//! The tokens of a master: who may come in, kept in `tokens.json` of its state folder.
//!
//! The file holds digests, never a token. It is written whole before an answer says that a token exists or is
//! revoked; when a token was last used is written now and then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, SubsecRound as _, Utc};
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::gate::{Keys, cookie};
use crate::identity::{Identity, Via};
use crate::secret::{from_hex, same, sha256, to_hex};
use crate::sessions::{self, Sessions, session_cookie};
use crate::{Error, Lease, Refusal, Result, Role, Seal, Token, private};

const FILE: &str = "tokens.json";
const FORMAT: u32 = 1;
/// Tokens that a master keeps, revoked ones included.
const MOST: usize = 10_000;
const LONGEST_NAME: usize = 64;

/// What is known of a token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// What people call it; not unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends; `None`: never.
    pub expires: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked: Option<DateTime<Utc>>,
    /// When it last let somebody in.
    pub last_used: Option<DateTime<Utc>>,
}

/// Whether a token lets anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody said no.
    Revoked,
}

impl TokenInfo {
    /// Whether it lets anybody in.
    pub fn state(&self, now: DateTime<Utc>) -> TokenState {
        match (self.revoked, self.expires) {
            (Some(_), _) => TokenState::Revoked,
            (None, Some(expires)) if expires <= now => TokenState::Expired,
            _ => TokenState::Active,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    tokens: Vec<Record>,
}

/// Read first, alone: a later format may have other fields.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    name: String,
    role: Role,
    sha256: String,
    created: DateTime<Utc>,
    expires: Option<DateTime<Utc>>,
    revoked: Option<DateTime<Utc>>,
    last_used: Option<DateTime<Utc>>,
}

struct Entry {
    record: Record,
    /// Unix seconds; 0: never.
    last_used: AtomicI64,
}

type Entries = BTreeMap<String, Arc<Entry>>;

/// The tokens of a master. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    entries: ArcSwap<Entries>,
    /// Held while the file is written. Readers never wait for it.
    writing: Mutex<()>,
    sessions: Sessions,
    /// A token or a session may be good no longer.
    changes: watch::Sender<()>,
}

impl Tokens {
    /// Reads the tokens of a state folder; none if there is no file yet. `sessions` signs pages in.
    pub fn open(state_dir: &Path, sessions: Seal) -> Result<Self> {
        std::fs::create_dir_all(state_dir).map_err(|error| Error::write(state_dir, error))?;
        let path = state_dir.join(FILE);
        let mut entries = Entries::new();
        if let Some(bytes) = private::read(&path)? {
            private::must_be_private(&path)?;
            for record in read(&bytes).map_err(|reason| Error::TokenFile {
                path: path.clone(),
                reason,
            })? {
                entries.insert(record.id.clone(), Arc::new(Entry::new(record)));
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                entries: ArcSwap::from_pointee(entries),
                writing: Mutex::new(()),
                sessions: Sessions::open(state_dir, sessions)?,
                changes: watch::Sender::new(()),
            }),
        })
    }

    /// Makes a token. Its text is in the answer, and nowhere else.
    pub fn create(
        &self,
        name: &str,
        role: Role,
        expires: Option<DateTime<Utc>>,
    ) -> Result<(Token, TokenInfo)> {
        let wrong = |field, value: &str, reason: &str| Error::TokenRequest {
            field,
            value: value.escape_default().to_string(),
            reason: reason.to_owned(),
        };
        let length = name.chars().count();
        if length == 0 || length > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(wrong(
                "name",
                name,
                "use 1 to 64 characters without line breaks",
            ));
        }
        if !Role::OF_TOKENS.contains(&role) {
            return Err(wrong(
                "role",
                role.as_str(),
                "a token is admin, submit, read or worker",
            ));
        }
        let now = Utc::now().trunc_subsecs(0);
        let expires = expires.map(|end| end.trunc_subsecs(0));
        if let Some(end) = expires.filter(|end| *end <= now) {
            return Err(wrong("expiry", &end.to_rfc3339(), "this is in the past"));
        }
        let token = Token::random()?;
        let record = Record {
            id: token.id().to_owned(),
            name: name.to_owned(),
            role,
            sha256: to_hex(&token.digest()),
            created: now,
            expires,
            revoked: None,
            last_used: None,
        };
        let entry = Arc::new(Entry::new(record));
        let info = entry.info();
        self.change(|entries| {
            if entries.len() >= MOST {
                // Those that let nobody in any more make room.
                entries.retain(|_, entry| entry.info().state(now) == TokenState::Active);
            }
            if entries.len() >= MOST {
                return Err(wrong("name", name, "there are 10000 tokens: revoke some"));
            }
            entries.insert(entry.record.id.clone(), entry);
            Ok(())
        })?;
        Ok((token, info))
    }

    /// From the answer on it lets no call in; those that are open end a moment later. Revoking it again changes nothing.
    pub fn revoke(&self, id: &str) -> Result<TokenInfo> {
        let mut revoked = None;
        self.change(|entries| {
            let entry = entries
                .get_mut(id)
                .ok_or_else(|| Error::UnknownToken { id: id.to_owned() })?;
            let mut record = entry.to_record();
            record
                .revoked
                .get_or_insert_with(|| Utc::now().trunc_subsecs(0));
            *entry = Arc::new(Entry::new(record));
            revoked = Some(entry.info());
            Ok(())
        })?;
        revoked.ok_or_else(|| Error::bug("a token was revoked and is not there"))
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<TokenInfo> {
        let entries = self.inner.entries.load();
        let mut all: Vec<TokenInfo> = entries.values().map(|entry| entry.info()).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// The token in a file of this folder, made if there is none that is good: how processes of this machine's
    /// user come in. A file that others can read is replaced, its token revoked.
    pub fn kept_in(&self, path: &Path, name: &str, role: Role) -> Result<Token> {
        if let Some(token) = read_token(path)? {
            let is_good = self.entry_of(token.text()).is_ok_and(|entry| {
                let state = entry.info().state(Utc::now());
                entry.record.role == role && state == TokenState::Active
            });
            match private::open_to_others(path)? {
                None if is_good => return Ok(token),
                Some(mode) if is_good => {
                    tracing::warn!(
                        file = %path.display(),
                        mode = format!("{mode:03o}"),
                        "others could read this token: it is revoked, and a new one is made"
                    );
                    self.revoke(token.id())?;
                }
                _ => {}
            }
        }
        let (token, _) = self.create(name, role, None)?;
        private::replace(path, format!("{}\n", token.text()).as_bytes())?;
        Ok(token)
    }

    /// Writes down when tokens were last used, if that changed.
    pub fn write_last_used(&self) -> Result<()> {
        let changed = self
            .inner
            .entries
            .load()
            .values()
            .any(|entry| entry.last_used() != entry.record.last_used);
        if !changed {
            return Ok(());
        }
        self.change(|entries| {
            for entry in entries.values_mut() {
                let record = entry.to_record();
                *entry = Arc::new(Entry::new(record));
            }
            Ok(())
        })
    }

    /// Signs a page in: the value of its cookie, good for [`Tokens::session_lifetime`] while the token is.
    pub fn open_session(&self, token: &str) -> Result<String, Refusal> {
        let identity = self.bearer(token)?;
        self.inner.sessions.begin(&identity.id).map_err(|error| {
            tracing::error!(%error, "nobody can sign in");
            Refusal::SessionOver
        })
    }

    /// Signs a page out whose session is in these headers, if one is: nobody comes in with it any more, and what is
    /// open ends.
    pub fn end_session(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let name = session_cookie(uri, headers);
        let session = cookie(headers, &name).and_then(|text| self.inner.sessions.of(text).ok());
        let Some(session) = session else {
            return Ok(());
        };
        let ended = self.inner.sessions.end(&session);
        self.inner.changes.send_replace(());
        ended
    }

    /// How long a page stays signed in.
    pub fn session_lifetime(&self) -> Duration {
        sessions::LIFETIME
    }

    fn change(&self, change: impl FnOnce(&mut Entries) -> Result<()>) -> Result<()> {
        let _writing = self
            .inner
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut entries = Entries::clone(&self.inner.entries.load());
        change(&mut entries)?;
        let file = File {
            format: FORMAT,
            tokens: entries.values().map(|entry| entry.to_record()).collect(),
        };
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|error| Error::bug(format!("tokens cannot be written: {error}")))?;
        private::replace(&self.inner.path, &bytes)?;
        self.inner.entries.store(Arc::new(entries));
        self.inner.changes.send_replace(());
        Ok(())
    }

    /// Why a token lets nobody in, if so.
    fn why_over(&self, id: &str) -> Option<Refusal> {
        match self.inner.entries.load().get(id) {
            Some(entry) => entry.why_over(Utc::now()),
            None => Some(Refusal::Unknown),
        }
    }

    fn entry_of(&self, text: &str) -> Result<Arc<Entry>, Refusal> {
        let token = Token::parse(text).ok_or(Refusal::Malformed)?;
        let entries = self.inner.entries.load();
        let entry = entries.get(token.id()).ok_or(Refusal::Unknown)?;
        let expected = from_hex(&entry.record.sha256).ok_or(Refusal::Unknown)?;
        match same(&expected, &sha256(text.as_bytes())) {
            true => Ok(Arc::clone(entry)),
            false => Err(Refusal::Unknown),
        }
    }

    fn allowed(&self, entry: &Entry, via: Via) -> Result<Identity, Refusal> {
        let now = Utc::now();
        if let Some(refusal) = entry.why_over(now) {
            return Err(refusal);
        }
        entry
            .last_used
            .fetch_max(now.timestamp(), Ordering::Relaxed);
        Ok(Identity {
            id: entry.record.id.clone(),
            name: entry.record.name.clone(),
            role: entry.record.role,
            via,
        })
    }
}

impl Keys for Tokens {
    fn bearer(&self, text: &str) -> Result<Identity, Refusal> {
        let entry = self.entry_of(text)?;
        self.allowed(&entry, Via::Token)
    }

    fn session(&self, cookie: &str) -> Result<Identity, Refusal> {
        let session = self.inner.sessions.of(cookie)?;
        let entries = self.inner.entries.load();
        let entry = entries.get(&session.token).ok_or(Refusal::SessionOver)?;
        self.allowed(entry, Via::Session)
    }

    fn lease(&self, identity: &Identity, shown: &str) -> Lease {
        let entries = self.inner.entries.load();
        let expires = entries
            .get(&identity.id)
            .and_then(|entry| entry.record.expires);
        let session = match identity.via {
            Via::Session => self.inner.sessions.of(shown).ok(),
            _ => None,
        };
        let (tokens, id) = (self.clone(), identity.id.clone());
        let look = move || {
            let signed_out = session
                .as_ref()
                .is_some_and(|session| tokens.inner.sessions.is_over(&session.id));
            match signed_out {
                true => Some(Refusal::SessionOver),
                false => tokens.why_over(&id),
            }
        };
        Lease::until(look, self.inner.changes.subscribe(), expires)
    }
}

impl Entry {
    fn new(record: Record) -> Self {
        let last_used = record.last_used.map_or(0, |used| used.timestamp());
        Self {
            record,
            last_used: AtomicI64::new(last_used),
        }
    }

    /// Why it lets nobody in, if so.
    fn why_over(&self, now: DateTime<Utc>) -> Option<Refusal> {
        let (id, name) = (self.record.id.clone(), self.record.name.clone());
        match self.info().state(now) {
            TokenState::Active => None,
            TokenState::Revoked => Some(Refusal::Revoked { id, name }),
            TokenState::Expired => Some(Refusal::Expired { id, name }),
        }
    }

    fn last_used(&self) -> Option<DateTime<Utc>> {
        match self.last_used.load(Ordering::Relaxed) {
            0 => None,
            seconds => DateTime::from_timestamp(seconds, 0),
        }
    }

    fn to_record(&self) -> Record {
        Record {
            last_used: self.last_used(),
            ..self.record.clone()
        }
    }

    fn info(&self) -> TokenInfo {
        let Record {
            id,
            name,
            role,
            created,
            expires,
            revoked,
            last_used,
            ..
        } = self.to_record();
        TokenInfo {
            id,
            name,
            role,
            created,
            expires,
            revoked,
            last_used,
        }
    }
}

/// The token in a file; `None` if there is no file, or something else in it.
pub(crate) fn read_token(path: &Path) -> Result<Option<Token>> {
    let bytes = private::read(path)?;
    Ok(bytes.and_then(|bytes| Token::parse(std::str::from_utf8(&bytes).ok()?.trim())))
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let Format { format } =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no such file: {error}"))?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, and this is Drumline {}, which reads format {FORMAT}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    for record in &file.tokens {
        if from_hex(&record.sha256).is_none() {
            return Err(format!("the digest of token {} is none", record.id));
        }
    }
    Ok(file.tokens)
}

#[cfg(test)]
mod tests;
