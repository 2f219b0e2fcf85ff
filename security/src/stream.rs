//! A connection, encrypted or not. One that was accepted holds a place for as long as it lives, and is to say
//! something soon.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use crate::Peer;
use crate::certificates::identity_of;
use crate::places::Place;

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    /// Until the other end has said something.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Option<Place>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    /// The handshake is done.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self::of(Io::Plain(tcp))
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self::of(Io::Tls(Box::new(tls)))
    }

    fn of(io: Io) -> Self {
        Self {
            io,
            silence: None,
            _place: None,
        }
    }

    /// An accepted one: it holds its place, and ends if nothing is said within this time.
    pub(crate) fn accepted(mut self, place: Place, first_word: Duration) -> Self {
        self._place = Some(place);
        self.silence = Some(Box::pin(tokio::time::sleep(first_word)));
        self
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        match &self.io {
            Io::Plain(tcp) => Peer {
                address: tcp.peer_addr().ok(),
                encrypted: false,
                certificate: None,
            },
            Io::Tls(tls) => {
                let (tcp, session) = tls.get_ref();
                Peer {
                    address: tcp.peer_addr().ok(),
                    encrypted: true,
                    certificate: session
                        .peer_certificates()
                        .and_then(|chain| identity_of(chain.first()?)),
                }
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Io::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        };
        let Some(silence) = &mut this.silence else {
            return read;
        };
        if buffer.filled().len() > before {
            this.silence = None;
        } else if read.is_pending() && silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing was said on a new connection",
            )));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Io::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, bytes),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Io::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
