//! Runs the binary with a deadline, in a folder of its own, without the tester's settings.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The lines that tell a user what is wrong, without the hint.
    pub fn errors(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect()
    }
}

/// The binary, to be run in `folder`.
pub fn command<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Command {
    clean(Command::new(BINARY), folder, arguments)
}

const BINARY: &str = env!("CARGO_BIN_EXE_drumline");

/// Runs to the end, bound by the rights on files: root, who is not, gives up the power to pass over them.
pub fn run_without_override<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Ended {
    let is_root = std::fs::metadata(folder).unwrap().uid() == 0;
    if !is_root {
        return run(folder, arguments);
    }
    let mut bound = Command::new("setpriv");
    bound.args(["--bounding-set=-dac_override,-dac_read_search", BINARY]);
    end(clean(bound, folder, arguments).spawn().unwrap())
}

/// Adds arguments and place, and takes the tester's own settings away.
fn clean<A: AsRef<OsStr>>(mut command: Command, folder: &Path, arguments: &[A]) -> Command {
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("DRUMLINE_MASTER")
        .env_remove("DRUMLINE_TOKEN")
        .env_remove("DRUMLINE_TOKEN_FILE")
        .env_remove("DRUMLINE_CA")
        .env_remove("DRUMLINE_TLS")
        .env_remove("RUST_LOG")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end.
pub fn run<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Ended {
    end(command(folder, arguments).spawn().unwrap())
}

/// Waits for the end; what does not end in time is killed and fails the test.
pub fn end(mut child: Child) -> Ended {
    let stdout = read(child.stdout.take());
    let stderr = read(child.stderr.take());
    let status = wait(&mut child);
    Ended {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("drumline did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut text).unwrap();
        }
        text
    })
}

/// A port that nobody listens on, and that nobody is given for a while.
pub fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
