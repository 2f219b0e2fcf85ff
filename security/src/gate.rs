//! The one layer that every call passes: it looks at path, method and who calls, and lets in or answers itself.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::audit::{Audit, Refused};
use crate::identity::Identity;
use crate::pace::{Pace, Paced};
use crate::sessions::session_cookie;
use crate::{Access, Doors, Lease, Peer, Refusal, lease};

/// Only a page of our own can send it.
const OWN_PAGE: &str = "x-drumline";

/// Knows secrets.
pub trait Keys: Send + Sync + 'static {
    /// Whose bearer token this is.
    fn bearer(&self, token: &str) -> Result<Identity, Refusal>;

    /// Whose session this is.
    fn session(&self, _cookie: &str) -> Result<Identity, Refusal> {
        Err(Refusal::SessionOver)
    }

    /// For how long whoever was let in with this token or cookie may stay.
    fn lease(&self, _identity: &Identity, _shown: &str) -> Lease {
        Lease::default()
    }
}

/// For processes that know their callers by certificates alone.
#[derive(Debug, Clone, Copy)]
pub struct NoTokens;

impl Keys for NoTokens {
    fn bearer(&self, _: &str) -> Result<Identity, Refusal> {
        Err(Refusal::Unknown)
    }
}

/// The layer. Cheap to clone; all clones are one gate.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    doors: Doors,
    keys: Option<Arc<dyn Keys>>,
    pace: Option<Paced>,
    audit: Audit,
}

/// What the gate looks at.
struct Call<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    peer: Option<&'a Peer>,
}

/// Who came in, if that matters, and for how long.
#[derive(Default)]
struct Admitted {
    identity: Option<Identity>,
    lease: Lease,
}

impl Gate {
    /// A gate that asks who comes. Callers may come as often as they like unless there is a pace.
    pub fn new(doors: Doors, keys: impl Keys, pace: Option<Pace>) -> Self {
        Self::with(doors, Some(Arc::new(keys)), pace)
    }

    /// A gate that lets everybody in as an admin, to what is listed.
    pub fn open_to_everybody(doors: Doors, pace: Option<Pace>) -> Self {
        Self::with(doors, None, pace)
    }

    fn with(doors: Doors, keys: Option<Arc<dyn Keys>>, pace: Option<Pace>) -> Self {
        Self {
            inner: Arc::new(Inner {
                doors,
                keys,
                pace: pace.map(Paced::new),
                audit: Audit::new(),
            }),
        }
    }

    /// The table of what there is.
    pub fn doors(&self) -> &Doors {
        &self.inner.doors
    }

    /// Calls turned away since the start.
    pub fn refused(&self) -> u64 {
        self.inner.audit.refused()
    }

