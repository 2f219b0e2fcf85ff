//! The gRPC service `drumline.v1.Access`: tokens made, shown and revoked.

use chrono::{DateTime, TimeDelta, Utc};
use drumline_proto::v1::access_server::Access;
use drumline_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, RevokeTokenResponse, TokenEntry,
};
use drumline_security::{Identity, Role, TokenInfo, TokenState, Tokens};
use tonic::{Request, Response, Status};

use crate::Error;

/// Serves `drumline.v1.Access`.
pub(crate) struct AccessService {
    tokens: Tokens,
}

impl AccessService {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }

    /// Changes the tokens, which writes a file, away from the threads that serve calls.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Tokens) -> drumline_security::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let tokens = self.tokens.clone();
        match tokio::task::spawn_blocking(move || change(&tokens)).await {
            Ok(changed) => Ok(changed.map_err(Error::from)?),
            Err(error) => Err(Error::Bug {
                context: format!("tokens could not be changed: {error}"),
            }
            .into()),
        }
    }
}

#[tonic::async_trait]
impl Access for AccessService {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let by = caller(&request);
        let CreateTokenRequest {
            name,
            role,
            lifetime_seconds,
        } = request.into_inner();
        let wrong = |field, value: String, reason: &str| {
            Error::from(drumline_security::Error::TokenRequest {
                field,
                value: value.escape_default().to_string(),
                reason: reason.to_owned(),
            })
        };
        let role = role
            .parse::<Role>()
            .map_err(|_| wrong("role", role, "use admin, submit, read or worker"))?;
        let expires = match lifetime_seconds {
            0 => None,
            seconds => {
                let end = i64::try_from(seconds)
                    .ok()
                    .and_then(TimeDelta::try_seconds)
                    .and_then(|lifetime| Utc::now().checked_add_signed(lifetime))
                    .ok_or_else(|| wrong("expiry", seconds.to_string(), "this is too far away"))?;
                Some(end)
            }
        };
        let (token, info) = self
            .change(move |tokens| tokens.create(&name, role, expires))
            .await?;
        tracing::info!(
            target: "drumline::audit",
            by, token = %info.id, name = %info.name, role = %info.role, "token created"
        );
        Ok(Response::new(CreateTokenResponse {
            token: Some(entry(info)),
            text: token.text().to_owned(),
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let tokens = self.tokens.list().into_iter().map(entry).collect();
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let by = caller(&request);
        let RevokeTokenRequest { id } = request.into_inner();
        let info = self.change(move |tokens| tokens.revoke(&id)).await?;
        tracing::info!(
            target: "drumline::audit",
            by, token = %info.id, name = %info.name, "token revoked"
        );
        Ok(Response::new(RevokeTokenResponse {
            token: Some(entry(info)),
        }))
    }
}

fn caller<T>(request: &Request<T>) -> String {
    let identity = request.extensions().get::<Identity>();
    identity.map_or_else(|| "unknown".to_owned(), Identity::to_string)
}

fn entry(info: TokenInfo) -> TokenEntry {
    let state = match info.state(Utc::now()) {
        TokenState::Active => "active",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
    };
    let seconds = |time: Option<DateTime<Utc>>| time.map_or(0, |time| time.timestamp());
    TokenEntry {
        state: state.to_owned(),
        role: info.role.to_string(),
        created: info.created.timestamp(),
        expires: seconds(info.expires),
        last_used: seconds(info.last_used),
        revoked: seconds(info.revoked),
        id: info.id,
        name: info.name,
    }
}
