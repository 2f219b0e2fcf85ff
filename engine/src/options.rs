//! What a process tells the engine once, at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drumline_lake::Stores;
use drumline_security::{Certificates, Passes};
use url::Url;

use crate::TopicReader;

/// Options of an [`crate::Engine`] and of a [`crate::server::TaskHost`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Object stores that plans read and write.
    pub stores: Stores,
    /// Bytes that operators may hold before they spill; none: no limit.
    pub memory_limit: Option<u64>,
    /// Folder for spilled rows; made if it is missing.
    pub work_dir: PathBuf,
    /// Mutual TLS with workers and master; none: unencrypted.
    pub certificates: Option<Certificates>,
    /// Sign tickets for rows, and say who calls where there are no certificates. None: nobody is asked, for
    /// tests.
    pub passes: Option<Passes>,
    /// When a silent worker counts as lost.
    pub keepalive: Keepalive,
    /// Reads Kafka's topics for tasks; none: this process reads none.
    pub topics: Option<Arc<dyn TopicReader>>,
}

impl Options {
    /// Options without limits and without protection.
    pub fn new(stores: Stores, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            stores,
            memory_limit: None,
            work_dir: work_dir.into(),
            certificates: None,
            passes: None,
            keepalive: Keepalive::default(),
            topics: None,
        }
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
