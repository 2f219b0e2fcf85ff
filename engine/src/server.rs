//! The worker's side: hosts tasks for masters, and serves their rows.

use std::future::Future;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::{Error, Options, Result};

/// Runs the tasks of one worker process. Cheap to clone.
#[derive(Clone)]
pub struct TaskHost {
    running: watch::Receiver<u32>,
    options: Options,
}

/// The server's side of TLS, in PEM.
#[derive(Clone)]
pub struct ServerTls {
    /// Certificate chain.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Authorities whose clients are let in; none: any client.
    pub client_ca: Option<Vec<u8>>,
}

impl TaskHost {
    /// A host whose tasks compute on the runtime that this is called on; the network has a thread of its own.
    pub fn new(options: Options) -> Result<Self> {
        let (_, running) = watch::channel(0);
        Ok(Self { running, options })
    }

    /// Serves task control and rows until `shutdown`, then stops the tasks that still run.
    pub async fn serve(
        &self,
        _listener: TcpListener,
        _tls: Option<ServerTls>,
        _shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let _ = &self.options;
        Err(Error::bug("not built yet"))
    }

    /// Tasks that are open now.
    pub fn running(&self) -> watch::Receiver<u32> {
        self.running.clone()
    }
}
