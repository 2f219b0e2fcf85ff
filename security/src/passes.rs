//! What a master and its workers show each other on one machine, where there are no certificates.
//!
//! A master makes two secrets at its start. The *rows* secret it hands every worker that joins: whoever
//! holds it may ask workers for rows, and tickets for rows are signed with it: all workers read each other. The
//! *control* secret stays with the master, which makes of it a pass for each worker's URL. A worker is told its own
//! pass's digest and sees that pass with its first task; neither opens another worker's door. What is sent can be
//! read on the way, and a URL can be taken over by whoever gets its port: where that matters, use certificates.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::gate::Keys;
use crate::identity::{Identity, Via};
use crate::secret::{Digest, hmac, random, same, sha256};
use crate::{Error, Refusal, Result, Role, Seal, SealError, Token};

/// A job that has not asked for rows for so long has no more use for them; clocks may differ by minutes.
const TICKET_LIFETIME: Duration = Duration::from_secs(60 * 60);
const ROWS_TICKET: &str = "rows";

/// The secrets of one run of a master, as far as this process has them. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Passes {
    held: Arc<ArcSwapOption<Held>>,
    /// Digest of the token that this worker joins with: whoever has it could join as well.
    own: Arc<ArcSwapOption<Digest>>,
}

struct Held {
    rows: Digest,
    rows_bearer: String,
    control: Control,
    tickets: Seal,
}

enum Control {
    /// The master's: passes are made of it.
    Secret(Digest),
    /// A worker's: of the pass that the master shows it.
    Expected(Digest),
}

impl Passes {
    /// A worker's, before it has joined: nobody is let in.
    pub fn none_yet() -> Self {
        Self::default()
    }

    /// A master's, fresh.
    pub fn of_master() -> Result<Self> {
        let held = Held::new(random()?, Control::Secret(random()?));
        let passes = Self::default();
        passes.held.store(Some(Arc::new(held)));
        Ok(passes)
    }

    /// What the worker that is called at this URL is told when it joins: the rows secret, and the digest of its
    /// control pass. The URL is to be as [`Passes::control_bearer`] gets it.
    pub fn for_worker(&self, url: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let digest = sha256(self.control_bearer(url)?.as_bytes());
        let held = self.held.load();
        Some((held.as_ref()?.rows.to_vec(), digest.to_vec()))
    }

    /// What the master told; replaces what an earlier one did.
    pub fn accept(&self, rows: &[u8], control_digest: &[u8]) -> Result<()> {
        let length = |_| Error::bug("the master's passes are not 32 bytes each");
        let held = Held::new(
            rows.try_into().map_err(length)?,
            Control::Expected(control_digest.try_into().map_err(length)?),
        );
        self.held.store(Some(Arc::new(held)));
        Ok(())
    }

    /// The token that this worker joins with: who brings it may look at the worker's metrics.
    pub fn joins_with(&self, token: &Token) {
        let digest = sha256(token.text().as_bytes());
        self.own.store(Some(Arc::new(digest)));
    }

    /// The call to the master is over: until the next one nobody is let in.
    pub fn forget(&self) {
        self.held.store(None);
    }

    /// The bearer token for calls of task control to the worker at this URL; only a master has one.
    pub fn control_bearer(&self, url: &str) -> Option<String> {
        match &self.held.load().as_ref()?.control {
            Control::Secret(secret) => Some(bearer("control", &hmac(secret, &[url.as_bytes()]))),
            Control::Expected(_) => None,
        }
    }

    /// The bearer token for calls for rows.
    pub fn rows_bearer(&self) -> Option<String> {
        Some(self.held.load().as_ref()?.rows_bearer.clone())
    }

    /// Signs a ticket for rows.
    pub fn seal_rows(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let held = self.held.load();
        let sealed = held
            .as_ref()?
            .tickets
            .seal(ROWS_TICKET, ticket, TICKET_LIFETIME);
        Some(sealed)
    }

    /// The ticket in a signed one.
    pub fn open_rows<'a>(&self, sealed: &'a [u8]) -> Result<&'a [u8], SealError> {
        let held = self.held.load();
        let held = held.as_ref().ok_or(SealError::Forged)?;
        held.tickets.open(ROWS_TICKET, sealed)
    }
}

impl Held {
    fn new(rows: Digest, control: Control) -> Self {
        Self {
            rows_bearer: bearer("rows", &hmac(&rows, &[b"bearer"])),
            tickets: Seal::derived(&rows, "tickets"),
            rows,
            control,
        }
    }

    fn is_masters(&self, digest: &Digest) -> bool {
        matches!(&self.control, Control::Expected(expected) if same(digest, expected))
    }
}

