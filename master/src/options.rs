//! What a master is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use drumline_engine::LogTail;
use drumline_lake::Stores;

use crate::{Collector, Webhook};

/// Whether callers are asked who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Everyone needs a token, or a member's certificate.
    Tokens,
    /// Nobody is asked; everybody may do everything.
    Nobody,
}

/// Brokers whose topics statements may read where no stream says how.
#[derive(Clone)]
pub struct TopicBrokers {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Passed on to librdkafka by the worker that reads.
    pub settings: BTreeMap<String, String>,
}

/// Settings may be secrets.
impl std::fmt::Debug for TopicBrokers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicBrokers")
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

/// A master's options. [`Options::new`] fills in what rarely changes.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Root URL of the lake.
    pub lake: String,
    /// Folders beside the lake's that external tables may be over: URLs, or absolute local paths.
    pub allowed_locations: Vec<String>,
    /// How object stores are reached.
    pub stores: Stores,
    /// The master's own folder: its lock, its tokens, and what it remembers of runs.
    pub state_dir: PathBuf,
    /// Who is let in.
    pub authentication: Authentication,
    /// Folder with the master's certificate, made by `drumline init`; none: connections are not encrypted.
    pub tls: Option<PathBuf>,
    /// Where this user's other processes look for the tokens of local masters; none: they are not told.
    pub announce_in: Option<PathBuf>,
    /// Where queries that run in place spill. Removed with all in it at start and stop.
    pub work_dir: PathBuf,
    /// Bytes that queries running in place may hold; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// Jobs that run at the same time; more wait in line.
    pub concurrent_jobs: usize,
    /// Applications kept for `Watch` after their end.
    pub kept_applications: usize,
    /// What it has logged last, for `/api/v1/logs`.
    pub log: LogTail,
    /// How long applications are remembered after their end.
    pub history_age: Duration,
    /// Bytes of history in the state folder; above them the oldest that is over is forgotten.
    pub history_size: u64,
    /// How often tables are looked at that ask to be kept fit by themselves.
    pub upkeep_every: Duration,
    /// Who is told of failures.
    pub webhook: Option<Webhook>,
    /// Where traces are sent.
    pub collector: Option<Collector>,
    /// Where topics are that no stream reads.
    pub kafka: Option<TopicBrokers>,
}

impl Options {
    /// Options with defaults: tokens and no TLS, stores from the environment, spill beside the state, 4 jobs at a
    /// time.
    pub fn new(listen: SocketAddr, lake: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            listen,
            lake: lake.into(),
            allowed_locations: Vec::new(),
            stores: Stores::from_env(),
            work_dir: state_dir.join("spill"),
            state_dir,
            authentication: Authentication::Tokens,
            tls: None,
            announce_in: None,
            memory_limit: None,
            concurrent_jobs: 4,
            kept_applications: 1000,
            log: LogTail::default(),
            history_age: Duration::from_secs(30 * 24 * 3600),
            history_size: 256 << 20,
            upkeep_every: Duration::from_secs(30),
            webhook: None,
            collector: None,
            kafka: None,
        }
    }
}
