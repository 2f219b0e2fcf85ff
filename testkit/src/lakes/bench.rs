//! A cluster on the stand-in for Google Cloud Storage: each worker reaches the store through a door of its own, so
//! that a call tells whose it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{BUCKET, ROOT};
use crate::cluster::Options;
use crate::{Cluster, Gcs, poll};

const JOINED_WITHIN: Duration = Duration::from_secs(60);

/// Workers that are there when a seed begins.
const WORKERS: i64 = 2;

/// A store and a cluster that can be used by seed after seed.
pub struct Bench {
    /// The cluster's, so that it goes first.
    pub cluster: Cluster,
    /// The store.
    pub gcs: Gcs,
    /// By door, those that live.
    workers: BTreeMap<String, usize>,
    doors: usize,
    request_timeout: Option<Duration>,
    /// How many copies of the master's state there were.
    copies: usize,
}

impl Bench {
    /// Starts a store, a master and two workers, whose clients of the store give a request up after this long (half a
    /// minute, unless told).
    pub fn start(request_timeout: Option<Duration>) -> Result<Self> {
        let gcs = Gcs::start(&[BUCKET])?;
        let cluster = Cluster::start(Options {
            workers: 0,
            lake: Some(format!("gs://{BUCKET}/{ROOT}")),
            environment: environment(gcs.environment(), request_timeout),
            ..Options::default()
        })?;
        let mut bench = Self {
            cluster,
            gcs,
            workers: BTreeMap::new(),
            doors: 0,
            request_timeout,
            copies: 0,
        };
        bench.settle()?;
        Ok(bench)
    }

    /// Waits until the master answers and two workers are there; starts those that are missing.
    pub fn settle(&mut self) -> Result<()> {
        while (self.workers.len() as i64) < WORKERS {
            self.doors += 1;
            let door = format!("worker-{}", self.doors);
            let environment = environment(self.gcs.door(&door)?, self.request_timeout);
            let index = self.cluster.start_worker_with(&environment)?;
            self.workers.insert(door, index);
        }
        let sql = "SELECT count(*) FROM system.workers WHERE state = 'alive'";
        self.cluster
            .wait_for_number(sql, WORKERS, JOINED_WITHIN)
            .with_context(|| self.cluster.log_tails())
    }

    /// SIGKILL of the worker behind a door; of any, where there is none behind it.
    pub fn kill_worker(&mut self, door: &str) -> Result<()> {
        let door = match self.workers.contains_key(door) {
            true => door.to_owned(),
            false => self.workers.keys().next().context("no worker")?.clone(),
        };
        let index = self.workers.remove(&door).context("no worker")?;
        self.cluster.worker(index)?.kill()
    }

    /// A copy of the master's state as it is on the disk at this moment: what the next master would find, were this
    /// one killed now.
    pub fn copy_state(&mut self) -> Result<PathBuf> {
        self.copies += 1;
        let copy = self.cluster.path(&format!("state-{}", self.copies));
        let state = self.cluster.path("state");
        let master = self.cluster.master()?;
        master.freeze()?;
        let copied = copy_folder(&state, &copy);
        master.thaw()?;
        copied?;
        Ok(copy)
    }

    /// Kills the master and starts one that knows only what a copy holds.
    pub fn go_back_to(&mut self, copy: &Path) -> Result<()> {
        self.cluster.kill_master()?;
        let state = self.cluster.path("state");
        std::fs::remove_dir_all(&state)?;
        std::fs::rename(copy, &state)?;
        self.cluster.start_master()
    }

    /// Waits until no application runs or waits.
    pub fn wait_for_applications(&self) -> Result<()> {
        // The one that asks is there too.
        let sql = "SELECT count(*) FROM system.applications WHERE ended_at IS NULL";
        poll("all applications are over", JOINED_WITHIN * 3, || {
            Ok(self.cluster.number(sql).ok().filter(|open| *open <= 1))
        })
        .map(drop)
        .with_context(|| self.cluster.log_tails())
    }
}

fn environment(
    mut environment: Vec<(String, String)>,
    request_timeout: Option<Duration>,
) -> Vec<(String, String)> {
    let timeout = request_timeout.map(|timeout| format!("{} ms", timeout.as_millis()));
    environment.extend(timeout.map(|timeout| ("GOOGLE_TIMEOUT".to_owned(), timeout)));
    environment
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => {
                let copied = std::fs::copy(entry.path(), &target);
                copied.with_context(|| format!("cannot copy {}", entry.path().display()))?;
            }
        }
    }
    ensure!(to.is_dir(), "nothing was copied");
    Ok(())
}
