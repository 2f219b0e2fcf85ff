//! The README's first command, as a newcomer runs it, and its questions on one process and on many.

use std::path::Path;
use std::process::{Command, Stdio};

use drumline_testkit::cluster::{Options, drumline, rows};
use drumline_testkit::streams::root;
use drumline_testkit::{Cluster, Gcs, Kafka};

use crate::consumer::assert_bare_folders_hold_the_example;

/// Processes whose command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}

fn run_demo(folder: &Path, more: &[&str], environment: Vec<(String, String)>) -> String {
    let output = Command::new(drumline())
        .args(["demo", "--port", "0", "--data-dir"])
        .arg(folder)
        .args(more)
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_answers_from_every_event_and_leaves_no_process() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let answers = run_demo(&folder, &[], Vec::new());
    for count in ["8056", "6820", "182"] {
        assert!(answers.contains(count), "no {count} in {answers}");
    }
    assert!(answers.contains("Björk"), "{answers}");
    assert_bare_folders_hold_the_example(&folder.join("lake"));
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.join("work").exists(), "scratch space is left");

    let cluster = Cluster::start(Options {
        lake: Some(folder.join("lake").display().to_string()),
        ..Options::default()
    })
    .unwrap();
    assert_same_answers_on_many(&cluster);
    assert_the_example_program_agrees(&cluster);
}

#[test]
fn the_demo_on_real_kafka_and_google_cloud_storage_counts_the_same_again_and_again() {
    let kafka = Kafka::start().unwrap();
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let brokers = kafka.brokers();
    let real = ["--brokers", &brokers, "--lake", "gs://bucket/demo"];
    let first = run_demo(&folder, &real, gcs.environment());
    for count in ["8056", "6820", "182"] {
        assert!(first.contains(count), "no {count} in {first}");
    }
    // The topics hold the events already, and so does the lake.
    let second = run_demo(&folder, &real, gcs.environment());
    assert_eq!(first, second);
    gcs.export("bucket", "demo/", place.path()).unwrap();
    assert_bare_folders_hold_the_example(&place.path().join("demo"));
    assert_eq!(processes_of(&folder), Vec::<String>::new());
}

/// The SDK's example, which ships as a program of its own, against the same question in SQL.
fn assert_the_example_program_agrees(cluster: &Cluster) {
    let program = drumline().with_file_name("examples").join("top_artists");
    assert!(
        program.exists(),
        "{} is missing: `cargo build -p drumline-client --examples` makes it",
        program.display()
    );
    let output = Command::new(program)
        .env("DRUMLINE_MASTER", cluster.url())
        .env("DRUMLINE_TOKEN", cluster.token().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let sql = "SELECT artist, count(*) AS listens, count(DISTINCT \"userId\") AS listeners \
               FROM listen_events WHERE artist IS NOT NULL \
               GROUP BY artist ORDER BY listens DESC, artist LIMIT 10";
    let expected = cluster.sql(sql).unwrap();
    assert_eq!((shown.len(), expected.len()), (10, 10), "{table}");
    for (shown, row) in shown.iter().zip(&expected) {
        let (listens, listeners) = (row["listens"].to_string(), row["listeners"].to_string());
        assert_eq!(
            shown[..3],
            [row["artist"].as_str().unwrap(), &listens, &listeners],
            "{table}"
        );
        assert!(shown[3].parse::<f64>().unwrap() > 0.0, "{table}");
    }
}

/// Every shipped question: in place, which is one process, against all stages on all workers. The
/// questions order their rows whole, so the rows are compared one by one.
fn assert_same_answers_on_many(cluster: &Cluster) {
    let text = std::fs::read_to_string(root().join("examples/beatlytica/questions.sql")).unwrap();
    let questions: Vec<&str> = text
        .split(';')
        .map(str::trim)
        .filter(|question| question.contains("SELECT"))
        .collect();
    assert!(questions.len() >= 5, "{text}");
    for question in questions {
        let ask = |settings: &[&str]| {
            let arguments = ["sql", "--quiet", "-o", "json", "-c", question];
            rows(&cluster.run(&[&arguments, settings].concat()).unwrap()).unwrap()
        };
        let one = ask(&[]);
        assert!(!one.is_empty(), "{question}");
        assert_eq!(
            one,
            ask(&["--settings", "drumline.bytes_per_task=1"]),
            "{question}"
        );
    }
}
