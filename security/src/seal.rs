//! Signed texts that expire: tickets and sessions.
//!
//! `version (1) | expiry, unix seconds, big endian (8) | payload | HMAC-SHA256 (32)`. The tag covers what the
//! text is for, so that a ticket of one kind is none of another.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::private;
use crate::secret::{Digest, from_hex, hmac, random, same, to_hex};
use crate::{Error, Result};

const VERSION: u8 = 1;
const HEAD: usize = 9;
const TAG: usize = 32;

/// A key that signs.
#[derive(Clone)]
pub struct Seal {
    key: Digest,
}

/// Why a signed text is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not signed by this key for this purpose, or changed since.
    #[error("it was not made here, or was changed")]
    Forged,
    /// It was good once.
    #[error("it has expired")]
    Expired,
}

impl Seal {
    /// A fresh key.
    pub fn random() -> Result<Self> {
        Ok(Self { key: random()? })
    }

    /// A key made from a shared one, for one use of it.
    pub(crate) fn derived(shared: &Digest, what: &str) -> Self {
        Self {
            key: hmac(shared, &[what.as_bytes()]),
        }
    }

    /// The key in a file; made if there is none. Others may not be able to read it.
    pub fn kept(path: &Path) -> Result<Self> {
        if let Some(bytes) = private::read(path)? {
            private::must_be_private(path)?;
            let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
            let key = from_hex(text).ok_or_else(|| Error::Certificate {
                path: path.to_path_buf(),
                reason: "is no key of 64 hexadecimal digits: remove it, and a new one is made"
                    .to_owned(),
            })?;
            return Ok(Self { key });
        }
        let seal = Self::random()?;
        private::replace(path, format!("{}\n", to_hex(&seal.key)).as_bytes())?;
        Ok(seal)
    }

    /// Signs `payload` for `purpose`, good for `lifetime`.
    pub fn seal(&self, purpose: &str, payload: &[u8], lifetime: Duration) -> Vec<u8> {
        self.seal_at(purpose, payload, SystemTime::now() + lifetime)
    }

    /// The payload of a text that is signed and has not expired.
    pub fn open<'a>(&self, purpose: &str, sealed: &'a [u8]) -> Result<&'a [u8], SealError> {
        self.open_at(purpose, sealed, SystemTime::now())
    }

    pub(crate) fn seal_at(&self, purpose: &str, payload: &[u8], expires: SystemTime) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD + payload.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&seconds(expires).to_be_bytes());
        sealed.extend_from_slice(payload);
        let tag = self.tag(purpose, &sealed);
        sealed.extend_from_slice(&tag);
        sealed
    }

    pub(crate) fn open_at<'a>(
        &self,
        purpose: &str,
        sealed: &'a [u8],
        now: SystemTime,
    ) -> Result<&'a [u8], SealError> {
        let (signed, tag) = sealed.split_last_chunk::<TAG>().ok_or(SealError::Forged)?;
        if !same(tag, &self.tag(purpose, signed)) {
            return Err(SealError::Forged);
        }
        let (head, payload) = signed
            .split_first_chunk::<HEAD>()
            .ok_or(SealError::Forged)?;
        let mut expires = [0; 8];
        expires.copy_from_slice(&head[1..]);
        if head[0] != VERSION {
            return Err(SealError::Forged);
        }
        match u64::from_be_bytes(expires) > seconds(now) {
            true => Ok(payload),
            false => Err(SealError::Expired),
        }
    }

    fn tag(&self, purpose: &str, signed: &[u8]) -> Digest {
        let length = (purpose.len() as u64).to_be_bytes();
        hmac(&self.key, &[&length, purpose.as_bytes(), signed])
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_sealed_is_opened_until_it_expires() {
        let seal = Seal::random().unwrap();
        let sealed = seal.seal_at("rows", b"payload", at(100));
        assert_eq!(seal.open_at("rows", &sealed, at(99)), Ok(&b"payload"[..]));
        assert_eq!(
            seal.open_at("rows", &sealed, at(100)),
            Err(SealError::Expired)
        );
    }

    #[test]
    fn another_key_or_purpose_does_not_open() {
        let seal = Seal::random().unwrap();
        let sealed = seal.seal_at("rows", b"payload", at(100));
        let other = Seal::random().unwrap();
        assert_eq!(
            other.open_at("rows", &sealed, at(1)),
            Err(SealError::Forged)
        );
        assert_eq!(
            seal.open_at("result", &sealed, at(1)),
            Err(SealError::Forged)
        );
    }

    #[test]
    fn a_kept_key_stays_and_must_be_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let sealed = Seal::kept(&path)
            .unwrap()
            .seal("x", b"1", Duration::from_secs(9));
        assert_eq!(Seal::kept(&path).unwrap().open("x", &sealed), Ok(&b"1"[..]));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Seal::kept(&path), Err(Error::TooOpen { .. })));
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_seen(payload: Vec<u8>, bit: prop::sample::Index) {
            let seal = Seal { key: [7; 32] };
            let mut sealed = seal.seal_at("rows", &payload, at(100));
            let bit = bit.index(sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(seal.open_at("rows", &sealed, at(1)), Err(SealError::Forged));
        }

        #[test]
        fn no_bytes_upset_it(bytes: Vec<u8>) {
            prop_assert_eq!(Seal { key: [7; 32] }.open_at("rows", &bytes, at(1)), Err(SealError::Forged));
        }
    }
}
