//! What a worker is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use url::Url;

/// A worker's options.
#[derive(Debug, Clone)]
pub struct Options {
    /// The master to join.
    pub master: Url,
    /// Where to listen; port 0 takes a free one and reports it.
    pub listen: SocketAddr,
    /// Name within the cluster; a random one if none is given.
    pub id: Option<String>,
    /// Cores it offers. More partitions are run at once with more of them.
    pub cores: u32,
    /// Memory for its tasks, in bytes; beyond it they spill or fail. None: unbounded.
    pub memory: Option<u64>,
    /// Folder for spilled rows; made if missing.
    pub work_dir: PathBuf,
}

impl Options {
    /// A worker of `master` on any free loopback port, with all of this machine's cores.
    pub fn new(master: Url, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            master,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            id: None,
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory: None,
            work_dir: work_dir.into(),
        }
    }
}
