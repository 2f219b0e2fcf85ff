//! Facts as they happen, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;
use utoipa::IntoParams;

use super::asked::Asked;
use super::{MAX_EVENT_STREAMS, Problem, Rest};
use crate::facts::{Fact, Missed};

/// How often a stream on which nothing happens shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The `id` of the last event that was seen (or `sequence` of `/cluster`); what happened since comes
    /// first. Without it only what happens from now on. The header `Last-Event-ID` says the same.
    after: Option<u64>,
}

/// What happens, as it happens
///
/// Server-sent events: `event: fact` with `id` its sequence and `data` the fact as JSON, and `event: lagged`
/// where facts were missed: read the lists again. A comment comes every 15 s while nothing happens.
#[utoipa::path(
    get,
    path = "/events",
    tag = "cluster",
    params(From),
    responses((
        status = 200,
        description = "An endless stream of events",
        content_type = "text/event-stream",
        body = String,
    ))
)]
pub(super) async fn follow_events(
    State(rest): State<Rest>,
    headers: HeaderMap,
    Asked(from): Asked<From>,
) -> Result<impl IntoResponse, Problem> {
    let Ok(permit) = Arc::clone(&rest.event_streams).try_acquire_owned() else {
        return Err(Problem::unavailable(format!(
            "{MAX_EVENT_STREAMS} event streams are open already"
        ))
        .hint("close one of them"));
    };
    // A browser that connects again says in the header how far it came, with the query as it was.
    let last_seen = headers.get("last-event-id");
    let after = match last_seen.and_then(|value| value.to_str().ok()) {
        Some(text) => Some(text.parse().map_err(|_| {
            Problem::bad_request("the header Last-Event-ID is no sequence of an event")
        })?),
        None => from.after,
    };
    let events = follow(&rest, after)
        .take_until(rest.shutdown.clone().cancelled_owned())
        .map(move |event| {
            // Given back when the stream is dropped.
            let _ = &permit;
            Ok::<_, Infallible>(event)
        });
    let beat = KeepAlive::new().interval(HEARTBEAT).text("alive");
    Ok((
        // Proxies would hold events back to send more at once.
        [("x-accel-buffering", "no")],
        Sse::new(events).keep_alive(beat),
    ))
}

fn follow(rest: &Rest, after: Option<u64>) -> impl Stream<Item = Event> + Send + use<> {
    let (missed, live) = rest.facts.follow(after);
    let past: Vec<Event> = match missed {
        Missed::Facts(facts) => facts.iter().map(|fact| event(fact)).collect(),
        Missed::TooMany => vec![lagged()],
    };
    let live = BroadcastStream::new(live).map(|next| match next {
        Ok(fact) => event(&fact),
        // Whoever reads too slowly is not waited for.
        Err(_) => lagged(),
    });
    stream::iter(past).chain(live)
}

fn event(fact: &Fact) -> Event {
    let event = Event::default().event("fact").id(fact.sequence.to_string());
    // A fact is always JSON; were it not, its reader would have to look again.
    match serde_json::to_string(fact) {
        Ok(text) => event.data(text),
        Err(_) => lagged(),
    }
}

fn lagged() -> Event {
    Event::default().event("lagged").data("{}")
}
