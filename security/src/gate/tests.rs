use std::sync::Mutex;

use tower::ServiceExt as _;

use super::*;
use crate::Role;
use crate::identity::{CertificateIdentity, Via};

/// The token is the role's name.
struct ByName;

impl Keys for ByName {
    fn bearer(&self, token: &str) -> Result<Identity, Refusal> {
        match token.parse() {
            Ok(role) => Ok(Identity {
                id: token.to_owned(),
                name: token.to_owned(),
                role,
                via: Via::Token,
            }),
            Err(_) => Err(Refusal::Unknown),
        }
    }

    fn session(&self, cookie: &str) -> Result<Identity, Refusal> {
        self.bearer(cookie).map_err(|_| Refusal::SessionOver)
    }
}

fn doors() -> Doors {
    Doors::new()
        .get("/healthz", Access::Public)
        .get("/api/v1/jobs", Access::Needs(Role::Read))
        .post("/api/v1/jobs/{id}/cancel", Role::Submit)
        .rpc("/p.Cluster/Join", Role::Worker)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    /// Who the service behind the gate saw.
    seen: Option<Option<Identity>>,
}

async fn call(gate: Gate, request: http::request::Builder) -> Answer {
    let seen = Arc::new(Mutex::new(None));
    let saw = Arc::clone(&seen);
    let inner = tower::service_fn(move |request: Request<Body>| {
        *saw.lock().unwrap() = Some(request.extensions().get::<Identity>().cloned());
        ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    let response = gate
        .layer(inner)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let seen = seen.lock().unwrap().take();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        seen,
    }
}

fn gate() -> Gate {
    Gate::new(doors(), ByName, None)
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path)
}

#[tokio::test]
async fn a_public_door_asks_nobody() {
    let answer = call(gate(), get("/healthz").header("authorization", "nonsense")).await;
    assert_eq!((answer.status, answer.seen), (200, Some(None)));
}

#[tokio::test]
async fn who_is_let_in_is_known_inside() {
    let answer = call(
        gate(),
        get("/api/v1/jobs").header("authorization", "Bearer read"),
    )
    .await;
    assert_eq!(answer.seen.unwrap().unwrap().role, Role::Read);
}

