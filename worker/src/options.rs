//! What a worker is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drumline_engine::LogTail;
use drumline_lake::Stores;
use drumline_security::{Token, local};
use url::Url;

/// Where a worker's token comes from. Asked before each try to join: a master that was not there yet may have
/// made the token by then.
pub type TokenSource = Arc<dyn Fn() -> drumline_security::Result<Option<Token>> + Send + Sync>;

/// A worker's options.
#[derive(Clone)]
pub struct Options {
    /// The master to join.
    pub master: Url,
    /// What it joins with, where it has no certificate.
    pub token: TokenSource,
    /// Folder with the worker's certificate, made by `drumline init`; none: connections are not encrypted.
    pub tls: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one and reports it.
    pub listen: SocketAddr,
    /// Name within the cluster; a random one if none is given.
    pub id: Option<String>,
    /// Cores it offers. More partitions are run at once with more of them.
    pub cores: u32,
    /// Memory for its tasks, in bytes; beyond it they spill or fail. None: unbounded.
    pub memory: Option<u64>,
    /// Of that, what streams may hold: records read ahead and open files. None: a third of it.
    pub ingest_memory: Option<u64>,
    /// How object stores are reached.
    pub stores: Stores,
    /// Folder for spilled rows; made if missing.
    pub work_dir: PathBuf,
    /// How long a drain may take before the worker leaves with work left.
    pub drain_within: Duration,
    /// What it has logged last, for the master to ask for.
    pub log: LogTail,
    /// Folders of files that Kafka settings of streams may name, beside `/run/secrets`.
    pub secrets: Vec<PathBuf>,
}

impl Options {
    /// A worker of `master` on any free loopback port, with all of this machine's cores.
    pub fn new(master: Url, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            token: local_token(&master),
            tls: None,
            master,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            id: None,
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory: None,
            ingest_memory: None,
            stores: Stores::from_env(),
            work_dir: work_dir.into(),
            drain_within: Duration::from_secs(60),
            log: LogTail::default(),
            secrets: Vec::new(),
        }
    }
}

/// The token that a master of this user made for its workers.
fn local_token(master: &Url) -> TokenSource {
    let host = master.host_str().unwrap_or_default().to_owned();
    let port = master.port_or_known_default().unwrap_or_default();
    Arc::new(move || {
        let (given, environment) = (local::Given::default(), |name: &str| {
            std::env::var(name).ok()
        });
        let found = local::find(&host, port, local::Wanted::Workers, &given, &environment)?;
        Ok(found.token)
    })
}
