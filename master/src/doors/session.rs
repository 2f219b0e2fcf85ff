//! Signing in to the page: a token against a cookie, because a browser's event stream sends no header.
//!
//! The cookie is signed, holds the token's id and no secret, and ends with the token or after twelve hours. A
//! script cannot read it, and another site cannot send it.

use axum::extract::{Json, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use drumline_security::{Access, Doors, Gate, Peer, Refusal, SESSION_COOKIE, Tokens};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

const PATH: &str = "/api/v1/session";

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

pub(super) fn routes(tokens: Tokens) -> Router {
    Router::new()
        .route(PATH, get(who).post(sign_in).delete(sign_out))
        .with_state(tokens)
}

/// Open, because the body is what says who comes, and because a page asks before it knows.
pub(super) fn doors() -> Doors {
    Doors::new()
        .get(PATH, Access::Public)
        .route(Method::POST, PATH, Access::Public)
        .route(Method::DELETE, PATH, Access::Public)
}

/// Whoever asks.
#[derive(Default, Serialize)]
struct Caller {
    /// Empty where nobody is signed in.
    name: String,
    role: &'static str,
}

/// Who asks, as far as it is known: that nobody is signed in is an answer, not a refusal.
async fn who(
    peer: Option<Extension<Peer>>,
    gate: Option<Extension<Gate>>,
    headers: HeaderMap,
) -> Response {
    let peer = peer.as_deref();
    let known = gate.as_deref().map(|gate| gate.caller(&headers, peer));
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

async fn sign_in(
    State(tokens): State<Tokens>,
    peer: Option<Extension<Peer>>,
    gate: Option<Extension<Gate>>,
    Json(SignIn { token }): Json<SignIn>,
) -> Response {
    let encrypted = peer.as_ref().is_some_and(|peer| peer.encrypted);
    match tokens.open_session(token.trim()) {
        Ok(session) => {
            let age = tokens.session_lifetime().as_secs();
            with_cookie(&cookie(&session, age, encrypted))
        }
        Err(refusal) => {
            if let Some(gate) = gate {
                gate.audit(peer.as_deref(), "POST", PATH, &refusal);
            }
            refusal.to_http().map(axum::body::Body::new)
        }
    }
}

async fn sign_out(peer: Option<Extension<Peer>>) -> Response {
    let encrypted = peer.is_some_and(|peer| peer.encrypted);
    with_cookie(&cookie("", 0, encrypted))
}

fn with_cookie(cookie: &str) -> Response {
    match HeaderValue::from_str(cookie) {
        Ok(value) => (StatusCode::NO_CONTENT, [(SET_COOKIE, value)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn cookie(value: &str, age: u64, encrypted: bool) -> String {
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}
