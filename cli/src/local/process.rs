//! One child process: started from this executable, logging to a file, stopped for certain.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::failure::{Failure, OrFail as _, Result};

/// Lines of a log shown when its process ended too early.
const TAIL_LINES: usize = 12;
/// How long a child may take to stop cleanly.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running child. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Held open: the child ends when it sees the end of this pipe.
    _stdin: ChildStdin,
    log: Log,
}

/// A child's log, from where this run of it began.
struct Log {
    path: PathBuf,
    from: u64,
}

impl Process {
    /// Starts this executable with `arguments`; stderr is appended to `log`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        arguments: &[A],
        environment: &[(&str, String)],
        log: PathBuf,
    ) -> Result<Self> {
        let executable =
            std::env::current_exe().or_fail(|| "cannot find this executable".to_owned())?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .or_fail(|| format!("cannot write log {}", log.display()))?;
        let from = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        let mut child = Command::new(executable)
            .args(arguments)
            .arg("--exit-with-parent")
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(file))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .or_fail(|| format!("cannot start {name}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::failed(format!(
                "cannot start {name}: it has no pipes"
            )));
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            stdout: BufReader::new(stdout),
            _stdin: stdin,
            log: Log { path: log, from },
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// The line in which the process says where it is. Fails when it ends first.
    pub(crate) async fn announcement(&mut self, deadline: Duration) -> Result<String> {
        let mut line = String::new();
        match tokio::time::timeout(deadline, self.stdout.read_line(&mut line)).await {
            Ok(Ok(read)) if read > 0 => Ok(line.trim_end().to_owned()),
            Ok(_) => {
                let status = self.child.wait().await.or_fail(|| self.name.clone())?;
                Err(self.ended_early(status))
            }
            Err(_) => Err(Failure::failed(format!(
                "{} did not come up within {} s",
                self.name,
                deadline.as_secs()
            ))
            .detail(self.log.tail())
            .hint(format!("its log is {}", self.log.path.display()))),
        }
    }

    /// Resolves when the process ends.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .or_fail(|| format!("cannot wait for {}", self.name))
    }

    /// Why a process that should be running is not. What the child itself said comes first.
    pub(crate) fn ended_early(&self, status: ExitStatus) -> Failure {
        let tail = self.log.tail();
        let hint = format!("its log is {}", self.log.path.display());
        match last_error(&tail) {
            Some((error, own_hint)) => Failure::failed(format!("{} ended: {error}", self.name))
                .hint(own_hint.unwrap_or(hint)),
            None => Failure::failed(format!("{} ended: {}", self.name, describe(status)))
                .detail(tail)
                .hint(hint),
        }
    }

    /// Asks, waits, and ends it if need be. True when it went by itself.
    pub(crate) async fn stop(&mut self) -> bool {
        if let Some(pid) = self.child.id() {
            // Not SIGTERM: a worker would finish what runs first. It may be gone already.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT);
        }
        if tokio::time::timeout(STOP_DEADLINE, self.child.wait())
            .await
            .is_ok()
        {
            return true;
        }
        let _ = self.child.kill().await;
        false
    }
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

impl Log {
    fn tail(&self) -> String {
        tail(&self.path, self.from)
    }
}

fn tail(path: &Path, from: u64) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(from as usize..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let shown: Vec<String> = lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("  | {line}"))
        .collect();
    shown.join("\n")
}

/// The `error:` and `hint:` lines that a drumline process ends with.
fn last_error(tail: &str) -> Option<(String, Option<String>)> {
    let lines: Vec<&str> = tail
        .lines()
        .map(|line| line.trim_start_matches("  | "))
        .collect();
    let at = lines.iter().rposition(|line| line.starts_with("error: "))?;
    let hint = lines[at..]
        .iter()
        .find_map(|line| line.strip_prefix("hint: "))
        .map(str::to_owned);
    Some((lines[at].trim_start_matches("error: ").to_owned(), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_shown_from_where_this_run_began() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "error: of yesterday\nof today\n").unwrap();
        assert_eq!(tail(file.path(), 20), "  | of today");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        let shown = tail(file.path(), 0);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("line 99"));
    }

    #[test]
    fn the_words_of_the_child_are_passed_on() {
        let tail =
            "  | INFO starting\n  | error: port 7077 is in use\n  | hint: give another --port";
        assert_eq!(
            last_error(tail),
            Some((
                "port 7077 is in use".to_owned(),
                Some("give another --port".to_owned())
            ))
        );
        assert_eq!(last_error("  | INFO starting"), None);
    }

    #[test]
    fn a_signal_has_its_name() {
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by SIGKILL");
        assert_eq!(describe(ExitStatus::from_raw(256)), "exit code 1");
    }
}
