//! Master and workers together: start in order, wait until they have found each other, stop in order.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use drumline_security::local::{Given, TOKEN_FILE, WORKER_TOKEN_FILE};
use tokio::time::Instant;
use url::Url;

use crate::commands::tuning::Tuning;
use crate::config::Master;
use crate::failure::{Failure, OrFail as _, Result};
use crate::local::folder::Folder;
use crate::local::process::Process;
use crate::logging::LogFormat;

/// How long master and workers may take to find each other; slow disks and debug builds included.
const JOIN_DEADLINE: Duration = Duration::from_secs(60);
const JOIN_POLL: Duration = Duration::from_millis(100);
/// Of the machine's memory, for all workers together.
const WORKERS_PERCENT: f64 = 60.0;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Port of the master on loopback; 0 picks a free one.
    pub(crate) port: u16,
    pub(crate) workers: u32,
    /// Cores of each worker.
    pub(crate) cores: u32,
    pub(crate) lake: Url,
    /// Folder of certificates; none: unencrypted.
    pub(crate) tls: Option<PathBuf>,
    /// Shape of the processes' log lines.
    pub(crate) log_format: LogFormat,
    /// What the master is told besides; none: nothing.
    pub(crate) tuning: Option<Tuning>,
}

impl Options {
    /// Cores of each worker where none are given: an equal share of the machine.
    pub(crate) fn share_of_cores(workers: u32) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        (cores / workers.max(1)).max(1)
    }
}

/// A worker that has joined.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) cores: u32,
    pub(crate) pid: u32,
}

/// A child that ended although nobody asked it to.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Without a master there is no cluster.
    Master(Failure),
    /// The others go on.
    Worker { failure: Failure, left: usize },
}

/// The processes. [`LocalCluster::stop`] must be called; dropping kills what is left, without order.
pub(crate) struct LocalCluster {
    folder: Folder,
    options: Options,
    master: Option<Process>,
    workers: Vec<Process>,
    /// Known once the master has said where it is.
    url: Option<Url>,
}

