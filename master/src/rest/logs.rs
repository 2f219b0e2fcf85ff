//! Logs: the master's own, and those of workers, which are asked over their call to the master.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use drumline_engine::{LogLine, LogTail};
use drumline_proto::v1::log_request;
use futures::{Stream, StreamExt, stream};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use utoipa::IntoParams;

use super::asked::{self, Asked};
use super::{MAX_EVENT_STREAMS, Problem, Rest};
use crate::cluster::Workers;

const MASTER: &str = "master";
const DEFAULT_TAIL: u32 = 200;
const MAX_TAIL: u32 = 10_000;
/// Lines that are fetched at a time while a log is followed.
const AT_A_TIME: usize = 1000;
/// How often a worker is asked for new lines.
const WORKER_POLL: Duration = Duration::from_secs(1);

/// Which log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `master`, or a worker's id; `master` where it is not given.
    component: Option<String>,
    /// How many lines from the end; 0 to 10,000, 200 where it is not given.
    tail: Option<u32>,
    /// Go on with what is logged from now on.
    follow: Option<bool>,
}

/// Where lines come from.
#[derive(Clone)]
enum Log {
    Own(LogTail),
    Of { worker: String, workers: Workers },
}

/// What the master or a worker has logged
///
/// JSON lines with `timestamp`, `level`, `component`, `target`, `message`, and what the line is about:
/// `application`, `statement`, `job`, `stage`, `task`, `worker`, `stream`. The newest 10,000 lines since the
/// process started are kept.
#[utoipa::path(
    get,
    path = "/logs",
    tag = "cluster",
    params(Which),
    responses((
        status = 200,
        description = "Lines, the oldest first",
        content_type = "application/x-ndjson",
        body = String,
    ))
)]
pub(super) async fn read_log(
    State(rest): State<Rest>,
    Asked(which): Asked<Which>,
) -> Result<impl IntoResponse, Problem> {
    let tail = which.tail.unwrap_or(DEFAULT_TAIL);
    if tail > MAX_TAIL {
        return Err(Problem::bad_request(format!(
            "tail is {tail}; it can be 0 to {MAX_TAIL}"
        )));
    }
    let log = match asked::text("component", &which.component)? {
        None | Some(MASTER) => Log::Own(rest.log.clone()),
        Some(worker) => Log::Of {
            worker: member(&rest, worker)?,
            workers: rest.workers.clone(),
        },
    };
    let content = [(CONTENT_TYPE, "application/x-ndjson")];
    let lines = log.last(tail).await?;
    if which.follow != Some(true) {
        return Ok((content, Body::from(text(&lines))));
    }
    let Ok(permit) = Arc::clone(&rest.event_streams).try_acquire_owned() else {
        return Err(Problem::unavailable(format!(
            "{MAX_EVENT_STREAMS} logs and event streams are followed already"
        ))
        .hint("close one of them"));
    };
    let newest = match lines.last() {
        Some(line) => line.number,
        // Nothing of it was asked for, or there is none yet.
        None => log.last(1).await?.last().map_or(0, |line| line.number),
    };
    let all = stream::iter([lines])
        .chain(log.follow(newest))
        .take_until(rest.shutdown.clone().cancelled_owned())
        .map(move |lines| {
            // Given back when the answer is dropped.
            let _ = &permit;
            Ok::<_, Infallible>(Bytes::from(text(&lines)))
        });
    Ok((content, Body::from_stream(all)))
}

impl Log {
    async fn last(&self, count: u32) -> Result<Vec<LogLine>, Problem> {
        match self {
            Self::Own(tail) => Ok(tail.last(count as usize)),
            Self::Of { worker, workers } => {
                let from = log_request::From::Last(count);
                let answer = workers.log(worker, from).await;
                answer.ok_or_else(|| {
                    Problem::unavailable(format!("worker `{worker}` does not say what it logs"))
                        .hint("look at the file that its stderr goes to")
                })
            }
        }
    }

    /// Lines after line `newest`, as they come; ends where they cannot be had any more.
    fn follow(self, newest: u64) -> impl Stream<Item = Vec<LogLine>> + Send {
        stream::unfold((self, newest), |(log, newest)| async move {
            let lines = log.more(newest).await?;
            let newest = lines.last().map_or(newest, |line| line.number);
            Some((lines, (log, newest)))
        })
    }

    /// Waits for lines; for a worker's not for ever, so that its loss is seen.
    async fn more(&self, newest: u64) -> Option<Vec<LogLine>> {
        match self {
            Self::Own(tail) => {
                let mut numbers = tail.newest();
                numbers.wait_for(|number| *number > newest).await.ok()?;
                Some(tail.after(newest, AT_A_TIME))
            }
            Self::Of { worker, workers } => {
                tokio::time::sleep(WORKER_POLL).await;
                workers.log(worker, log_request::From::After(newest)).await
            }
        }
    }
}

fn member(rest: &Rest, worker: &str) -> Result<String, Problem> {
    match rest.history().workers.get(worker) {
        Some(record) if record.state.is_member() => Ok(worker.to_owned()),
        Some(_) => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("worker `{worker}` is gone, and its log with it"),
        )
        .hint("look at the file that its stderr went to")),
        None => Err(Problem::unknown("component", worker)
            .hint("it is `master`, or the id of a worker (`drumline workers`)")),
    }
}

fn text(lines: &[LogLine]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}
