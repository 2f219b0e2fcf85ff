//! Puts a master together and serves it on one port: gRPC, Flight, `/healthz` and `/`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::lock::StateLock;
use crate::{Error, Options, Result};

/// How long calls may take to end once the master stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running master.
pub struct Handle {
    /// Where it listens.
    pub address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    _lock: StateLock,
}

/// Starts a master: answers when it listens and its lake can be used.
pub async fn start(options: Options) -> Result<Handle> {
    let lock = StateLock::acquire(&options.state_dir)?;
    let listen = |source| Error::Listen {
        address: options.listen,
        source,
    };
    let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let shutdown = CancellationToken::new();
    let routes = Routes::from(web());
    let serving = tokio::spawn(serve(listener, routes, shutdown.clone()));
    Ok(Handle {
        address,
        shutdown,
        serving,
        _lock: lock,
    })
}

impl Handle {
    /// Cancels what runs, ends all calls, gives the port and the state folder back.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(STOP_WITHIN, self.serving).await.is_err() {
            abort.abort();
        }
    }
}

async fn serve(listener: TcpListener, routes: Routes, shutdown: CancellationToken) {
    let server = tonic::transport::Server::builder()
        // `/` and `/healthz` are for browsers and probes.
        .accept_http1(true)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        // Results are large, and several flow over one connection.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    let served = { server }
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the master's port is not served any more");
    }
}

fn web() -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/", get(root).fallback(root))
}

async fn root() -> impl IntoResponse {
    format!("drumline master {}\n", drumline_proto::BUILD)
}
