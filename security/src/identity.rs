//! Who calls, as far as it is known.

use std::fmt;
use std::net::SocketAddr;

use crate::Role;

/// A caller that was let in. In the extensions of each request that passed a door which asks for a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's id; for certificates their name.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it showed who it is.
    pub via: Via,
}

/// How a caller showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A bearer token.
    Token,
    /// The cookie of a signed-in page.
    Session,
    /// The certificate of its connection.
    Certificate,
    /// Not at all: this process lets everybody in.
    Nothing,
}

impl Identity {
    /// Everybody, where nobody is asked.
    pub(crate) fn everybody() -> Self {
        Self {
            id: String::new(),
            name: "everybody".to_owned(),
            role: Role::Admin,
            via: Via::Nothing,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Via::Token | Via::Session => write!(f, "token {} ({})", self.id, self.name),
            Via::Certificate => write!(f, "certificate {}", self.name),
            Via::Nothing => f.write_str("everybody"),
        }
    }
}

/// The other end of a connection. In the extensions of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it calls from.
    pub address: Option<SocketAddr>,
    /// Whether the connection is TLS.
    pub encrypted: bool,
    /// Who its certificate says it is, where it showed one that our authority signed.
    pub certificate: Option<CertificateIdentity>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// Its common name.
    pub name: String,
    /// Its role, where it is one of ours.
    pub role: Option<Role>,
}

impl CertificateIdentity {
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(Identity {
            id: self.name.clone(),
            name: self.name.clone(),
            role: self.role?,
            via: Via::Certificate,
        })
    }
}
