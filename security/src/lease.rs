//! For how long a caller who was let in may stay: a call ends with the token or session it was made with.
//!
//! A [`Lease`] looks again when something changed and when its time is over. What it ends is given a moment, so
//! that the call that revokes its own token still hears that it did.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use crate::Refusal;

/// What is over ends after so long.
const GRACE: Duration = Duration::from_secs(1);
/// Clocks are set: no end is slept towards for longer without looking at the time again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

type Look = dyn Fn() -> Option<Refusal> + Send + Sync;

/// For how long a caller may stay; by default for ever.
#[derive(Clone, Default)]
pub struct Lease {
    terms: Option<Terms>,
}

#[derive(Clone)]
struct Terms {
    /// Why it is over, if it is.
    look: Arc<Look>,
    changes: watch::Receiver<()>,
    expires: Option<DateTime<Utc>>,
}

/// Ends when the lease does, for both sides of a call at the same moment: else what one side's end brings about could
/// come before the other hears why.
pub(crate) type Ended = Shared<BoxFuture<'static, Refusal>>;

impl Lease {
    /// Good until `look` says why not; it is asked after each of the `changes`, and at `expires`.
    pub(crate) fn until(
        look: impl Fn() -> Option<Refusal> + Send + Sync + 'static,
        changes: watch::Receiver<()>,
        expires: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            terms: Some(Terms {
                look: Arc::new(look),
                changes,
                expires,
            }),
        }
    }

    /// Why it is over, once it is; `None`: it never is.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let terms = self.terms.clone()?;
        Some(terms.ended().boxed().shared())
    }
}

impl Terms {
    async fn ended(mut self) -> Refusal {
        let refusal = loop {
            if let Some(refusal) = (self.look)() {
                break refusal;
            }
            let left = self.expires.map_or(LOOK_AGAIN, |end| {
                let left = (end - Utc::now()).to_std().unwrap_or_default();
                // The look must not come too early.
                (left + Duration::from_millis(5)).min(LOOK_AGAIN)
            });
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    // Nothing changes any more: the process ends.
                    std::future::pending::<()>().await;
                },
                () = tokio::time::sleep(left) => {}
            }
        };
        tokio::time::sleep(GRACE).await;
        refusal
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.terms.is_some() {
            "…"
        } else {
            "for ever"
        };
        write!(f, "Lease({kind})")
    }
}

/// What a caller sends, for as long as it may.
pub(crate) fn incoming(body: Body, ended: Ended) -> Body {
    Body::new(Leased {
        body,
        ended,
        end: End::Status,
        is_over: false,
    })
}

/// What a caller reads, for as long as it may.
pub(crate) fn outgoing(response: Response<Body>, ended: Ended) -> Response<Body> {
    let end = End::of(response.headers());
    response.map(|body| {
        Body::new(Leased {
            body,
            ended,
            end,
            is_over: false,
        })
    })
}

/// How a body ends before its time.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With an error that is a gRPC status.
    Status,
    /// With trailers that are a gRPC status.
    Trailers,
    /// It has no end of its own that anybody would miss.
    Quietly,
    /// So that nobody takes a part for the whole.
    CutOff,
}

impl End {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        if kind.starts_with(b"application/grpc") {
            Self::Trailers
        } else if kind.starts_with(b"text/event-stream") {
            Self::Quietly
        } else {
            Self::CutOff
        }
    }
}

struct Leased {
    body: Body,
    ended: Ended,
    end: End,
    is_over: bool,
}

impl HttpBody for Leased {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(refusal) = self.ended.poll_unpin(context) else {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.is_over = frame.is_none();
            return Poll::Ready(frame);
        };
        self.is_over = true;
        // What computes for this call learns of its end from this.
        self.body = Body::empty();
        let status = Status::new(refusal.code(), refusal.to_string());
        Poll::Ready(match self.end {
            End::Quietly => None,
            End::Status | End::CutOff => Some(Err(status)),
            End::Trailers => {
                let mut trailers = HeaderMap::new();
                Some(
                    status
                        .add_header(&mut trailers)
                        .map(|()| Frame::trailers(trailers)),
                )
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
