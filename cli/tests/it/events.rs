//! `replay` and `generate` to folders and stdout.

use std::fs;
use std::path::Path;

use crate::drumline::run;

const TOPICS: [&str; 3] = ["listen_events", "page_view_events", "auth_events"];

fn lines(folder: &Path, topic: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join(format!("{topic}.jsonl"))).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    TOPICS
        .iter()
        .map(|topic| fs::read(folder.join(format!("{topic}.jsonl"))).unwrap())
        .collect()
}

#[test]
fn the_shipped_events_are_replayed_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["replay", "--output", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.is_empty());
    let out = folder.path().join("out");
    for (topic, count) in TOPICS.iter().zip([6_820, 8_056, 182]) {
        let events = lines(&out, topic);
        assert_eq!(events.len(), count, "{topic}");
        let times: Vec<i64> = events
            .iter()
            .map(|event| event["ts"].as_i64().unwrap())
            .collect();
        assert!(times.is_sorted(), "{topic}");
        assert!(
            ended.stderr.contains(&format!("{topic} {count}")),
            "{ended:?}"
        );
    }
}

#[test]
fn a_replay_never_writes_over_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("listen_events.jsonl"), "mine\n").unwrap();
    let ended = run(folder.path(), &["replay", "--output", "."]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        fs::read_to_string(folder.path().join("listen_events.jsonl")).unwrap(),
        "mine\n"
    );
}

#[test]
fn a_log_that_does_not_hold_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.json"), "not json\n").unwrap();
    let ended = run(folder.path(), &["replay", "bad.json", "--output", "out"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.errors()[0].contains("bad.json") && ended.errors()[0].contains('1'),
        "{ended:?}"
    );
    assert!(
        !folder.path().join("out").exists(),
        "nothing is written of files that do not hold"
    );
}

#[test]
fn quiet_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["replay", "--quiet", "--output", "out"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn the_same_seed_generates_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (out, seed) in [("a", "7"), ("b", "7"), ("c", "8")] {
        let ended = run(
            folder.path(),
            &[
                "generate", "--events", "5000", "--seed", seed, "--output", out,
            ],
        );
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let count: usize = TOPICS
        .iter()
        .map(|topic| lines(&folder.path().join("a"), topic).len())
        .sum();
    assert_eq!(count, 5_000);
    assert_eq!(
        bytes(&folder.path().join("a")),
        bytes(&folder.path().join("b"))
    );
    assert_ne!(
        bytes(&folder.path().join("a")),
        bytes(&folder.path().join("c"))
    );
}

#[test]
fn stdout_gets_one_json_object_per_event_with_its_topic() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(
        folder.path(),
        &["generate", "--events", "100", "--output", "-"],
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 100);
    for event in events {
        assert!(
            TOPICS.contains(&event["topic"].as_str().unwrap()),
            "{event}"
        );
        assert!(
            event["value"]["ts"].is_i64() && event["key"].is_string(),
            "{event}"
        );
    }
}

#[test]
fn a_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    let ended = run(
        folder.path(),
        &[
            "generate", "--events", "51", "--rate", "50", "--output", "-",
        ],
    );
    assert_eq!(ended.stdout.lines().count(), 51);
    assert!(
        began.elapsed() >= std::time::Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut child = crate::drumline::command(
        folder.path(),
        &["generate", "--events", "2000000", "--output", "-"],
    )
    .spawn()
    .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let ended = crate::drumline::end(child);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors().is_empty(), "{ended:?}");
}

#[test]
fn brokers_that_do_not_answer_are_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let brokers = format!("127.0.0.1:{}", crate::drumline::closed_port());
    let ended = run(folder.path(), &["replay", "--brokers", &brokers]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(ended.errors().len(), 1, "{ended:?}");
    assert!(ended.errors()[0].contains(&brokers), "{ended:?}");
}

#[test]
fn settings_for_kafka_go_with_brokers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let brokers = format!("127.0.0.1:{}", crate::drumline::closed_port());
    let settings = [
        "--kafka",
        "socket.timeout.ms=1000",
        "--topics-partitions",
        "2",
    ];
    let to_kafka = [&["replay", "--brokers", &brokers], &settings[..]].concat();
    let ended = run(folder.path(), &to_kafka);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let to_files = [&["replay", "--output", "out"], &settings[..]].concat();
    let ended = run(folder.path(), &to_files);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--kafka"), "{ended:?}");
}
