//! Signing in to the page: a token against a cookie, because a browser's event stream sends no header.
//!
//! The cookie is signed, holds the token's id and no secret, and ends with the token, by signing out, or after
//! twelve hours. A script cannot read it, another site cannot send it, and each port has its own.

use axum::Extension;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State};
use axum::response::{IntoResponse, Response};
use drumline_security::{Access, Doors, Gate, Peer, Refusal, Tokens, session_cookie};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::rest::{ErrorBody, Problem};

const PATH: &str = "/api/v1/session";

/// What signs a page in
#[derive(Deserialize, ToSchema)]
struct SignIn {
    /// A token, as `drumline token create` prints it.
    token: String,
}

pub(super) fn routes<S: Clone + Send + Sync + 'static>(tokens: Tokens) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(who, sign_in, sign_out))
        .with_state(tokens)
}

/// Open, because the body is what says who comes, and because a page asks before it knows.
pub(super) fn doors() -> Doors {
    Doors::new()
        .get(PATH, Access::Public)
        .route(Method::POST, PATH, Access::Public)
        .route(Method::DELETE, PATH, Access::Public)
}

/// Whoever asks
#[derive(Default, Serialize, ToSchema)]
struct Caller {
    /// Empty where nobody is signed in.
    name: String,
    /// What it may do; empty where nobody is signed in.
    role: &'static str,
}

/// Who asks, as far as it is known
///
/// That nobody is signed in is an answer, not a refusal.
#[utoipa::path(
    get,
    path = "/session",
    tag = "session",
    security(()),
    responses((status = 200, description = "Who asks", body = Caller))
)]
async fn who(
    peer: Option<Extension<Peer>>,
    gate: Option<Extension<Gate>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let peer = peer.as_deref();
    let known = gate
        .as_deref()
        .map(|gate| gate.caller(&uri, &headers, peer));
    let caller = match known {
        Some(Ok(identity)) => Caller {
            role: identity.role.as_str(),
            name: identity.name,
        },
        Some(Err(refusal)) => {
            if let (Some(gate), false) = (&gate, refusal == Refusal::NoToken) {
                gate.audit(peer, "GET", PATH, &refusal);
            }
            Caller::default()
        }
        None => Caller::default(),
    };
    ([(CACHE_CONTROL, "no-store")], Json(caller)).into_response()
}

/// Signs a browser in
///
/// A token against a cookie, which is good for twelve hours, while the token is, and until it is signed out.
#[utoipa::path(
    post,
    path = "/session",
    tag = "session",
    security(()),
    request_body = SignIn,
    responses(
        (status = 204, description = "Signed in; the cookie is in `Set-Cookie`"),
        (status = 400, description = "There is no token in the body", body = ErrorBody),
        (status = 401, description = "The token is not good", body = ErrorBody),
    )
)]
async fn sign_in(
    State(tokens): State<Tokens>,
    peer: Option<Extension<Peer>>,
    gate: Option<Extension<Gate>>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Response {
    let Ok(Json(SignIn { token })) = body else {
        return Problem::bad_request("the body is to be JSON: {\"token\": \"drl_…\"}")
            .into_response();
    };
    let encrypted = peer.as_ref().is_some_and(|peer| peer.encrypted);
    match tokens.open_session(token.trim()) {
        Ok(session) => {
            let age = tokens.session_lifetime().as_secs();
            let name = session_cookie(&uri, &headers);
            with_cookie(&cookie(&name, &session, age, encrypted))
        }
        Err(refusal) => {
            if let Some(gate) = gate {
                gate.audit(peer.as_deref(), "POST", PATH, &refusal);
            }
            refusal.to_http().map(axum::body::Body::new)
        }
    }
}

/// Signs a browser out
///
/// The session of its cookie is over: nobody comes in with it any more, and calls that are open with it end.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "session",
    security(()),
    responses((status = 204, description = "Signed out, or nobody was signed in"))
)]
async fn sign_out(
    State(tokens): State<Tokens>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let encrypted = peer.is_some_and(|peer| peer.encrypted);
    let name = session_cookie(&uri, &headers);
    // It writes a file.
    let ended = tokio::task::spawn_blocking(move || tokens.end_session(&uri, &headers)).await;
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "a session that was signed out would be good again after a restart");
    }
    with_cookie(&cookie(&name, "", 0, encrypted))
}

fn with_cookie(cookie: &str) -> Response {
    match HeaderValue::from_str(cookie) {
        Ok(value) => (StatusCode::NO_CONTENT, [(SET_COOKIE, value)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn cookie(name: &str, value: &str, age: u64, encrypted: bool) -> String {
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}
