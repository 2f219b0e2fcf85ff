//! `drumline doctor` sees what is wrong, and names the right that is missing.

use std::process::{Command, Output};

use drumline_testkit::cluster::drumline;
use drumline_testkit::gcs::{Effect, Gcs, Operation};
use drumline_testkit::{Kafka, free_port};
use serde_json::Value;

fn doctor(gcs: &Gcs, arguments: &[&str]) -> (Output, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(drumline())
        .args(["doctor", "-o", "json"])
        .args(arguments)
        .env_remove("DRUMLINE_MASTER")
        .envs(gcs.environment())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let found = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let found = found.collect();
    (output, found)
}

fn bad(found: &[Value]) -> Vec<(&str, &str)> {
    let bad = found.iter().filter(|finding| finding["state"] == "bad");
    bad.map(|finding| {
        (
            finding["what"].as_str().unwrap(),
            finding["advice"].as_str().unwrap(),
        )
    })
    .collect()
}

#[test]
fn what_is_well_is_said_to_be_and_nothing_is_left_behind() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("events", 2)]).unwrap();
    let (output, found) = doctor(
        &gcs,
        &["--lake", "gs://bucket/lake", "--brokers", &kafka.brokers()],
    );
    assert!(output.status.success(), "{output:?}");
    assert!(bad(&found).is_empty(), "{found:?}");
    for what in [
        "lake commits",
        "lake delete",
        "lake upload in parts",
        "clock",
        "kafka",
        "disk",
    ] {
        assert!(
            found.iter().any(|finding| finding["what"] == what),
            "no {what} in {found:?}"
        );
    }
    assert!(gcs.keys("bucket", "").is_empty());
}

#[test]
fn a_missing_right_is_named_with_who_can_grant_it() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let refused = gcs.faults().plant(Effect::StatusBefore(403), 99, |call| {
        call.operation == Operation::Delete
    });
    let (output, found) = doctor(&gcs, &["--lake", "gs://bucket/lake"]);
    assert!(refused.fired() > 0);
    assert_eq!(output.status.code(), Some(1));
    let bad = bad(&found);
    assert_eq!(bad.len(), 1, "{found:?}");
    assert_eq!(bad[0].0, "lake delete");
    assert!(
        bad[0].1.contains("storage.objects.delete")
            && bad[0].1.contains("roles/storage.objectUser"),
        "{bad:?}"
    );
}

#[test]
fn what_is_not_there_is_bad() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let (output, found) = doctor(
        &gcs,
        &[
            "--lake",
            "gs://other/lake",
            "--brokers",
            &nobody,
            "--master",
            &nobody,
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let what: Vec<&str> = bad(&found).into_iter().map(|(what, _)| what).collect();
    assert_eq!(what, ["lake create", "kafka", "master"], "{found:?}");
}
