//! Streams: what happened to them, who consumes what, and how far behind they are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use drumline_proto::v1::{PartitionStatus, StreamStatus, StreamTableStatus};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::{Name, Nothing, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::facts;
use crate::streams::requests_per_million;

/// A stream as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stream {
    name: String,
    /// `starting`, `running`, `paused`, `failing`, `waiting` or `finished`.
    state: String,
    /// Why it is not running.
    reason: String,
    /// When it came into this state; milliseconds since 1970.
    since: i64,
    /// Commits since this master started.
    commits: u64,
    /// Rows committed since this master started.
    rows: u64,
    /// Milliseconds since 1970; 0 where there was none since this master started.
    last_commit_at: i64,
    /// Records that are not committed yet; `null` while some partition's end is not known.
    lag: Option<i64>,
    /// How long ago the broker dated the next record to commit, of the partition that is furthest behind; 0 where there
    /// is none; `null` while it is not known.
    lag_seconds: Option<f64>,
    /// Read in the last ten seconds.
    records_per_second: f64,
    bytes_per_second: f64,
    /// Records that commits went past since this master started.
    records: u64,
    /// Calls of object stores for a million records, since this master started; `null` before the first.
    requests_per_million: Option<f64>,
    /// Dead letters since this master started, by what is wrong with them.
    dead_letter_reasons: BTreeMap<String, u64>,
    topics: Vec<String>,
    partitions: Vec<StreamPartition>,
    tables: Vec<StreamTable>,
}

/// One partition of a stream's topics.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamPartition {
    topic: String,
    partition: i32,
    /// Who consumes it; empty while nobody does.
    worker: String,
    /// Grows whenever it is assigned anew.
    epoch: u64,
    /// Next offset to read, as its tables hold it; `null` before the first commit.
    committed: Option<i64>,
    /// The topic's end, as last seen; `null` while it is not known.
    end: Option<i64>,
    /// Where the stream ends by itself; `null` where it does not.
    until: Option<i64>,
    /// How long ago the broker dated the next record to commit; 0 where there is none; `null` while it is not known.
    lag_seconds: Option<f64>,
    /// Newest and oldest of the brokers' dates among committed records, since this master started; milliseconds since
    /// 1970, `null` before the first.
    watermark: Option<i64>,
    oldest: Option<i64>,
    records_per_second: f64,
    bytes_per_second: f64,
}

/// One table that a stream writes to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamTable {
    table: String,
    /// `rows` or `dead letters`.
    kind: String,
    /// What it holds.
    rows: u64,
    /// Commits since this master started.
    commits: u64,
    /// Milliseconds since 1970; 0 where there was none since this master started.
    last_commit_at: i64,
    version: u64,
    /// What it holds.
    files: u64,
    bytes: u64,
}

/// Streams, by name
#[utoipa::path(
    get,
    path = "/streams",
    tag = "streams",
    params(PageQuery),
    responses((status = 200, description = "Streams", body = Page<Stream>))
)]
pub(super) async fn list_streams(
    State(rest): State<Rest>,
    Paged(paging, _): Paged<Nothing>,
) -> Result<Json<Page<Stream>>, Problem> {
    let records = rest.history().streams;
    let live = rest.streams.all().await;
    Ok(Json(paging.page(
        Order::ByName,
        live.into_values(),
        |status| Key::name(&status.name),
        |status| {
            let weight = status.partitions.len();
            (stream(&records, status), weight)
        },
    )))
}

/// One stream
#[utoipa::path(
    get,
    path = "/streams/{name}",
    tag = "streams",
    params(("name" = String, Path, description = "The stream's name")),
    responses((status = 200, description = "The stream", body = Stream))
)]
pub(super) async fn get_stream(
    State(rest): State<Rest>,
    Name(name): Name,
) -> Result<Json<Stream>, Problem> {
    let mut live = rest.streams.all().await;
    match live.remove(&name) {
        Some(status) => Ok(Json(stream(&rest.history().streams, status))),
        None => Err(unknown(&name, live.keys())),
    }
}

/// Stop consuming until resumed; offsets stay
#[utoipa::path(
    post,
    path = "/streams/{name}/pause",
    tag = "streams",
    params(("name" = String, Path, description = "The stream's name")),
    responses((status = 204, description = "It is paused"))
)]
pub(super) async fn pause_stream(
    State(rest): State<Rest>,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    rest.streams.set_paused(&name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Consume again, from where it stopped
#[utoipa::path(
    post,
    path = "/streams/{name}/resume",
    tag = "streams",
    params(("name" = String, Path, description = "The stream's name")),
    responses((status = 204, description = "It is consuming again"))
)]
pub(super) async fn resume_stream(
    State(rest): State<Rest>,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    rest.streams.set_paused(&name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let names: Vec<&str> = known.map(String::as_str).take(20).collect();
    let hint = match names.as_slice() {
        [] => "there are no streams; `drumline stream apply` makes one".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    Problem::unknown("stream", name).hint(hint)
}

fn stream(
    records: &BTreeMap<String, std::sync::Arc<facts::Stream>>,
    status: StreamStatus,
) -> Stream {
    let record = records.get(&status.name);
    let requests_per_million = requests_per_million(&status);
    Stream {
        state: status.state,
        reason: status.last_error,
        since: record.map_or(0, |record| record.since),
        commits: record.map_or(0, |record| record.commits),
        rows: record.map_or(0, |record| record.rows),
        last_commit_at: record.map_or(0, |record| record.last_commit_at),
        lag: known(status.lag),
        lag_seconds: seconds(status.lag_millis),
        records_per_second: status.records_per_second,
        bytes_per_second: status.bytes_per_second,
        records: status.records,
        requests_per_million,
        dead_letter_reasons: status.reasons.into_iter().collect(),
        topics: status
            .definition
            .map(|definition| {
                definition
                    .topics
                    .iter()
                    .flat_map(|topic| topic.names().map(str::to_owned))
                    .collect()
            })
            .unwrap_or_default(),
        partitions: status.partitions.into_iter().map(partition).collect(),
        tables: status.tables.into_iter().map(table).collect(),
        name: status.name,
    }
}

fn partition(status: PartitionStatus) -> StreamPartition {
    StreamPartition {
        topic: status.topic,
        partition: status.partition,
        worker: status.worker,
        epoch: status.epoch,
        committed: known(status.committed),
        end: known(status.end),
        until: status.until,
        lag_seconds: seconds(status.lag_millis),
        watermark: date(status.watermark_unix_millis),
        oldest: date(status.oldest_unix_millis),
        records_per_second: status.records_per_second,
        bytes_per_second: status.bytes_per_second,
    }
}

fn table(status: StreamTableStatus) -> StreamTable {
    StreamTable {
        table: status.table,
        kind: status.kind,
        rows: status.rows,
        commits: status.commits,
        last_commit_at: status.last_commit_unix_millis,
        version: status.version,
        files: status.files,
        bytes: status.bytes,
    }
}

fn seconds(millis: i64) -> Option<f64> {
    known(millis).map(|millis| millis as f64 / 1000.0)
}

fn date(millis: i64) -> Option<i64> {
    (millis > 0).then_some(millis)
}

/// The wire says what is not known as less than nothing.
fn known(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}
