//! What is refused before anything is done, and how it is said.

use std::fs;

use crate::drumline::{closed_port, run};

#[test]
fn wrong_arguments_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["sql", "-o", "yaml"][..],
        &["sql", "-c", "SELECT 1", "-f", "x.sql"],
        &["sql", "-c", "SELECT 1", "--settings", "no-equals-sign"],
        &["sql", "-f", "missing.sql"],
        &["sql", "-c", "  "],
        &["submit"],
        &["replay"],
        &["replay", "--output", "a", "--brokers", "b:1"],
        &["generate", "--output", "a"],
        &["generate", "--output", "a", "--rate", "0"],
        &["up", "--workers", "0"],
        &["master", "--listen", "nowhere"],
        &["stream", "apply", "missing.toml"],
        &["dance"],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn help_and_version_exit_0() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        run(folder.path(), &["--version"]).stdout,
        format!("drumline {}\n", env!("CARGO_PKG_VERSION"))
    );
    for command in [
        "demo", "up", "sql", "submit", "stream", "init", "token", "replay", "generate", "master",
        "worker", "apps", "jobs", "stages", "tasks", "workers", "cancel", "logs",
    ] {
        let ended = run(folder.path(), &[command, "--help"]);
        assert_eq!(ended.code, Some(0), "{command}");
        assert!(
            ended.stdout.contains("Examples:"),
            "{command}: {}",
            ended.stdout
        );
        assert!(
            !ended.stdout.contains("--exit-with-parent"),
            "{command}: {}",
            ended.stdout
        );
    }
}

#[test]
fn a_master_that_is_not_there_is_one_line_and_exit_3() {
    let folder = tempfile::tempdir().unwrap();
    let master = format!("http://127.0.0.1:{}", closed_port());
    for arguments in [
        &["sql", "-c", "SELECT 1", "--master", &master][..],
        &["stream", "list", "--master", &master],
        &["jobs", "--master", &master],
        &["jobs", "--watch", "--master", &master],
        &["cancel", "x", "--master", &master],
        &["logs", "--master", &master],
        &["stream", "status", "x", "--master", &master],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}: {ended:?}");
        assert_eq!(ended.errors().len(), 1, "{ended:?}");
        assert!(ended.errors()[0].contains(&master), "{ended:?}");
        assert_eq!(
            ended.stderr.lines().count(),
            2,
            "an error and a hint: {ended:?}"
        );
        assert!(
            ended.stderr.lines().nth(1).unwrap().starts_with("hint: "),
            "{ended:?}"
        );
    }
}

#[test]
fn something_that_is_no_master_is_unreachable_too() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ended = run(
        folder.path(),
        &[
            "sql",
            "-c",
            "SELECT 1",
            "--master",
            &format!("127.0.0.1:{port}"),
        ],
    );
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn an_address_that_is_none_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(
        folder.path(),
        &["sql", "-c", "SELECT 1", "--master", "ftp://x"],
    );
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn the_environment_and_the_config_file_say_where_the_master_is() {
    let folder = tempfile::tempdir().unwrap();
    let (in_file, in_environment) = (closed_port(), closed_port());
    fs::write(
        folder.path().join("drumline.toml"),
        format!("[client]\nmaster = \"http://127.0.0.1:{in_file}\"\n"),
    )
    .unwrap();
    let ended = run(folder.path(), &["sql", "-c", "SELECT 1"]);
    assert!(ended.stderr.contains(&in_file.to_string()), "{ended:?}");

    let mut command = crate::drumline::command(folder.path(), &["sql", "-c", "SELECT 1"]);
    command.env(
        "DRUMLINE_MASTER",
        format!("http://127.0.0.1:{in_environment}"),
    );
    let ended = crate::drumline::end(command.spawn().unwrap());
    assert!(
        ended.stderr.contains(&in_environment.to_string()),
        "{ended:?}"
    );
}

#[test]
fn a_wrong_key_in_the_config_file_names_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("drumline.toml"),
        "[client]\nmastre = \"x\"\n",
    )
    .unwrap();
    let ended = run(folder.path(), &["sql", "-c", "SELECT 1"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.errors()[0].contains("drumline.toml") && ended.errors()[0].contains("mastre"),
        "{ended:?}"
    );
}

#[test]
fn a_stream_file_with_an_unknown_key_is_refused_before_a_master_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.toml"), "nam = \"x\"\n").unwrap();
    let master = format!("http://127.0.0.1:{}", closed_port());
    let ended = run(
        folder.path(),
        &["stream", "apply", "s.toml", "--master", &master],
    );
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.errors()[0].contains("s.toml") && ended.errors()[0].contains("nam"),
        "{ended:?}"
    );
}

#[test]
fn a_demo_leaves_a_folder_of_somebody_else_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("notes.txt"), "mine").unwrap();
    let ended = run(folder.path(), &["demo", "--data-dir", "mine"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(fs::read_dir(&mine).unwrap().count(), 1);
}