    /// Who calls a door that is open to everybody.
    pub fn caller(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Identity, Refusal> {
        let Some(keys) = &self.inner.keys else {
            return Ok(Identity::everybody());
        };
        let call = Call {
            method: &Method::GET,
            uri,
            headers,
            peer,
        };
        Ok(identify(keys.as_ref(), &call)?.0)
    }

    /// Tells of a caller that a service behind the gate turned away itself.
    pub fn audit(&self, peer: Option<&Peer>, method: &str, path: &str, refusal: &Refusal) {
        self.inner.audit.refuse(&Refused {
            who: refusal.token().as_deref().unwrap_or("nobody"),
            peer,
            method,
            path,
            reason: refusal.reason(),
        });
    }
}

impl Inner {
    /// Who is let in, or why not and as far as known who.
    fn decide(&self, call: &Call<'_>) -> Result<Admitted, (Refusal, Option<Identity>)> {
        let path = call.uri.path();
        let not_listed = || Refusal::NotListed {
            path: path.to_owned(),
        };
        let access = self.doors.access(call.method, path);
        let Some(keys) = &self.keys else {
            self.keep_pace(call, None)?;
            return match access {
                Some(_) => Ok(Admitted {
                    identity: Some(Identity::everybody()),
                    lease: Lease::default(),
                }),
                None => Err((not_listed(), None)),
            };
        };
        let needed = match access {
            Some(Access::Public) => {
                self.keep_pace(call, None)?;
                return Ok(Admitted::default());
            }
            Some(Access::Needs(role)) => Some(role),
            None => None,
        };
        // What is not there is said only to those who may look around at all.
        let (caller, lease) = match identify(keys.as_ref(), call) {
            Ok(known) => known,
            Err(refusal) => {
                self.keep_pace(call, None)?;
                return Err((refusal, None));
            }
        };
        self.keep_pace(call, Some(&caller))?;
        let Some(needed) = needed else {
            return Err((not_listed(), Some(caller)));
        };
        // A worker may bring a token beside its certificate: either may do.
        let certified = call
            .peer
            .and_then(|peer| peer.certificate.as_ref()?.identity());
        if let Some(identity) = [Some(caller.clone()), certified]
            .into_iter()
            .flatten()
            .find(|identity| identity.role.may(needed))
        {
            return Ok(Admitted {
                identity: Some(identity),
                lease,
            });
        }
        let refusal = Refusal::WrongRole {
            who: caller.to_string(),
            role: caller.role,
            needed,
        };
        Err((refusal, Some(caller)))
    }
}

impl Inner {
    /// Counts a call for who is known to make it, else for the address it comes from.
    fn keep_pace(
        &self,
        call: &Call<'_>,
        caller: Option<&Identity>,
    ) -> Result<(), (Refusal, Option<Identity>)> {
        let Some(pace) = &self.pace else {
            return Ok(());
        };
        let address = || call.peer.and_then(|peer| peer.address);
        let key = match caller {
            Some(caller) => format!("{:?} {}", caller.via, caller.id),
            None => address().map_or_else(String::new, |address| address.ip().to_string()),
        };
        match pace.may_come(key) {
            true => Ok(()),
            false => Err((Refusal::TooOften, caller.cloned())),
        }
    }
}

/// A bearer token counts before a session, and that before a certificate; one that is wrong is never passed over.
fn identify(keys: &dyn Keys, call: &Call<'_>) -> Result<(Identity, Lease), Refusal> {
    let with_lease = |identity: Identity, shown: &str| {
        let lease = keys.lease(&identity, shown);
        (identity, lease)
    };
    let mut given = call.headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = given.next() {
        let text = value.to_str().map_err(|_| Refusal::Malformed)?;
        let (scheme, token) = text.split_once(' ').ok_or(Refusal::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") || given.next().is_some() {
            return Err(Refusal::Malformed);
        }
        let token = token.trim();
        return Ok(with_lease(keys.bearer(token)?, token));
    }
    let name = session_cookie(call.uri, call.headers);
    if let Some(session) = cookie(call.headers, &name) {
        let identity = keys.session(session)?;
        let only_looks = matches!(*call.method, Method::GET | Method::HEAD);
        if !only_looks && call.headers.get(OWN_PAGE).is_none_or(|value| value != "1") {
            return Err(Refusal::CrossSite);
        }
        return Ok(with_lease(identity, session));
    }
    call.peer
        .and_then(|peer| peer.certificate.as_ref()?.identity())
        .map(|identity| (identity, Lease::default()))
        .ok_or(Refusal::NoToken)
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            gate: self.clone(),
            inner,
        }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>,
        Ready<Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Nobody but the gate says who calls.
        request.extensions_mut().remove::<Identity>();
        let call = Call {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            peer: request.extensions().get::<Peer>(),
        };
        match self.gate.inner.decide(&call) {
            Ok(Admitted { identity, lease }) => {
                let gate = self.gate.clone();
                let extensions = request.extensions_mut();
                // For services that turn callers away themselves.
                extensions.insert(gate);
                if let Some(identity) = identity {
                    extensions.insert(identity);
                }
                let Some(ended) = lease.ended() else {
                    return Either::Left(Either::Left(self.inner.call(request)));
                };
                let request = request.map(|body| lease::incoming(body, ended.clone()));
                let answered = self.inner.call(request);
                Either::Left(Either::Right(Box::pin(leased(answered, ended))))
            }
            Err((refusal, who)) => {
                let who = who
                    .map(|who| who.to_string())
                    .or_else(|| refusal.token())
                    .unwrap_or_else(|| "nobody".to_owned());
                self.gate.inner.audit.refuse(&Refused {
                    who: &who,
                    peer: call.peer,
                    method: call.method.as_str(),
                    path: call.uri.path(),
                    reason: refusal.reason(),
                });
                Either::Right(ready(Ok(answer(&refusal, call.headers))))
            }
        }
    }
}

/// The answer to a call, and as much of it as there is time for. What has begun and gives no answer yet is not dropped:
/// it may be changing something.
async fn leased(
    answered: impl Future<Output = Result<Response<Body>, Infallible>>,
    ended: lease::Ended,
) -> Result<Response<Body>, Infallible> {
    let response = answered.await?;
    Ok(lease::outgoing(response, ended))
}

/// What the caller reads: a gRPC status, or JSON.
fn answer(refusal: &Refusal, headers: &HeaderMap) -> Response<Body> {
    let is_rpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_rpc {
        return Status::new(refusal.code(), refusal.to_string()).into_http();
    }
    refusal.to_http()
}

impl Refusal {
    /// As an HTTP answer: `{"error": {"message", "hint"}}`.
    pub fn to_http(&self) -> Response<Body> {
        let json = serde_json::json!({
            "error": { "message": self.to_string(), "hint": self.hint() }
        });
        let mut response = Response::new(Body::new(json.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status() == http::StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"drumline\""),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests;