impl LocalCluster {
    /// Nothing runs yet; see [`LocalCluster::launch`].
    pub(crate) fn new(folder: Folder, options: Options) -> Self {
        Self {
            folder,
            options,
            master: None,
            workers: Vec::new(),
            url: None,
        }
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// The master, with the token in its state folder.
    pub(crate) fn master(&self) -> Result<Master> {
        let url = self.url.clone();
        let url = url.ok_or_else(|| Failure::failed("the master has not said where it is"))?;
        let given = Given {
            token_file: Some(self.folder.state().join(TOKEN_FILE)),
            ca_file: self.options.tls.as_ref().map(|tls| tls.join("ca.pem")),
            ..Given::default()
        };
        Ok(Master { url, given })
    }

    /// The same for a process of the cluster.
    fn tls_argument(&self) -> Option<String> {
        let tls = self.options.tls.as_ref()?;
        Some(format!("--tls={}", tls.display()))
    }

    /// Starts everything and waits until every worker has joined. On failure or when dropped half
    /// way, [`LocalCluster::stop`] stops what was started.
    pub(crate) async fn launch(&mut self) -> Result<(Url, Vec<Joined>)> {
        // Of a run that was killed.
        self.folder.remove_work();
        self.folder.prepare()?;
        port_is_free(self.options.port)?;
        let deadline = Instant::now() + JOIN_DEADLINE;
        let mut arguments = vec![
            "master".to_owned(),
            format!("--listen=127.0.0.1:{}", self.options.port),
            format!("--lake={}", self.options.lake),
            format!("--state-dir={}", self.folder.state().display()),
            format!("--log-format={}", self.options.log_format.name()),
        ];
        let tuning = self.options.tuning.as_ref();
        arguments.extend(tuning.map(Tuning::arguments).unwrap_or_default());
        arguments.extend(self.tls_argument());
        let environment = tuning.map(Tuning::environment).unwrap_or_default();
        let master = self.master.insert(Process::start(
            "master",
            &arguments,
            &environment,
            self.folder.logs().join("master.log"),
        )?);
        let said = master.announcement(JOIN_DEADLINE).await?;
        let url = announced_url(&said).ok_or_else(|| {
            Failure::failed(format!("master did not say where it is, but `{said}`"))
        })?;
        self.url = Some(url.clone());

        let token_file = self.folder.state().join(WORKER_TOKEN_FILE);
        let token = std::fs::read_to_string(&token_file)
            .or_fail(|| format!("cannot read {}", token_file.display()))?;
        // Not as an argument: everybody on this machine sees those.
        let environment = [("DRUMLINE_TOKEN", token.trim().to_owned())];
        for number in 1..=self.options.workers {
            let name = format!("worker-{number}");
            let mut arguments = vec![
                "worker".to_owned(),
                format!("--id={name}"),
                format!("--master={url}"),
                "--listen=127.0.0.1:0".to_owned(),
                format!("--cores={}", self.options.cores),
                format!(
                    "--memory={}%",
                    WORKERS_PERCENT / f64::from(self.options.workers)
                ),
                format!("--log-format={}", self.options.log_format.name()),
                format!("--work-dir={}", self.folder.work().join(&name).display()),
            ];
            arguments.extend(self.tls_argument());
            let worker = Process::start(
                &name,
                &arguments,
                &environment,
                self.folder.logs().join(format!("{name}.log")),
            )?;
            self.workers.push(worker);
        }
        let joined = self.all_joined(deadline).await?;
        Ok((url, joined))
    }

    async fn all_joined(&mut self, deadline: Instant) -> Result<Vec<Joined>> {
        loop {
            let joined = self.joined().await;
            if let Ok(joined) = &joined
                && joined.len() == self.workers.len()
            {
                return Ok(joined.clone());
            }
            if Instant::now() >= deadline {
                let seen = joined.map_or_else(
                    |failure| failure.message,
                    |joined| format!("{} joined", joined.len()),
                );
                return Err(Failure::failed(format!(
                    "{} workers were started but did not join within {} s: {seen}",
                    self.workers.len(),
                    JOIN_DEADLINE.as_secs()
                ))
                .hint(format!(
                    "their logs are in {}",
                    self.folder.logs().display()
                )));
            }
            tokio::select! {
                lost = self.lost() => match lost? {
                    Lost::Master(failure) | Lost::Worker { failure, .. } => return Err(failure),
                },
                () = tokio::time::sleep(JOIN_POLL) => {}
            }
        }
    }

    /// Our workers, as the master sees them.
    async fn joined(&self) -> Result<Vec<Joined>> {
        let client = crate::connect::connect(&self.master()?).await?;
        let status = client.cluster_status().await?;
        Ok(self
            .workers
            .iter()
            .filter_map(|process| {
                let seen = status
                    .workers
                    .iter()
                    .find(|worker| worker.pid == process.pid())?;
                Some(Joined {
                    name: process.name().to_owned(),
                    url: seen.url.clone(),
                    cores: seen.cores,
                    pid: seen.pid,
                })
            })
            .collect())
    }

    /// Resolves when a child ends by itself. Cancel safe. With nothing left to watch it never does.
    pub(crate) async fn lost(&mut self) -> Result<Lost> {
        let master = async {
            match &mut self.master {
                Some(master) => master.wait().await,
                None => std::future::pending().await,
            }
        };
        let workers = &mut self.workers;
        let worker = async {
            if workers.is_empty() {
                return std::future::pending().await;
            }
            let waits = workers.iter_mut().map(|worker| Box::pin(worker.wait()));
            let (status, index, _) = futures::future::select_all(waits).await;
            status.map(|status| (index, status))
        };
        enum Ended {
            Master(ExitStatus),
            Worker(usize, ExitStatus),
        }
        let ended = tokio::select! {
            status = master => Ended::Master(status?),
            ended = worker => { let (index, status) = ended?; Ended::Worker(index, status) }
        };
        Ok(match ended {
            Ended::Master(status) => {
                let failure = self.master.take().map(|master| master.ended_early(status));
                Lost::Master(failure.unwrap_or_else(|| Failure::failed("master ended")))
            }
            Ended::Worker(index, status) => {
                let failure = self.workers.remove(index).ended_early(status);
                Lost::Worker {
                    failure,
                    left: self.workers.len(),
                }
            }
        })
    }

    /// Workers first, so that they can take their leave; then the master; then scratch space.
    pub(crate) async fn stop(mut self) {
        let stops = self.workers.iter_mut().map(|worker| async {
            if !worker.stop().await {
                tracing::warn!(
                    process = worker.name(),
                    "did not stop in time and was killed"
                );
            }
        });
        futures::future::join_all(stops).await;
        if let Some(master) = &mut self.master
            && !master.stop().await
        {
            tracing::warn!("the master did not stop in time and was killed");
        }
        self.folder.remove_work();
    }
}

/// Says so before anything is started, rather than in a child's log. The child's own bind decides.
fn port_is_free(port: u16) -> Result {
    match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::commands::cannot_listen(
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            &error,
        )),
    }
}

/// The first URL in a line such as `master is at http://127.0.0.1:7077, lake file:///x`.
fn announced_url(line: &str) -> Option<Url> {
    line.split_whitespace()
        .find(|word| word.starts_with("http://") || word.starts_with("https://"))
        .and_then(|word| Url::parse(word.trim_end_matches(',')).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_found_in_the_announcement() {
        let url = announced_url("master is at http://127.0.0.1:7077, lake file:///x").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:7077/");
        assert!(announced_url("hello").is_none());
    }

    #[test]
    fn a_taken_port_is_named_with_a_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = port_is_free(port).unwrap_err();
        assert!(
            failure.message.contains(&port.to_string()),
            "{}",
            failure.message
        );
        assert!(failure.hint.is_some());
    }

    #[test]
    fn every_worker_has_a_core() {
        assert_eq!(Options::share_of_cores(10_000), 1);
    }
}
