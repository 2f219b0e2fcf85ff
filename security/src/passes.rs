//! What a master and its workers show each other on one machine, where there are no certificates.
//!
//! A master makes two secrets at its start. The *rows* secret it hands every worker that joins: whoever
//! holds it may ask workers for rows, and tickets for rows are signed with it. The *control* secret stays
//! with the master; workers get its digest, which does not let them start tasks on another. It is no wall
//! against a worker that means harm: the master shows every worker the same control secret with the first
//! task, so that whoever may join may learn it. Where that matters, use certificates.

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
    control_digest: Digest,
    /// The master's only.
    control_bearer: Option<String>,
    tickets: Seal,
}

impl Passes {
    /// A worker's, before it has joined: nobody is let in.
    pub fn none_yet() -> Self {
        Self::default()
    }

    /// A master's, fresh.
    pub fn of_master() -> Result<Self> {
        let control = bearer("control", &random()?);
        let held = Held::new(random()?, sha256(control.as_bytes()), Some(control));
        let passes = Self::default();
        passes.held.store(Some(Arc::new(held)));
        Ok(passes)
    }

    /// What a worker that joined is told: the rows secret, and the digest of the control secret.
    pub fn for_workers(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let held = self.held.load();
        let held = held.as_ref()?;
        Some((held.rows.to_vec(), held.control_digest.to_vec()))
    }

    /// What the master told; replaces what an earlier one did.
    pub fn accept(&self, rows: &[u8], control_digest: &[u8]) -> Result<()> {
        let length = |_| Error::bug("the master's passes are not 32 bytes each");
        let held = Held::new(
            rows.try_into().map_err(length)?,
            control_digest.try_into().map_err(length)?,
            None,
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

    /// The bearer token for calls of task control; only a master has one.
    pub fn control_bearer(&self) -> Option<String> {
        self.held.load().as_ref()?.control_bearer.clone()
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
    fn new(rows: Digest, control_digest: Digest, control_bearer: Option<String>) -> Self {
        Self {
            rows_bearer: bearer("rows", &hmac(&rows, &[b"bearer"])),
            tickets: Seal::derived(&rows, "tickets"),
            rows,
            control_digest,
            control_bearer,
        }
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
        let (name, role) = if same(&sha256(token.as_bytes()), &held.control_digest) {
            ("master", Role::Master)
        } else if same(
            &sha256(token.as_bytes()),
            &sha256(held.rows_bearer.as_bytes()),
        ) {
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

    fn joined(master: &Passes) -> Passes {
        let worker = Passes::none_yet();
        let (rows, control) = master.for_workers().unwrap();
        worker.accept(&rows, &control).unwrap();
        worker
    }

    #[test]
    fn a_worker_tells_master_and_workers_apart() {
        let master = Passes::of_master().unwrap();
        let (a, b) = (joined(&master), joined(&master));
        let role = |token: &str| a.bearer(token).map(|identity| identity.role);
        assert_eq!(role(&master.control_bearer().unwrap()), Ok(Role::Master));
        assert_eq!(role(&b.rows_bearer().unwrap()), Ok(Role::Worker));
        assert_eq!(b.control_bearer(), None, "a worker cannot control another");
        assert_eq!(role("control_AAAA"), Err(Refusal::Unknown));
    }

    #[test]
    fn what_a_worker_is_told_is_no_control_token() {
        let master = Passes::of_master().unwrap();
        let worker = joined(&master);
        let (rows, control) = master.for_workers().unwrap();
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
        let token = master.control_bearer().unwrap();
        assert_eq!(worker.bearer(&token), Err(Refusal::NotJoined));
        assert!(worker.open_rows(&master.seal_rows(b"t").unwrap()).is_err());
    }

    #[test]
    fn a_ticket_for_rows_expires() {
        let master = Passes::of_master().unwrap();
        let held = master.held.load_full().unwrap();
        let now = std::time::SystemTime::now();
        let sealed = |expires| held.tickets.seal_at(ROWS_TICKET, b"t", expires);
        let worker = joined(&master);
        let good = sealed(now + Duration::from_secs(60));
        assert_eq!(worker.open_rows(&good), Ok(&b"t"[..]));
        assert_eq!(worker.open_rows(&sealed(now)), Err(SealError::Expired));
    }

    #[test]
    fn another_master_has_other_passes() {
        let (first, second) = (Passes::of_master().unwrap(), Passes::of_master().unwrap());
        let worker = joined(&first);
        assert!(worker.bearer(&second.control_bearer().unwrap()).is_err());
        assert!(worker.bearer(&second.rows_bearer().unwrap()).is_err());
        assert!(worker.open_rows(&second.seal_rows(b"t").unwrap()).is_err());
        let (rows, control) = second.for_workers().unwrap();
        worker.accept(&rows, &control).unwrap();
        assert!(worker.bearer(&second.control_bearer().unwrap()).is_ok());
        assert!(worker.bearer(&first.control_bearer().unwrap()).is_err());
        assert_eq!(
            worker.open_rows(&second.seal_rows(b"t").unwrap()),
            Ok(&b"t"[..])
        );
    }
}
