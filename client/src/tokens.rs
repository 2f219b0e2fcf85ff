//! Tokens: make, list, revoke.

use std::time::Duration;

use drumline_proto::v1;

use crate::{Client, Error, Result};

/// Calls about who may come in; for admins.
#[derive(Debug, Clone)]
pub struct Tokens {
    client: Client,
}

/// A token that was just made.
#[derive(Clone)]
pub struct NewToken {
    /// What is known of it.
    pub entry: v1::TokenEntry,
    /// The token itself, told this once.
    pub text: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewToken({})", self.entry.id)
    }
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Tokens {
        Tokens { client }
    }

    /// Makes a token of a role: `admin`, `submit`, `read` or `worker`. Without a lifetime it never expires.
    pub async fn create(
        &self,
        name: &str,
        role: &str,
        lifetime: Option<Duration>,
    ) -> Result<NewToken> {
        let request = v1::CreateTokenRequest {
            name: name.to_owned(),
            role: role.to_owned(),
            lifetime_seconds: lifetime.map_or(0, |lifetime| lifetime.as_secs().max(1)),
        };
        let answer = self
            .client
            .access()
            .create_token(request)
            .await
            .map_err(|status| self.client.failed(&status))?
            .into_inner();
        Ok(NewToken {
            entry: entry(answer.token)?,
            text: answer.text,
        })
    }

    /// All tokens, oldest first, revoked ones too.
    pub async fn list(&self) -> Result<Vec<v1::TokenEntry>> {
        let answer = self
            .client
            .access()
            .list_tokens(v1::ListTokensRequest {})
            .await
            .map_err(|status| self.client.failed(&status))?;
        Ok(answer.into_inner().tokens)
    }

    /// From here on the token lets nobody in.
    pub async fn revoke(&self, id: &str) -> Result<v1::TokenEntry> {
        let request = v1::RevokeTokenRequest { id: id.to_owned() };
        let answer = self
            .client
            .access()
            .revoke_token(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        entry(answer.into_inner().token)
    }
}

fn entry(entry: Option<v1::TokenEntry>) -> Result<v1::TokenEntry> {
    entry.ok_or_else(|| Error::Protocol {
        reason: "a token without its entry".to_owned(),
    })
}
