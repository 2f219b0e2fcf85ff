//! Starting and stopping single processes, and what stands in their way.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::drumline::{Ended, command, end, run, run_without_override};

fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

#[test]
fn a_busy_port_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let (_listener, port) = taken();
    let address = format!("127.0.0.1:{port}");
    for arguments in [
        &["up", "--port", &port, "--data-dir", "data"][..],
        &["demo", "--port", &port, "--data-dir", "demo"],
        &[
            "master",
            "--listen",
            &address,
            "--lake",
            "lake",
            "--state-dir",
            "state",
        ],
        &["worker", "--listen", &address, "--work-dir", "work"],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        assert_eq!(ended.errors().len(), 1, "{ended:?}");
        assert!(
            ended.errors()[0].contains(&port) && ended.errors()[0].contains("in use"),
            "{ended:?}"
        );
        assert!(ended.stderr.contains("hint: "), "{ended:?}");
        if cfg!(target_os = "linux") {
            let holder = format!("(process {})", std::process::id());
            assert!(ended.errors()[0].contains(&holder), "{ended:?}");
        }
    }
}

#[test]
fn a_folder_without_rights_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let anywhere = ["--listen", "127.0.0.1:0"];
    for (arguments, named, hint) in [
        (
            &["up", "--port", "0", "--data-dir", "locked/data"][..],
            "locked/data",
            "--data-dir",
        ),
        (
            &["up", "--port", "0", "--data-dir", "locked"],
            "locked/state",
            "--data-dir",
        ),
        (
            &["demo", "--port", "0", "--data-dir", "locked/data"],
            "locked/data",
            "--data-dir",
        ),
        (
            &["demo", "--port", "0", "--data-dir", "locked"],
            "locked",
            "--data-dir",
        ),
        (
            &[
                "up",
                "--port",
                "0",
                "--data-dir",
                "data",
                "--lake",
                "locked/lake",
            ],
            "locked/lake",
            "--lake",
        ),
        (
            &["master", "--lake", "lake", "--state-dir", "locked/state"],
            "locked/state",
            "rights",
        ),
        (
            &["master", "--lake", "locked/lake", "--state-dir", "state"],
            "locked/lake",
            "--lake",
        ),
        (
            &["worker", "--work-dir", "locked/work"],
            "locked/work",
            "--work-dir",
        ),
    ] {
        let listens = matches!(arguments[0], "master" | "worker");
        let arguments = [arguments, if listens { &anywhere } else { &[] }].concat();
        let ended = run_without_override(folder.path(), &arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        let errors = ended.errors();
        assert_eq!(errors.len(), 1, "{arguments:?}: {ended:?}");
        assert!(
            errors[0].contains(named) && errors[0].contains("ermission denied"),
            "{arguments:?}: {ended:?}"
        );
        let hinted = ended
            .stderr
            .lines()
            .any(|line| line.starts_with("hint: ") && line.contains(hint));
        assert!(hinted, "{arguments:?}: {ended:?}");
    }
    assert_eq!(fs::read_dir(&locked).unwrap().count(), 0);
}

#[test]
fn a_data_folder_that_cannot_be_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let ended = run(
        folder.path(),
        &["up", "--port", "0", "--data-dir", "file/data"],
    );
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors()[0].contains("file/data"), "{ended:?}");
    assert!(ended.stderr.contains("--data-dir"), "{ended:?}");
}

/// A process that does not outlive its test.
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn terminate(&mut self) {
        kill(Pid::from_raw(self.child().id() as i32), Signal::SIGTERM).unwrap();
    }

    fn end(mut self) -> Ended {
        end(self.0.take().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process and reads the line in which it says where it is.
pub fn start(folder: &std::path::Path, arguments: &[&str]) -> (Running, String) {
    let mut running = Running(Some(
        command(folder, arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap(),
    ));
    let mut line = String::new();
    BufReader::new(running.child().stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    if line.is_empty() {
        panic!("{arguments:?} did not start: {:?}", running.end());
    }
    (running, line)
}

pub fn url(line: &str) -> String {
    line.split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .trim_end_matches(',')
        .to_owned()
}

#[test]
fn a_master_and_a_worker_say_where_they_are_and_stop_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (master, line) = start(
        folder.path(),
        &[
            "master",
            "--listen",
            "127.0.0.1:0",
            "--lake",
            "lake",
            "--state-dir",
            "state",
        ],
    );
    assert!(
        line.starts_with("master is at http://127.0.0.1:") && line.contains("lake file://"),
        "{line}"
    );
    let (worker, line) = start(
        folder.path(),
        &["worker", "--master", &url(&line), "--work-dir", "work"],
    );
    assert!(line.starts_with("worker is at http://127.0.0.1:"), "{line}");
    for mut process in [worker, master] {
        process.terminate();
        let ended = process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.errors().is_empty(), "{ended:?}");
    }
}

#[test]
fn a_worker_waits_for_its_master_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let master = format!("http://127.0.0.1:{}", crate::drumline::closed_port());
    let (mut worker, _) = start(
        folder.path(),
        &["worker", "--master", &master, "--work-dir", "work"],
    );
    let said = BufReader::new(worker.child().stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("waiting") && line.contains(&master));
    assert!(said.is_some());
    worker.terminate();
    assert_eq!(worker.end().code, Some(0));
}

#[test]
fn a_child_ends_when_its_parent_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, _) = start(
        folder.path(),
        &[
            "master",
            "--listen",
            "127.0.0.1:0",
            "--lake",
            "lake",
            "--state-dir",
            "state",
            "--exit-with-parent",
        ],
    );
    drop(master.child().stdin.take());
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn a_state_folder_belongs_to_one_master() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "master",
        "--listen",
        "127.0.0.1:0",
        "--lake",
        "lake",
        "--state-dir",
        "state",
    ];
    let (_first, _) = start(folder.path(), &arguments);
    let second = run(folder.path(), &arguments);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.errors()[0].contains("state"), "{second:?}");
}
