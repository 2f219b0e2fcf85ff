//! A token's text: `drl_<id>_<secret>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Result;
use crate::secret::{Digest, random, sha256};

const PREFIX: &str = "drl";
const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 32;
/// Longer texts are no tokens, and are not looked at.
const MAX_TEXT: usize = 128;

/// A token as its owner holds it. Shown once; its debug form hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    text: String,
}

impl Token {
    /// A fresh one with 256 random bits.
    pub(crate) fn random() -> Result<Self> {
        const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let id: String = random::<ID_LENGTH>()?
            .iter()
            .map(|byte| DIGITS[usize::from(byte % 32)] as char)
            .collect();
        let secret = URL_SAFE_NO_PAD.encode(random::<SECRET_LENGTH>()?);
        Ok(Self {
            text: format!("{PREFIX}_{id}_{secret}"),
            id,
        })
    }

    /// Reads a token's text; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut parts = text.splitn(3, '_');
        let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let id_is_plain = !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let decoded = URL_SAFE_NO_PAD.decode(secret).ok()?;
        (prefix == PREFIX && id_is_plain && decoded.len() == SECRET_LENGTH).then(|| Self {
            id: id.to_owned(),
            text: text.to_owned(),
        })
    }

    /// What it is known by; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole text, with the secret.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn digest(&self) -> Digest {
        sha256(self.text.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({PREFIX}_{}_…)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for _ in 0..100 {
            let token = Token::random().unwrap();
            assert_eq!(Token::parse(token.text()), Some(token));
        }
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        let good = Token::random().unwrap();
        let secret = &good.text()[PREFIX.len() + ID_LENGTH + 2..];
        for wrong in [
            String::new(),
            "drl".to_owned(),
            "drl__".to_owned(),
            format!("drl__{secret}"),
            format!("DRL_{}_{secret}", good.id()),
            format!("drl_../../x_{secret}"),
            format!("drl_{}_{}", good.id(), &secret[1..]),
            format!("drl_{}_{secret}=", good.id()),
            format!("{} ", good.text()),
        ] {
            assert_eq!(Token::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(&token.text()[20..]));
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in ".{0,200}") {
            let _ = Token::parse(&text);
        }
    }
}
