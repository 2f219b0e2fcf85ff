//! Who is let in to a cluster of this machine, and how certificates are made. Encrypted clusters are tested in
//! `testkit`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::cluster::{Running, start, url};
use crate::drumline::{Ended, command, end, run};

/// A master whose user's home is `folder`.
fn master(folder: &Path) -> (Running, String) {
    let (master, line) = start(
        folder,
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
    (master, url(&line))
}

/// As a user with another home.
fn stranger(folder: &Path, home: &Path, arguments: &[&str]) -> Ended {
    let mut command = command(folder, arguments);
    command.env("HOME", home);
    end(command.spawn().unwrap())
}

#[test]
fn the_masters_user_is_let_in_without_further_ado_and_others_are_not() {
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_master, url) = master(folder.path());
    // Without workers: a statement would wait for one.
    let look = ["stream", "list", "-o", "json", "--master", &url];
    let ended = run(folder.path(), &look);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let by_name = url.replace("127.0.0.1", "localhost");
    let ended = run(folder.path(), &["stream", "list", "--master", &by_name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let ended = stranger(folder.path(), home.path(), &look);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors()[0].contains("needs a token"), "{ended:?}");
    assert!(ended.stderr.contains("DRUMLINE_TOKEN_FILE"), "{ended:?}");
    for file in ["token", "worker-token", "tokens.json", "seal.key"] {
        let mode = fs::metadata(folder.path().join("state").join(file)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_token_lets_in_until_it_is_revoked_wherever_it_is_named() {
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_master, url) = master(folder.path());
    let made = run(
        folder.path(),
        &[
            "token",
            "create",
            "--name",
            "ann",
            "--role",
            "submit",
            "--expires",
            "1h",
            "--master",
            &url,
        ],
    );
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.starts_with("drl_") && made.stdout.lines().count() == 1);
    assert!(!made.stderr.contains(made.stdout.trim()));
    let file = home.path().join("ann.token");
    fs::write(&file, &made.stdout).unwrap();

    let look = ["stream", "list", "--master", &url];
    let named = |name: &str, value: &str| {
        let mut command = command(folder.path(), &look);
        command.env("HOME", home.path()).env(name, value);
        end(command.spawn().unwrap())
    };
    let path = file.display().to_string();
    let lets_in = |expected: i32| {
        let by_flag = [&look[..], &["--token-file", &path]].concat();
        fs::write(
            folder.path().join("drumline.toml"),
            format!("[client]\ntoken_file = \"{path}\"\n"),
        )
        .unwrap();
        let by_config = stranger(folder.path(), home.path(), &look);
        fs::remove_file(folder.path().join("drumline.toml")).unwrap();
        for ended in [
            stranger(folder.path(), home.path(), &by_flag),
            named("DRUMLINE_TOKEN_FILE", &path),
            named("DRUMLINE_TOKEN", made.stdout.trim()),
            by_config,
        ] {
            assert_eq!(ended.code, Some(expected), "{ended:?}");
        }
    };
    lets_in(0);
    let id = made.stdout.split('_').nth(1).unwrap();
    let list = run(
        folder.path(),
        &["token", "list", "-o", "json", "--master", &url],
    );
    let entry = list.stdout.lines().find(|line| line.contains(id)).unwrap();
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    assert_eq!(
        (&entry["name"], &entry["state"]),
        (&"ann".into(), &"active".into())
    );
    let refused = named("DRUMLINE_TOKEN", "drl_nonsense");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let revoked = run(folder.path(), &["token", "revoke", id, "--master", &url]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    lets_in(1);
}

#[test]
fn a_master_that_was_killed_is_not_looked_for_at_its_old_address() {
    let folder = tempfile::tempdir().unwrap();
    let (master, url) = master(folder.path());
    let clusters = folder.path().join(".local/state/drumline/clusters");
    assert_eq!(fs::read_dir(&clusters).unwrap().count(), 1);
    // SIGKILL: the entry stays behind, and must not send a token to whoever listens there now.
    drop(master);
    assert_eq!(fs::read_dir(&clusters).unwrap().count(), 1);
    let address = url.trim_start_matches("http://");
    let listener = std::net::TcpListener::bind(address).unwrap();
    let heard = std::thread::spawn(move || {
        use std::io::Read as _;
        let (mut stream, _) = listener.accept().unwrap();
        let wait = Some(std::time::Duration::from_secs(2));
        stream.set_read_timeout(wait).unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    });
    let ended = run(folder.path(), &["stream", "list", "--master", &url]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let token = fs::read_to_string(folder.path().join("state/token")).unwrap();
    assert!(!heard.join().unwrap().contains(token.trim()));
}

#[test]
fn certificates_are_made_once_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["init", "--name", "lake.example"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.contains("lake.example") && made.stdout.contains("ca.key"));
    let files = || -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder.path().join("drumline-tls"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    assert_eq!(before.len(), 6);
    let again = run(folder.path(), &["init"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.errors()[0].contains("exists already"), "{again:?}");
    assert_eq!(files(), before);
    let wrong = run(
        folder.path(),
        &["init", "--dir", "other", "--name", "http://x"],
    );
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(!folder.path().join("other").exists());
}
