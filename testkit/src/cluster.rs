//! A cluster of real `drumline` processes on loopback: one master and its workers.
//!
//! Every process can be killed, frozen and started again by itself. What a test sees of the cluster
//! it sees through the command line, as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Process, free_port, poll};

/// Debug builds on a busy machine included.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers.
    pub workers: usize,
    /// Cores each worker offers.
    pub cores: u32,
    /// The lake's root; none: a folder of the cluster's own.
    pub lake: Option<String>,
    /// Environment of every process, e.g. `Gcs::environment()`.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            cores: 1,
            lake: None,
            environment: Vec::new(),
        }
    }
}

/// A running cluster. Dropping it kills every process and removes its folder; when the test is
/// failing, the ends of the logs are printed first.
pub struct Cluster {
    options: Options,
    lake: String,
    port: u16,
    master: Option<Process>,
    workers: Vec<Process>,
    started: usize,
    // Last, so that processes end before their folders go.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts a master and its workers, and waits until all have joined.
    pub fn start(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("drumline-cluster-")
            .tempdir()?;
        let lake = match &options.lake {
            Some(lake) => lake.clone(),
            None => folder.path().join("lake").display().to_string(),
        };
        let workers = options.workers;
        let mut cluster = Self {
            options,
            lake,
            port: free_port()?,
            master: None,
            workers: Vec::new(),
            started: 0,
            folder,
        };
        cluster.start_master()?;
        for _ in 0..workers {
            cluster.start_worker()?;
        }
        cluster.wait_for_workers(workers)?;
        Ok(cluster)
    }

    /// Starts the master, at the same address and with the same state as one that was killed.
    pub fn start_master(&mut self) -> Result<()> {
        self.start_master_with(&[])
    }

