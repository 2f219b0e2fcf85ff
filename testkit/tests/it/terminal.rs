//! What a person sees on a terminal while a job runs, and what a pipe must not get.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use drumline_testkit::Cluster;
use drumline_testkit::cluster::{Options, drumline};

const QUERY: &str = "SELECT count(*) AS buckets FROM (SELECT a.bucket, sum(a.n), count(DISTINCT b.text) \
     FROM numbers a JOIN numbers b ON a.n = b.n GROUP BY a.bucket)";

/// Braille patterns: what spinners are drawn with.
const SPINNER: std::ops::RangeInclusive<char> = '\u{2800}'..='\u{28ff}';

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster
        .sql(
            "CREATE TABLE numbers AS SELECT value AS n, value % 1000 AS bucket, \
             md5(CAST(value AS varchar)) AS text FROM generate_series(1, 300000)",
        )
        .unwrap();
    cluster
}

/// Runs a command line under script(1), which gives it a terminal; everything it drew.
fn on_a_terminal(cluster: &Cluster, arguments: &str) -> String {
    let line = format!(
        "stty cols 120 rows 40; '{}' {arguments}",
        drumline().display()
    );
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("DRUMLINE_MASTER", cluster.url())
        .env("DRUMLINE_TOKEN", cluster.token().unwrap())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{drawn}");
    drawn
}

#[test]
fn a_terminal_shows_stages_and_tasks_and_a_pipe_does_not() {
    let cluster = cluster();
    // Every stage on both workers, however small the table is.
    let arguments = format!("sql --settings drumline.bytes_per_task=1 -o csv -c \"{QUERY}\"");
    let drawn = on_a_terminal(&cluster, &arguments);
    for part in [
        "SELECT count(*) AS buckets",
        "stage 1",
        "stage 2",
        "/2 tasks",
        "on 2 workers",
    ] {
        assert!(drawn.contains(part), "no {part:?} in {drawn:?}");
    }
    // It stays alive until the answer comes: the spinner turns.
    let turns: BTreeSet<char> = drawn
        .chars()
        .filter(|char| SPINNER.contains(char))
        .collect();
    assert!(turns.len() >= 3, "nothing moves: {drawn:?}");
    // What stays is the answer and one line about it.
    let rest = drawn.rsplit("\u{1b}[2K").next().unwrap_or_default();
    assert!(
        rest.contains("1000") && !rest.contains("tasks"),
        "{drawn:?}"
    );

    let quiet = on_a_terminal(&cluster, &format!("{arguments} --quiet"));
    assert!(
        !quiet.contains("stage") && !quiet.contains('\u{1b}'),
        "{quiet:?}"
    );

    let piped = cluster
        .run(&[
            "sql",
            "--settings",
            "drumline.bytes_per_task=1",
            "-o",
            "csv",
            "-c",
            QUERY,
        ])
        .unwrap();
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(
        !said.contains("stage") && !said.contains("tasks"),
        "{said:?}"
    );
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), "buckets\n1000\n");
}
