//! Accepts connections; handshakes are made beside the accepting, each with a time limit, so many at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::audit::{Audit, Refused};
use crate::{Certificates, Connection, Peer};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Handshakes at a time; a caller beyond that is hung up on.
const HANDSHAKES: usize = 256;
/// Connections that wait to be served.
const READY: usize = 64;
/// After an error of accept itself, such as too many open files.
const BREATH: Duration = Duration::from_millis(100);

/// Whether a caller must show a certificate that our authority signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It may; a wrong one is refused all the same.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// Connections, as they are ready. Dropping it stops accepting.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
    _accepting: AbortOnDropHandle<()>,
}

/// Accepts on `listener`, on the runtime that this is called on; with `tls`, every connection is TLS.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Certificates>,
    clients: ClientCertificates,
) -> Incoming {
    let (sender, ready) = mpsc::channel(READY);
    let accepting = tokio::spawn(accept(listener, tls, clients, sender));
    Incoming {
        ready,
        _accepting: AbortOnDropHandle::new(accepting),
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|next| next.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Certificates>,
    clients: ClientCertificates,
    ready: mpsc::Sender<Connection>,
) {
    let audit = Arc::new(Audit::new());
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    // Ends with this task, and the handshakes with it.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) if is_callers(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &tls else {
            if ready.send(Connection::Plain(tcp)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refuse(&audit, &tcp, "too_many_handshakes");
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.server_config(clients));
        let (ready, audit) = (ready.clone(), Arc::clone(&audit));
        handshakes.spawn(async move {
            let _slot = slot;
            if let Some(connection) = handshake(acceptor, tcp, &audit).await {
                let _ = ready.send(connection).await;
            }
        });
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream, audit: &Audit) -> Option<Connection> {
    let address = tcp.peer_addr().ok();
    let peer = Peer {
        address,
        encrypted: false,
        certificate: None,
    };
    let failed = |reason: &str| {
        audit.refuse(&Refused {
            who: "nobody",
            peer: Some(&peer),
            method: "TLS",
            path: "handshake",
            reason,
        });
    };
    match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => Some(Connection::Tls(Box::new(tls.into()))),
        Ok(Err(error)) => {
            failed(&error.to_string());
            None
        }
        Err(_) => {
            failed("no handshake within 10 s");
            None
        }
    }
}

fn refuse(audit: &Audit, tcp: &TcpStream, reason: &str) {
    let peer = Peer {
        address: tcp.peer_addr().ok(),
        encrypted: false,
        certificate: None,
    };
    audit.refuse(&Refused {
        who: "nobody",
        peer: Some(&peer),
        method: "TLS",
        path: "handshake",
        reason,
    });
}

/// Errors of one connection that was gone before it was accepted.
fn is_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}