    /// The same, with more in its environment.
    pub fn start_master_with(&mut self, environment: &[(String, String)]) -> Result<()> {
        ensure!(self.master.is_none(), "the master runs");
        let mut command = self.command();
        command
            .envs(environment.iter().cloned())
            .arg("master")
            .arg(format!("--listen=127.0.0.1:{}", self.port))
            .arg(format!("--lake={}", self.lake))
            .arg(format!("--state-dir={}", self.path("state").display()));
        let mut master = Process::start("master", command, &self.path("logs"))?;
        let port = self.port;
        master.wait_until("listening", UP_WITHIN, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        self.master = Some(master);
        Ok(())
    }

    /// Starts one more worker; gives its index. It may not have joined yet.
    pub fn start_worker(&mut self) -> Result<usize> {
        self.start_worker_with(&[])
    }

    /// The same, with more in its environment.
    pub fn start_worker_with(&mut self, environment: &[(String, String)]) -> Result<usize> {
        self.started += 1;
        let name = format!("worker-{}", self.started);
        let mut command = self.command();
        command
            .envs(environment.iter().cloned())
            .arg("worker")
            .arg(format!("--master={}", self.url()))
            .arg(format!("--id={name}"))
            .arg("--listen=127.0.0.1:0")
            .arg(format!("--cores={}", self.options.cores))
            .arg(format!(
                "--work-dir={}",
                self.path("work").join(&name).display()
            ));
        self.workers
            .push(Process::start(&name, command, &self.path("logs"))?);
        Ok(self.workers.len() - 1)
    }

    /// Waits until `count` workers have logged that they joined.
    fn wait_for_workers(&mut self, count: usize) -> Result<()> {
        let Some(master) = &mut self.master else {
            bail!("no master runs");
        };
        let workers = &mut self.workers;
        master.wait_until("joined by its workers", UP_WITHIN, || {
            let joined = workers
                .iter()
                .filter(|worker| worker.log().contains("joined the cluster"));
            joined.count() >= count
        })?;
        for worker in workers {
            ensure!(worker.is_running(), "a worker ended\n{}", worker.log_tail());
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The admin's token that the master made, for who does not call through the command line.
    pub fn token(&self) -> Result<String> {
        let text = std::fs::read_to_string(self.path("state").join("token"))?;
        Ok(text.trim().to_owned())
    }

    /// The lake's root, a URL or a folder.
    pub fn lake(&self) -> &str {
        &self.lake
    }

    /// A path in the cluster's own folder; removed at the end.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The master's process.
    pub fn master(&mut self) -> Result<&mut Process> {
        self.master.as_mut().context("no master runs")
    }

    /// A worker's process, in the order of their start.
    pub fn worker(&mut self, index: usize) -> Result<&mut Process> {
        self.workers
            .get_mut(index)
            .with_context(|| format!("no worker {index}"))
    }

    /// How many workers were started, those that have ended included.
    pub fn started_workers(&self) -> usize {
        self.workers.len()
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let processes = self.master.iter().chain(&self.workers);
        let tails: Vec<String> = processes.map(Process::log_tail).collect();
        tails.join("\n")
    }

    /// SIGKILL of the master. [`Cluster::start_master`] brings it back.
    pub fn kill_master(&mut self) -> Result<()> {
        self.master.take().context("no master runs")?.kill()
    }

    /// Asks the master to stop, and waits until it has. [`Cluster::start_master`] brings it back.
    pub fn stop_master(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut master = self.master.take().context("no master runs")?;
        master.signal(signal)?;
        master.wait(UP_WITHIN)
    }

    /// `drumline` with this cluster's environment and address, arguments still to be given.
    pub fn command(&self) -> Command {
        let mut command = Command::new(drumline());
        command
            .env("DRUMLINE_MASTER", self.url())
            // Where the master tells its user's processes about its tokens: not the tester's own.
            .env("XDG_STATE_HOME", self.path("home"))
            .env_remove("DRUMLINE_TOKEN")
            .env_remove("DRUMLINE_TOKEN_FILE")
            .env_remove("DRUMLINE_CA")
            .env_remove("DRUMLINE_TLS")
            .env("NO_COLOR", "1")
            .envs(self.options.environment.iter().cloned())
            .current_dir(self.folder.path());
        command
    }

    /// Runs `drumline` to its end, whatever its exit code.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run drumline {arguments:?}"))
    }

    /// Starts `drumline` and returns at once.
    pub fn spawn(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.command();
        command.args(arguments);
        Process::start(name, command, &self.path("logs"))
    }

    /// The rows of a statement, each as its JSON values in column order.
    pub fn sql(&self, sql: &str) -> Result<Vec<Value>> {
        let output = self.run(&["sql", "--quiet", "-o", "json", "-c", sql])?;
        rows(&output).with_context(|| format!("statement: {sql}"))
    }

    /// The one number a statement gives.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.sql(sql)?;
        let value = match rows.as_slice() {
            [Value::Object(row)] if row.len() == 1 => row.values().next().and_then(Value::as_i64),
            _ => None,
        };
        value.with_context(|| format!("not one number: {rows:?} from {sql}"))
    }

    /// Polls until a statement gives this number. Errors on the way count as *not yet*.
    pub fn wait_for_number(&self, sql: &str, expected: i64, deadline: Duration) -> Result<()> {
        let mut last = String::new();
        let found = poll(sql, deadline, || {
            Ok(match self.number(sql) {
                Ok(number) if number == expected => Some(()),
                Ok(number) => {
                    last = number.to_string();
                    None
                }
                Err(error) => {
                    last = format!("{error:#}");
                    None
                }
            })
        });
        found.with_context(|| format!("expected {expected}, last: {last}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Workers first: a master that loses its workers is quicker gone than workers that look for it.
        self.workers.clear();
        self.master = None;
    }
}

/// JSON lines of a successful run.
pub fn rows(output: &Output) -> Result<Vec<Value>> {
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::str::from_utf8(&output.stdout).context("stdout is not UTF-8")?;
    let rows = text.lines().filter(|line| !line.trim().is_empty());
    rows.map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

/// The binary under test: `$DRUMLINE_BIN`, or the one beside this test in the target folder.
pub fn drumline() -> PathBuf {
    if let Some(binary) = std::env::var_os("DRUMLINE_BIN") {
        return PathBuf::from(binary);
    }
    // A test runs as <target>/<profile>/deps/<name>, a bench as <target>/<profile>/<name>.
    let here = std::env::current_exe().unwrap_or_default();
    let folders = here.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder: &Path| folder.join("drumline"));
    candidates
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| PathBuf::from("drumline"))
}