fn bearer(what: &str, secret: &Digest) -> String {
    format!("{what}_{}", URL_SAFE_NO_PAD.encode(secret))
}

impl Keys for Passes {
    fn bearer(&self, token: &str) -> Result<Identity, Refusal> {
        let own = self.own.load();
        if own
            .as_ref()
            .is_some_and(|own| same(&sha256(token.as_bytes()), own.as_slice()))
        {
            return Ok(Identity {
                id: "own".to_owned(),
                name: "this worker's token".to_owned(),
                role: Role::Worker,
                via: Via::Token,
            });
        }
        let held = self.held.load();
        let held = held.as_ref().ok_or(Refusal::NotJoined)?;
        let digest = sha256(token.as_bytes());
        let (name, role) = if held.is_masters(&digest) {
            ("master", Role::Master)
        } else if same(&digest, &sha256(held.rows_bearer.as_bytes())) {
            ("worker", Role::Worker)
        } else {
            return Err(Refusal::Unknown);
        };
        Ok(Identity {
            id: name.to_owned(),
            name: name.to_owned(),
            role,
            via: Via::Token,
        })
    }
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "http://a:1/";
    const B: &str = "http://b:1/";

    fn joined(master: &Passes, url: &str) -> Passes {
        let worker = Passes::none_yet();
        let (rows, control) = master.for_worker(url).unwrap();
        worker.accept(&rows, &control).unwrap();
        worker
    }

    #[test]
    fn a_worker_tells_master_and_workers_apart() {
        let master = Passes::of_master().unwrap();
        let (a, b) = (joined(&master, A), joined(&master, B));
        let role = |token: &str| a.bearer(token).map(|identity| identity.role);
        assert_eq!(role(&master.control_bearer(A).unwrap()), Ok(Role::Master));
        assert_eq!(role(&b.rows_bearer().unwrap()), Ok(Role::Worker));
        assert_eq!(b.control_bearer(A), None, "a worker makes no passes");
        assert_eq!(role("control_AAAA"), Err(Refusal::Unknown));
    }

    #[test]
    fn what_the_master_shows_one_worker_opens_no_other() {
        let master = Passes::of_master().unwrap();
        let (a, b) = (joined(&master, A), joined(&master, B));
        let shown = master.control_bearer(A).unwrap();
        assert!(a.bearer(&shown).is_ok());
        assert_eq!(b.bearer(&shown), Err(Refusal::Unknown));
    }

    #[test]
    fn what_a_worker_is_told_is_no_control_token() {
        let master = Passes::of_master().unwrap();
        let worker = joined(&master, A);
        let (rows, control) = master.for_worker(A).unwrap();
        for told in [rows, control] {
            for guess in [
                bearer("control", &told.clone().try_into().unwrap()),
                crate::secret::to_hex(&told),
            ] {
                assert!(worker.bearer(&guess).is_err());
            }
        }
    }

    #[test]
    fn before_it_has_joined_a_worker_lets_nobody_in() {
        let worker = Passes::none_yet();
        let master = Passes::of_master().unwrap();
        let token = master.control_bearer(A).unwrap();
        assert_eq!(worker.bearer(&token), Err(Refusal::NotJoined));
        assert!(worker.open_rows(&master.seal_rows(b"t").unwrap()).is_err());
    }

    #[test]
    fn a_ticket_for_rows_expires() {
        let master = Passes::of_master().unwrap();
        let held = master.held.load_full().unwrap();
        let now = std::time::SystemTime::now();
        let sealed = |expires| held.tickets.seal_at(ROWS_TICKET, b"t", expires);
        let worker = joined(&master, A);
        let good = sealed(now + Duration::from_secs(60));
        assert_eq!(worker.open_rows(&good), Ok(&b"t"[..]));
        assert_eq!(worker.open_rows(&sealed(now)), Err(SealError::Expired));
    }

    #[test]
    fn another_master_has_other_passes() {
        let (first, second) = (Passes::of_master().unwrap(), Passes::of_master().unwrap());
        let worker = joined(&first, A);
        assert!(worker.bearer(&second.control_bearer(A).unwrap()).is_err());
        assert!(worker.bearer(&second.rows_bearer().unwrap()).is_err());
        assert!(worker.open_rows(&second.seal_rows(b"t").unwrap()).is_err());
        let (rows, control) = second.for_worker(A).unwrap();
        worker.accept(&rows, &control).unwrap();
        assert!(worker.bearer(&second.control_bearer(A).unwrap()).is_ok());
        assert!(worker.bearer(&first.control_bearer(A).unwrap()).is_err());
        assert_eq!(
            worker.open_rows(&second.seal_rows(b"t").unwrap()),
            Ok(&b"t"[..])
        );
    }
}
