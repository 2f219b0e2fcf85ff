//! Accepts connections, so many in all and of one address; handshakes are made beside the accepting, each with a
//! time limit, so many at a time.

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
use crate::places::{Full, Places};
use crate::{Certificates, Connection, Peer};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A caller that says nothing for so long has nothing to say.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(10);
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
    let door = Door {
        tls,
        clients,
        places: Places::of_this_process(),
        first_word: FIRST_WORD_WITHIN,
    };
    door.open(listener)
}

struct Door {
    tls: Option<Certificates>,
    clients: ClientCertificates,
    places: Places,
    first_word: Duration,
}

impl Door {
    fn open(self, listener: TcpListener) -> Incoming {
        let (sender, ready) = mpsc::channel(READY);
        let accepting = tokio::spawn(self.accept(listener, sender));
        Incoming {
            ready,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    async fn accept(self, listener: TcpListener, ready: mpsc::Sender<Connection>) {
        let audit = Arc::new(Audit::new());
        let slots = Arc::new(Semaphore::new(HANDSHAKES));
        // Ends with this task, and the handshakes with it.
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_callers(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let _ = tcp.set_nodelay(true);
            let place = match self.places.take(address.ip()) {
                Ok(place) => place,
                Err(full) => {
                    refuse(&audit, &tcp, "connect", &full.to_string());
                    if self.tls.is_none() {
                        turn_away(&tcp, full);
                    }
                    continue;
                }
            };
            let Some(tls) = &self.tls else {
                let connection = Connection::plain(tcp).accepted(place, self.first_word);
                if ready.send(connection).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                refuse(&audit, &tcp, "handshake", "too_many_handshakes");
                continue;
            };
            let acceptor = TlsAcceptor::from(tls.server_config(self.clients));
            let (ready, audit, first_word) = (ready.clone(), Arc::clone(&audit), self.first_word);
            handshakes.spawn(async move {
                let _slot = slot;
                if let Some(connection) = handshake(acceptor, tcp, &audit).await {
                    let _ = ready.send(connection.accepted(place, first_word)).await;
                }
            });
        }
    }
}

/// Says so to who speaks HTTP/1.1; others see the connection end.
fn turn_away(tcp: &TcpStream, full: Full) {
    let why = match full {
        Full::All => "it has as many connections as it takes",
        Full::OfOne => "your address has as many connections as one may have",
    };
    let said = format!("drumline takes no connection now: {why}; close some, or try again later\n");
    let head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain";
    // It fits into any socket's buffer, or the caller is gone.
    let _ =
        tcp.try_write(format!("{head}\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes());
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|next| next.map(Ok))
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
        Ok(Ok(tls)) => Some(Connection::tls(tls.into())),
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

fn refuse(audit: &Audit, tcp: &TcpStream, path: &str, reason: &str) {
    let peer = Peer {
        address: tcp.peer_addr().ok(),
        encrypted: false,
        certificate: None,
    };
    audit.refuse(&Refused {
        who: "nobody",
        peer: Some(&peer),
        method: "TCP",
        path,
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

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpSocket;

    use super::*;

    /// A door with so few places, and who comes in.
    async fn door(first_word: Duration) -> (Incoming, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door {
            tls: None,
            clients: ClientCertificates::Optional,
            places: Places::new(3, 2),
            first_word,
        };
        (door.open(listener), address)
    }

    /// Calls from an address of this machine's own.
    async fn call(from: u8, address: std::net::SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, from], 0).into()).unwrap();
        socket.connect(address).await.unwrap()
    }

    async fn said(mut caller: TcpStream) -> String {
        let mut said = String::new();
        let reading = caller.read_to_string(&mut said);
        let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
        read.expect("it is not hung up on").unwrap();
        said
    }

    #[tokio::test]
    async fn so_many_connections_of_one_address_and_in_all_and_who_goes_makes_room() {
        let (mut incoming, address) = door(Duration::from_secs(60)).await;
        let (_first, _second) = (call(1, address).await, call(1, address).await);
        let one = incoming.next().await.unwrap().unwrap();
        let _two = incoming.next().await.unwrap().unwrap();
        let refused = said(call(1, address).await).await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert!(refused.contains("your address"), "{refused}");
        let _other = call(2, address).await;
        let _three = incoming.next().await.unwrap().unwrap();
        let refused = said(call(3, address).await).await;
        assert!(refused.contains("as it takes"), "{refused}");
        drop(one);
        let _again = call(1, address).await;
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_says_nothing_is_hung_up_on_and_who_spoke_may_be_silent() {
        let (mut incoming, address) = door(Duration::from_millis(100)).await;
        let _silent = call(1, address).await;
        let mut connection = incoming.next().await.unwrap().unwrap();
        let mut byte = [0];
        let error = connection.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut talker = call(1, address).await;
        tokio::io::AsyncWriteExt::write_all(&mut talker, b"x")
            .await
            .unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        connection.read_exact(&mut byte).await.unwrap();
        let more = connection.read_exact(&mut byte);
        let waited = tokio::time::timeout(Duration::from_millis(300), more).await;
        assert!(waited.is_err(), "it was hung up on");
    }
}
