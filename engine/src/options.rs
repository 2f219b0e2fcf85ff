//! What a process tells the engine once, at its start.

use std::path::PathBuf;
use std::time::Duration;

use drumline_lake::Stores;
use url::Url;

/// Options of an [`crate::Engine`] and of a [`crate::server::TaskHost`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Object stores that plans read and write.
    pub stores: Stores,
    /// Bytes that operators may hold before they spill; none: no limit.
    pub memory_limit: Option<u64>,
    /// Folder for spilled rows; made if it is missing.
    pub work_dir: PathBuf,
    /// How this process connects to workers; none: plain text.
    pub tls: Option<ClientTls>,
    /// Bearer token that this process sends, and asks of its callers; none: no authentication.
    pub token: Option<String>,
    /// When a silent worker counts as lost.
    pub keepalive: Keepalive,
}

impl Options {
    /// Options without limits, TLS or token.
    pub fn new(stores: Stores, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            stores,
            memory_limit: None,
            work_dir: work_dir.into(),
            tls: None,
            token: None,
            keepalive: Keepalive::default(),
        }
    }
}

/// The client's side of TLS, in PEM.
#[derive(Clone)]
pub struct ClientTls {
    /// Certificate authorities to trust.
    pub ca: Vec<u8>,
    /// Name in the workers' certificates; none: the host of their URL.
    pub domain: Option<String>,
    /// Own certificate and key, for workers that ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// When a connection counts as lost: `connect` for a new one, `interval` + `timeout` for an open one.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// Time to connect.
    pub connect: Duration,
    /// Time between pings.
    pub interval: Duration,
    /// Time for a ping's answer.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
        }
    }
}

/// A worker that a job may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTarget {
    /// Its id in the cluster.
    pub id: String,
    /// Where it serves tasks and rows.
    pub url: Url,
    /// Threads it computes on.
    pub cores: u32,
}