#[tokio::test]
async fn without_a_token_the_answer_asks_for_one() {
    let answer = call(gate(), get("/api/v1/jobs")).await;
    assert_eq!((answer.status, answer.seen), (401, None));
    assert_eq!(
        answer.headers["www-authenticate"],
        "Bearer realm=\"drumline\""
    );
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn the_wrong_role_is_refused_and_asks_for_nothing() {
    let request = Request::post("/api/v1/jobs/7/cancel").header("authorization", "Bearer read");
    let answer = call(gate(), request).await;
    assert_eq!((answer.status, answer.seen), (403, None));
    assert!(!answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn what_is_not_listed_is_refused_and_told_only_to_who_is_known() {
    let gate = gate();
    assert_eq!(call(gate.clone(), get("/secret")).await.status, 401);
    let admin = get("/secret").header("authorization", "Bearer admin");
    let answer = call(gate.clone(), admin).await;
    assert_eq!((answer.status, answer.seen), (404, None));
    assert_eq!(gate.refused(), 2);
}

#[tokio::test]
async fn grpc_callers_get_a_status() {
    let rpc = || Request::post("/p.Cluster/Join").header("content-type", "application/grpc");
    let answer = call(gate(), rpc()).await;
    assert_eq!((answer.status, answer.seen), (200, None));
    assert_eq!(answer.headers["grpc-status"], "16");
    let answer = call(gate(), rpc().header("authorization", "Bearer admin")).await;
    assert_eq!(answer.headers["grpc-status"], "7");
    let answer = call(gate(), rpc().header("authorization", "Bearer worker")).await;
    assert!(answer.seen.is_some());
}

#[tokio::test]
async fn headers_that_are_no_bearer_token_are_refused() {
    for value in [
        "Basic cmVhZDpyZWFk",
        "Bearer",
        "read",
        "Bearer  ",
        "Bearer \u{ff}",
    ] {
        let request = get("/api/v1/jobs").header("authorization", value.as_bytes());
        assert_eq!(call(gate(), request).await.status, 401, "{value}");
    }
    let two = get("/api/v1/jobs")
        .header("authorization", "Bearer nobody")
        .header("authorization", "Bearer read");
    assert_eq!(call(gate(), two).await.status, 401);
    let two = get("/api/v1/jobs")
        .header("authorization", "Bearer read")
        .header("authorization", "Bearer admin");
    assert_eq!(call(gate(), two).await.status, 401);
}

#[tokio::test]
async fn a_session_looks_but_changes_only_from_our_own_page() {
    let cookie = "a=b; drumline_session=submit";
    let look = get("/api/v1/jobs").header("cookie", cookie);
    assert_eq!(call(gate(), look).await.status, 200);
    let change = || Request::post("/api/v1/jobs/7/cancel").header("cookie", cookie);
    assert_eq!(call(gate(), change()).await.status, 403);
    assert_eq!(
        call(gate(), change().header("x-drumline", "1"))
            .await
            .status,
        200
    );
    let over = get("/api/v1/jobs").header("cookie", "drumline_session=old");
    assert_eq!(call(gate(), over).await.status, 401);
}

fn with_certificate(role: Option<Role>) -> Peer {
    Peer {
        address: None,
        encrypted: true,
        certificate: Some(CertificateIdentity {
            name: "w1".to_owned(),
            role,
        }),
    }
}

#[tokio::test]
async fn a_certificate_says_who_calls_where_no_token_does() {
    let join = || Request::post("/p.Cluster/Join");
    for (role, status) in [
        (Some(Role::Worker), 200),
        (Some(Role::Master), 200),
        (Some(Role::Read), 403),
        (None, 401),
    ] {
        let request = join().extension(with_certificate(role));
        assert_eq!(call(gate(), request).await.status, status, "{role:?}");
    }
    // A wrong token is not made good by a certificate; a right one of another role is.
    let request = || join().extension(with_certificate(Some(Role::Worker)));
    let wrong = request().header("authorization", "Bearer nobody");
    assert_eq!(call(gate(), wrong).await.status, 401);
    let other = request().header("authorization", "Bearer read");
    assert_eq!(call(gate(), other).await.status, 200);
}

#[tokio::test]
async fn a_gate_open_to_everybody_still_knows_only_what_is_listed() {
    let gate = Gate::open_to_everybody(doors(), None);
    let answer = call(gate.clone(), Request::post("/p.Cluster/Join")).await;
    assert_eq!(answer.seen.unwrap().unwrap().role, Role::Admin);
    assert_eq!(call(gate, get("/secret")).await.status, 404);
}

#[tokio::test]
async fn nobody_brings_an_identity_along() {
    let forged = Identity::everybody();
    let answer = call(gate(), get("/healthz").extension(forged)).await;
    assert_eq!(answer.seen, Some(None));
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_told_to_wait_and_others_are_not() {
    let pace = Pace {
        per_second: std::num::NonZeroU32::MIN,
        burst: std::num::NonZeroU32::MIN.saturating_add(4),
    };
    let gate = Gate::new(doors(), ByName, Some(pace));
    let jobs =
        |token: &str| Request::get("/api/v1/jobs").header(AUTHORIZATION, format!("Bearer {token}"));
    for _ in 0..5 {
        assert_eq!(call(gate.clone(), jobs("read")).await.status, 200);
    }
    assert_eq!(call(gate.clone(), jobs("read")).await.status, 429);
    assert_eq!(call(gate.clone(), jobs("admin")).await.status, 200);
    let nobody = || Request::get("/api/v1/jobs");
    for _ in 0..5 {
        assert_eq!(call(gate.clone(), nobody()).await.status, 401);
    }
    assert_eq!(call(gate, nobody()).await.status, 429);
}

/// The token is good until it is told otherwise.
struct Leased(tokio::sync::watch::Sender<()>);

impl Keys for Leased {
    fn bearer(&self, token: &str) -> Result<Identity, Refusal> {
        ByName.bearer(token)
    }

    fn lease(&self, _: &Identity, _: &str) -> Lease {
        let changes = self.0.subscribe();
        let seen = changes.clone();
        let over = move || seen.has_changed().unwrap().then_some(Refusal::SessionOver);
        Lease::until(over, changes, None)
    }
}

/// Answers with a body that goes on for ever, of this type.
async fn endless(gate: Gate, kind: &'static str) -> Response<Body> {
    let inner = tower::service_fn(move |_: Request<Body>| {
        let frames = futures::stream::pending::<Result<hyper::body::Frame<bytes::Bytes>, Status>>();
        let mut response = Response::new(Body::new(Frames(frames)));
        let value = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, value);
        ready(Ok::<_, Infallible>(response))
    });
    let request = get("/api/v1/jobs").header("authorization", "Bearer read");
    let request = request.body(Body::empty()).unwrap();
    gate.layer(inner).oneshot(request).await.unwrap()
}

/// The next of a body, if it comes in time.
async fn next(
    body: &mut Body,
    millis: u64,
) -> Result<Option<Result<hyper::body::Frame<bytes::Bytes>, Status>>, tokio::time::error::Elapsed> {
    let frame = futures::future::poll_fn(|context| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(&mut *body), context)
    });
    tokio::time::timeout(std::time::Duration::from_millis(millis), frame).await
}

struct Frames<S>(S);

impl<S> hyper::body::Body for Frames<S>
where
    S: futures::Stream<Item = Result<hyper::body::Frame<bytes::Bytes>, Status>> + Unpin,
{
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Status>>> {
        futures::StreamExt::poll_next_unpin(&mut self.0, context)
    }
}

#[tokio::test]
async fn an_answer_ends_with_its_lease_in_the_way_of_its_protocol() {
    for kind in ["application/grpc", "text/event-stream", "application/json"] {
        let changes = tokio::sync::watch::Sender::new(());
        let gate = Gate::new(doors(), Leased(changes.clone()), None);
        let mut body = endless(gate, kind).await.into_body();
        assert!(next(&mut body, 100).await.is_err(), "{kind} ends too early");
        changes.send_replace(());
        let last = next(&mut body, 5000).await.expect("it goes on");
        match (kind, last) {
            ("application/grpc", Some(Ok(frame))) => {
                let trailers = frame.into_trailers().unwrap();
                assert_eq!(trailers["grpc-status"], "16");
            }
            ("text/event-stream", None) => {}
            ("application/json", Some(Err(status))) => {
                assert_eq!(status.code(), tonic::Code::Unauthenticated);
            }
            (kind, other) => panic!("{kind}: {other:?}"),
        }
    }
}
