//! The `Cluster` gRPC service: one `Join` call per worker, and the cluster's status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drumline_proto::BUILD;
use drumline_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, DrainRequest, DrainResponse, Hello, MasterMessage,
    Refused, Welcome, WorkerMessage, cluster_server::Cluster, master_message, worker_message,
};
use drumline_security::{Passes, Peer};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use url::Url;

use super::membership::{ConnectionId, Event};
use super::runner::Command;
use super::{HEARTBEAT, SILENCE, Workers};

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
    passes: Passes,
    next_connection: AtomicU64,
}

impl ClusterService {
    pub(crate) fn new(workers: Workers, cluster_id: String, lake: String, passes: Passes) -> Self {
        let identity = Identity {
            cluster_id,
            lake,
            passes,
            next_connection: AtomicU64::new(1),
        };
        Self {
            workers,
            identity: Arc::new(identity),
        }
    }

    fn welcome(&self, url: &Url) -> MasterMessage {
        let passes = self.identity.passes.for_worker(url.as_str());
        let (rows_pass, control_digest) = passes.unwrap_or_default();
        message(master_message::Message::Welcome(Welcome {
            cluster_id: self.identity.cluster_id.clone(),
            lake: self.identity.lake.clone(),
            heartbeat_millis: HEARTBEAT.as_millis() as u64,
            rows_pass,
            control_digest,
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
        let encrypted = request
            .extensions()
            .get::<Peer>()
            .is_some_and(|peer| peer.encrypted);
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(worker_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument(
                "the first message of a worker must be its hello",
            ));
        };
        let url = match welcome_at(&hello, encrypted) {
            Ok(url) => url,
            Err(reason) => return Ok(refused(reason)),
        };

        let connection = ConnectionId(
            self.identity
                .next_connection
                .fetch_add(1, Ordering::Relaxed),
        );
        match self.workers.may_join(&hello, connection).await {
            Ok(()) => {}
            Err(reason) => return Ok(refused(reason)),
        }
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let _ = outgoing.try_send(self.welcome(&url));
        let closed = CancellationToken::new();
        let worker = hello.worker_id.clone();
        let commands = self.workers.commands.clone();
        let open = Command::Open {
            connection,
            outgoing,
            closed: closed.clone(),
        };
        let joined = Command::Event(Event::Joined { hello, connection });

        // Ends with the call itself: when the worker goes, or when the outgoing half is dropped.
        let reader_closed = closed.clone();
        tokio::spawn(async move {
            // Before it has read the welcome it would turn away whoever brings it work.
            let Ok(Ok(Some(heard))) = tokio::time::timeout(SILENCE, incoming.message()).await
            else {
                return;
            };
            let heard = Command::Message {
                worker: worker.clone(),
                connection,
                message: heard,
            };
            for command in [open, joined, heard] {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
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

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let worker = request.into_inner().worker_id;
        match self.workers.drain(&worker).await {
            true => Ok(Response::new(DrainResponse {})),
            false => Err(Status::not_found(format!(
                "worker '{}' is no member of this cluster",
                worker.escape_default()
            ))),
        }
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

fn refused(reason: String) -> Response<BoxStream<'static, Result<MasterMessage, Status>>> {
    let refused = message(master_message::Message::Refused(Refused { reason }));
    Response::new(futures::stream::iter([Ok(refused)]).boxed())
}

fn message(message: master_message::Message) -> MasterMessage {
    MasterMessage {
        message: Some(message),
    }
}

/// Where a worker is called that may join, or why it may not.
fn welcome_at(hello: &Hello, encrypted: bool) -> Result<Url, String> {
    if hello.build != BUILD {
        return Err(format!(
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
        return Err(format!(
            "worker id `{}`: use 1 to 64 of letters, digits, `-`, `_`, `.`",
            hello.worker_id.escape_default()
        ));
    }
    match Url::parse(&hello.url) {
        Ok(url) if url.scheme() == "http" && encrypted => Err(format!(
            "this master's cluster is encrypted, and worker {} serves {url} unencrypted: start it with --tls",
            hello.worker_id
        )),
        Ok(url) if url.scheme() == "https" && !encrypted => Err(format!(
            "worker {} serves {url} encrypted, and this master's cluster is not: start the master with --tls",
            hello.worker_id
        )),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => Ok(url),
        _ => Err(format!(
            "worker url `{}` is not an http(s) url",
            hello.url.escape_default()
        )),
    }
}
