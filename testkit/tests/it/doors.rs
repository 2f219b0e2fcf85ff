//! A cluster of real processes behind TLS, and everybody who should not get in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use drumline_testkit::cluster::drumline;
use drumline_testkit::{Process, poll};

const UP_WITHIN: Duration = Duration::from_secs(60);

/// A master and two workers with certificates of their own authority, each of another home.
struct Secured {
    master: Process,
    workers: Vec<Process>,
    url: String,
    // Last, so that processes end before their folders go.
    folder: tempfile::TempDir,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = run(folder.path(), "admin", &["init", "--dir", "tls"]);
        assert!(made.status.success(), "{}", said(&made));
        let mut master = start(
            folder.path(),
            "master",
            &[
                "master",
                "--tls=tls",
                "--listen=127.0.0.1:0",
                "--lake=lake",
                "--state-dir=state",
            ],
        );
        let url = announced(&mut master, "master is at ");
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        let mut secured = Self {
            master,
            workers: Vec::new(),
            url,
            folder,
        };
        for name in ["w1", "w2"] {
            let worker = secured.worker(name, "tls");
            secured.workers.push(worker);
        }
        for worker in &mut secured.workers {
            worker.wait_until("a member", UP_WITHIN, || true).unwrap();
        }
        poll("two members", UP_WITHIN, || {
            let joined = secured
                .workers
                .iter()
                .filter(|worker| worker.log().contains("joined the cluster"));
            Ok((joined.count() == 2).then_some(()))
        })
        .unwrap();
        secured
    }

    fn worker(&self, name: &str, tls: &str) -> Process {
        start(
            self.folder.path(),
            name,
            &[
                "worker",
                &format!("--tls={tls}"),
                &format!("--id={name}"),
                &format!("--master={}", self.url),
                "--listen=127.0.0.1:0",
                "--cores=1",
                &format!("--work-dir=work-{name}"),
            ],
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As a user elsewhere: authority and token are named, nothing is found.
    fn user(&self, token: &str, arguments: &[&str]) -> Output {
        let (ca, token) = (self.path("tls/ca.pem"), self.path(token));
        let named = [
            format!("--master={}", self.url),
            format!("--ca={}", ca.display()),
            format!("--token-file={}", token.display()),
        ];
        let named = named.iter().map(String::as_str);
        let arguments: Vec<&str> = arguments.iter().copied().chain(named).collect();
        run(self.folder.path(), "elsewhere", &arguments)
    }

    fn create(&self, role: &str, expires: &str) -> String {
        let made = self.user(
            "state/token",
            &[
                "token",
                "create",
                "--name",
                role,
                "--role",
                role,
                "--expires",
                expires,
            ],
        );
        assert!(made.status.success(), "{}", said(&made));
        let file = format!("{role}-{expires}.token");
        std::fs::write(self.path(&file), &made.stdout).unwrap();
        file
    }

    fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// A worker's own port.
    fn worker_port(&self) -> String {
        let log = self.workers[0].log();
        let url = log
            .split_whitespace()
            .find(|word| word.starts_with("https://127.0.0.1:"))
            .unwrap();
        let port = url.trim_end_matches(',').rsplit(':').next().unwrap();
        port.to_owned()
    }
}

fn command(folder: &Path, home: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(drumline());
    for name in ["TOKEN", "TOKEN_FILE", "CA", "TLS", "MASTER"] {
        command.env_remove(format!("DRUMLINE_{name}"));
    }
    let home = folder.join(format!("home-{home}"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("HOME", &home)
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, home: &str, arguments: &[&str]) -> Output {
    command(folder, home, arguments).output().unwrap()
}

fn start(folder: &Path, name: &str, arguments: &[&str]) -> Process {
    Process::start(name, command(folder, name, arguments), &folder.join("logs")).unwrap()
}

/// The URL in the line that a process begins with.
fn announced(process: &mut Process, before: &str) -> String {
    poll(before, UP_WITHIN, || {
        let log = process.log();
        let Some((_, rest)) = log.split_once(before) else {
            anyhow::ensure!(process.is_running(), "{}", process.log_tail());
            return Ok(None);
        };
        let url = rest.split(',').next().unwrap_or_default();
        Ok(Some(url.to_owned()))
    })
    .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SQL: &str = "SET drumline.bytes_per_task = 1; \
     CREATE TABLE numbers AS SELECT value AS n, value % 100 AS bucket FROM generate_series(1, 200000); \
     SELECT count(*) AS buckets, sum(total) AS total FROM \
     (SELECT bucket, sum(n) AS total FROM numbers GROUP BY bucket)";

/// curl, as anybody has it: status and body.
fn curl(arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["-s", "-m", "10", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "000"));
    (status.to_owned(), body.to_owned())
}

#[test]
fn an_encrypted_cluster_answers_its_users_and_nobody_else() {
    let cluster = Secured::start();

    // Its own user, and a user elsewhere with a token: rows cross between workers over mutual TLS.
    let answer = cluster.user("state/token", &["sql", "--facts", "-o", "json", "-c", SQL]);
    assert!(answer.status.success(), "{}", said(&answer));
    let rows = String::from_utf8(answer.stdout.clone()).unwrap();
    let row: serde_json::Value = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert_eq!(row["buckets"], 100, "{rows}");
    assert_eq!(row["total"], 200_000u64 * 200_001 / 2, "{rows}");
    let facts = said(&answer);
    assert!(
        facts.contains("w1") && facts.contains("w2"),
        "both workers ran: {facts}"
    );
    let found = run(
        cluster.folder.path(),
        "master",
        &["sql", "-c", "SELECT 1", "--master", &cluster.url],
    );
    assert!(
        found.status.success(),
        "the master's user finds all by itself: {}",
        said(&found)
    );

    // Roles, an expired token and a revoked one.
    let (read, worker) = (cluster.create("read", "1h"), cluster.create("worker", "1h"));
    let looks = cluster.user(&read, &["stream", "list"]);
    assert!(looks.status.success(), "{}", said(&looks));
    for (token, arguments, says) in [
        (&read, &["sql", "-c", "SELECT 1"][..], "role submit"),
        (&read, &["token", "list"], "role admin"),
        (&worker, &["stream", "list"], "role read"),
    ] {
        let refused = cluster.user(token, arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(said(&refused).contains(says), "{}", said(&refused));
    }
    let short = cluster.create("submit", "1s");
    let is_over = || {
        let answer = cluster.user(&short, &["sql", "-c", "SELECT 1"]);
        Ok(said(&answer).contains("has expired").then_some(()))
    };
    poll("its token expires", Duration::from_secs(30), is_over).unwrap();
    let text = std::fs::read_to_string(cluster.path(&read)).unwrap();
    let id = text.split('_').nth(1).unwrap();
    let revoked = cluster.user("state/token", &["token", "revoke", id]);
    assert!(revoked.status.success(), "{}", said(&revoked));
    let refused = cluster.user(&read, &["stream", "list"]);
    assert!(said(&refused).contains("is revoked"), "{}", said(&refused));

    // No token; no authority; another authority; no TLS.
    std::fs::write(cluster.path("none.token"), "nothing").unwrap();
    let refused = cluster.user("none.token", &["stream", "list"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let stranger = |arguments: &[&str]| run(cluster.folder.path(), "stranger", arguments);
    let refused = stranger(&["sql", "-c", "SELECT 1", "--master", &cluster.url]);
    assert!(said(&refused).contains("--ca"), "{}", said(&refused));
    let made = stranger(&["init", "--dir", "other"]);
    assert!(made.status.success());
    let refused = stranger(&[
        "sql",
        "-c",
        "SELECT 1",
        "--master",
        &cluster.url,
        "--ca",
        "other/ca.pem",
    ]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let plain = cluster.url.replace("https", "http");
    let refused = stranger(&["sql", "-c", "SELECT 1", "--master", &plain]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));

    // What the log tells of it, and what it does not.
    let log = cluster.master.log();
    for reason in ["wrong_role", "expired", "revoked"] {
        assert!(
            log.contains(&format!("reason=\"{reason}\"")),
            "{reason}: {log}"
        );
    }
    for secret in ["state/token", "state/worker-token", &read, &worker] {
        let text = std::fs::read_to_string(cluster.path(secret)).unwrap();
        let secret = text.trim().splitn(3, '_').nth(2).unwrap();
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[test]
fn members_of_an_encrypted_cluster_are_known_by_the_role_of_their_certificates() {
    let cluster = Secured::start();
    let at = |name: &str| cluster.path(name).display().to_string();
    let (ca, master, port) = (at("tls/ca.pem"), cluster.port(), cluster.worker_port());
    let token = std::fs::read_to_string(cluster.path("state/token")).unwrap();
    let bearer = format!("authorization: Bearer {}", token.trim());
    let health = format!("https://127.0.0.1:{master}/healthz");
    let jobs = format!("https://127.0.0.1:{master}/nothing/here");

    // A browser needs no certificate, and a token for what is no public page.
    assert_eq!(curl(&["--cacert", &ca, &health]).0, "200");
    let (status, body) = curl(&["--cacert", &ca, &jobs]);
    assert_eq!(status, "401");
    assert!(
        body.contains("\"message\"") && body.contains("\"hint\""),
        "{body}"
    );
    assert_eq!(curl(&["--cacert", &ca, "-H", &bearer, &jobs]).0, "404");
    assert_eq!(curl(&["--cacert", &ca, "--http1.1", &health]).0, "200");
    assert_eq!(
        curl(&["--cacert", &ca, "--tls-max", "1.1", &health]).0,
        "000"
    );

    // A worker's port: no certificate, no connection; a worker's certificate, no tasks.
    let method = |name: &str| format!("https://drumline-worker:{port}/{name}");
    let resolved = format!("drumline-worker:{port}:127.0.0.1");
    let tasks = method("drumline.v1.Tasks/Run");
    let rows = method("arrow.flight.protocol.FlightService/DoGet");
    let call = |url: &str, role: Option<&str>| {
        let mut arguments = vec![
            "--cacert".to_owned(),
            ca.clone(),
            "--resolve".to_owned(),
            resolved.clone(),
            "--http2".to_owned(),
            "-D-".to_owned(),
            "-H".to_owned(),
            "content-type: application/grpc".to_owned(),
            "-H".to_owned(),
            bearer.clone(),
            "--data-binary".to_owned(),
            "".to_owned(),
        ];
        if let Some(role) = role {
            arguments.extend(["--cert".to_owned(), at(&format!("tls/{role}.pem"))]);
            arguments.extend(["--key".to_owned(), at(&format!("tls/{role}.key"))]);
        }
        arguments.push(url.to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        curl(&arguments)
    };
    assert_eq!(call(&tasks, None).0, "000");
    // The admin's token counts for nothing here.
    let (_, said) = call(&tasks, Some("worker"));
    assert!(said.contains("grpc-status: 16"), "{said}");
    let no_token = |url: &str, role: &str| {
        let (certificate, key) = (
            at(&format!("tls/{role}.pem")),
            at(&format!("tls/{role}.key")),
        );
        curl(&[
            "--cacert",
            &ca,
            "--resolve",
            &resolved,
            "--http2",
            "-D-",
            "-H",
            "content-type: application/grpc",
            "--data-binary",
            "",
            "--cert",
            &certificate,
            "--key",
            &key,
            url,
        ])
        .1
    };
    let said = no_token(&tasks, "worker");
    assert!(said.contains("grpc-status: 7"), "{said}");
    // It could not pose as the master.
    let posing = tasks.replace("drumline-worker", "127.0.0.1");
    assert_eq!(no_token(&posing, "worker"), "");
    let said = no_token(&tasks, "master");
    assert!(
        !said.contains("grpc-status: 7") && !said.contains("grpc-status: 16"),
        "{said}"
    );
    let said = no_token(&rows, "worker");
    assert!(
        !said.contains("grpc-status: 7") && !said.contains("grpc-status: 16"),
        "{said}"
    );

    // Another authority's worker does not get in, and one without certificates does not start.
    let made = run(
        cluster.folder.path(),
        "stranger",
        &["init", "--dir", "other"],
    );
    assert!(made.status.success());
    let stranger = cluster.worker("stranger", "other");
    poll("a reason", UP_WITHIN, || {
        let log = stranger.log();
        Ok((log.contains("waiting for the master") && log.contains("certificate")).then_some(()))
    })
    .unwrap();
    assert!(!stranger.log().contains("joined the cluster"));
    let bare = run(
        cluster.folder.path(),
        "bare",
        &["worker", "--master", &cluster.url, "--work-dir=work-bare"],
    );
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");

    // New certificates are taken up without a restart.
    let renewed = run(
        cluster.folder.path(),
        "admin",
        &["init", "--renew", "--dir", "tls"],
    );
    assert!(renewed.status.success());
    poll("new certificates in use", UP_WITHIN, || {
        let all = cluster.workers.iter().chain([&cluster.master]);
        let done = all.filter(|process| process.log().contains("certificates changed"));
        Ok((done.count() == 3).then_some(()))
    })
    .unwrap();
    let answer = cluster.user("state/token", &["sql", "-q", "-o", "json", "-c", SQL]);
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stderr)
    );
}

#[test]
fn an_address_that_others_reach_is_refused_without_protection() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["master", "worker"] {
        let refused = run(folder.path(), "x", &[command, "--listen", "0.0.0.0:0"]);
        assert_eq!(refused.status.code(), Some(2), "{command}");
        for flag in ["--tls", "--insecure-no-tls", "--insecure-no-authentication"] {
            assert!(
                said(&refused).contains(flag),
                "{command}: {}",
                said(&refused)
            );
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
