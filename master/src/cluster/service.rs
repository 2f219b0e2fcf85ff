//! The `Cluster` gRPC service: one `Join` call per worker, and the cluster's status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drumline_proto::BUILD;
use drumline_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, Hello, MasterMessage, Refused, Welcome,
    WorkerMessage, cluster_server::Cluster, master_message, worker_message,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use url::Url;

use super::membership::{ConnectionId, Event};
use super::runner::Command;
use super::{HEARTBEAT, Workers};

/// Messages to one worker that may wait before it counts as not reading.
const OUTGOING: usize = 256;

/// Serves `drumline.v1.Cluster`.
#[derive(Debug, Clone)]
pub(crate) struct ClusterService {
    workers: Workers,
    identity: Arc<Identity>,
}

#[derive(Debug)]
struct Identity {
    cluster_id: String,
    lake: String,
    next_connection: AtomicU64,
}

impl ClusterService {
    pub(crate) fn new(workers: Workers, cluster_id: String, lake: String) -> Self {
        let identity = Identity {
            cluster_id,
            lake,
            next_connection: AtomicU64::new(1),
        };
        Self {
            workers,
            identity: Arc::new(identity),
        }
    }

    fn welcome(&self) -> MasterMessage {
        message(master_message::Message::Welcome(Welcome {
            cluster_id: self.identity.cluster_id.clone(),
            lake: self.identity.lake.clone(),
            heartbeat_millis: HEARTBEAT.as_millis() as u64,
        }))
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    type JoinStream = BoxStream<'static, Result<MasterMessage, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument(
                "the first message of a worker must be its hello",
            ));
        };
        if let Some(reason) = refusal(&hello) {
            let refused = message(master_message::Message::Refused(Refused { reason }));
            return Ok(Response::new(futures::stream::iter([Ok(refused)]).boxed()));
        }

        let connection = ConnectionId(
            self.identity
                .next_connection
                .fetch_add(1, Ordering::Relaxed),
        );
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let _ = outgoing.try_send(self.welcome());
        let closed = CancellationToken::new();
        let worker = hello.worker_id.clone();
        let commands = self.workers.commands.clone();
        let stopping = |_| Status::unavailable("the master is stopping");
        let open = Command::Open {
            connection,
            outgoing,
            closed: closed.clone(),
        };
        commands.send(open).await.map_err(stopping)?;
        commands
            .send(Command::Event(Event::Joined { hello, connection }))
            .await
            .map_err(stopping)?;

        // Ends with the call itself: when the worker goes, or when the outgoing half is dropped.
        let reader_closed = closed.clone();
        tokio::spawn(async move {
            let reason = loop {
                tokio::select! {
                    () = reader_closed.cancelled() => break "its call was closed".to_owned(),
                    next = incoming.message() => match next {
                        Ok(Some(message)) => {
                            let worker = worker.clone();
                            if commands.send(Command::Message { worker, connection, message }).await.is_err() {
                                break "the master is stopping".to_owned();
                            }
                        }
                        Ok(None) => break "it closed its call".to_owned(),
                        Err(status) => break format!("its call broke: {}", status.message()),
                    },
                }
            };
            let _ = commands
                .send(Command::Event(Event::Left {
                    worker,
                    connection,
                    reason,
                }))
                .await;
        });
        let outgoing = ReceiverStream::new(receiver)
            .map(Ok)
            .take_until(closed.cancelled_owned());
        Ok(Response::new(outgoing.boxed()))
    }

    async fn status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(ClusterStatusResponse {
            cluster_id: self.identity.cluster_id.clone(),
            lake: self.identity.lake.clone(),
            build: BUILD.to_owned(),
            workers: self.workers.status().to_vec(),
        }))
    }
}

fn message(message: master_message::Message) -> MasterMessage {
    MasterMessage {
        message: Some(message),
    }
}

/// Why this worker cannot join, if it cannot.
fn refusal(hello: &Hello) -> Option<String> {
    if hello.build != BUILD {
        return Some(format!(
            "this master is drumline {BUILD}, the worker is drumline {}: run the same version on both",
            hello.build
        ));
    }
    let id_is_plain = !hello.worker_id.is_empty()
        && hello.worker_id.len() <= 64
        && hello
            .worker_id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !id_is_plain {
        return Some(format!(
            "worker id `{}`: use 1 to 64 of letters, digits, `-`, `_`, `.`",
            hello.worker_id.escape_default()
        ));
    }
    match Url::parse(&hello.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => None,
        _ => Some(format!(
            "worker url `{}` is not an http(s) url",
            hello.url.escape_default()
        )),
    }
}
