//! Opens connections: plain, or TLS to somebody whose certificate says that they are who they have to be.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tower::Service;

use crate::certificates::{client_config, system_config};
use crate::{Certificates, Connection, Error, Result, Role};

/// Whom a connection is to, and how that is known.
#[derive(Clone)]
pub enum Trust {
    /// Nobody in particular, unencrypted.
    Plain,
    /// A master whose certificate carries the name that it is called by, and is signed by this authority.
    Authority(Arc<ClientConfig>),
    /// Anybody whom this machine trusts as the host that it is called by: a service of others.
    System(Arc<ClientConfig>),
    /// A member of our own cluster, of this role; we show our own certificate.
    Member(Certificates, Role),
}

impl Trust {
    /// Trusts masters that an authority signed for; its certificate in PEM.
    pub fn authority(pem: &[u8]) -> Result<Self> {
        Ok(Self::Authority(client_config(pem)?))
    }

    /// Trusts whom this machine trusts.
    pub fn system() -> Result<Self> {
        Ok(Self::System(system_config()?))
    }
}

/// A connector for tonic's channels.
#[derive(Clone)]
pub struct Connector {
    trust: Trust,
}

/// A channel's endpoint for `http://` or `https://HOST:PORT`. TLS is the [`Connector`]'s work: connect with that.
pub fn endpoint(url: &str) -> Result<Endpoint> {
    let wrong = |reason: String| Error::Address {
        url: url.to_owned(),
        reason,
    };
    let uri: Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    let authority = uri
        .authority()
        .ok_or_else(|| wrong("it names no host".to_owned()))?
        .clone();
    // Tonic would want TLS of its own for https, so the endpoint is plain and the origin says what is meant.
    let plain = format!("http://{authority}");
    let endpoint = Endpoint::from_shared(plain).map_err(|error| wrong(error.to_string()))?;
    let origin = Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("http"))
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(endpoint.origin(origin))
}

impl Connector {
    /// A connector to whoever `trust` says.
    pub fn new(trust: Trust) -> Self {
        Self { trust }
    }

    async fn connect(
        self,
        uri: Uri,
    ) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(80))).await?;
        tcp.set_nodelay(true)?;
        let (config, expected) = match &self.trust {
            Trust::Plain => return Ok(Connection::plain(tcp)),
            Trust::Authority(config) | Trust::System(config) => (Arc::clone(config), None),
            Trust::Member(certificates, role) => (certificates.member_config(), Some(*role)),
        };
        let name = ServerName::try_from(host)?;
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        let connection = Connection::tls(tls.into());
        let found = connection
            .peer()
            .certificate
            .and_then(|certificate| certificate.role);
        let is_right = match expected {
            _ if matches!(self.trust, Trust::System(_)) => true,
            Some(role) => found == Some(role),
            // An authority of others knows no roles of ours.
            None => found.is_none_or(|role| role == Role::Master),
        };
        if is_right {
            return Ok(connection);
        }
        let role = |role: Option<Role>| role.map_or("no role", Role::as_str).to_owned();
        Err(Box::new(Error::WrongPeer {
            peer: uri.to_string(),
            expected: role(expected.or(Some(Role::Master))),
            found: role(found),
        }))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.connect(uri).await?)) })
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("Plain"),
            Self::Authority(_) => f.write_str("Authority"),
            Self::System(_) => f.write_str("System"),
            Self::Member(_, role) => write!(f, "Member({role})"),
        }
    }
}
