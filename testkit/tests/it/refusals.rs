//! What cannot work is refused at once, by name, with a true exit code.

use std::process::Output;
use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::gcs::{Effect, Operation};
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use drumline_testkit::{Cluster, Gcs, Kafka, free_port};

const FLUSH: Duration = Duration::from_secs(1);

fn apply(cluster: &Cluster, text: &str) -> (Option<i32>, String) {
    let path = cluster.path("refused.toml");
    std::fs::write(&path, text).unwrap();
    let output = cluster
        .run(&["stream", "apply", path.to_str().unwrap()])
        .unwrap();
    (output.status.code(), errors(&output))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_stream_file_that_cannot_work_is_refused_at_apply() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    let good = example_stream(&kafka.brokers(), FLUSH).unwrap();

    let (code, said) = apply(&cluster, &format!("flsh_interval = \"1s\"\n{good}"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("refused.toml") && said.contains("flsh_interval"),
        "{said}"
    );

    let (code, said) = apply(
        &cluster,
        &good.replace("\"auth_events\"", "\"no_such_topic\""),
    );
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no_such_topic"), "{said}");

    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let (code, said) = apply(&cluster, &example_stream(&nobody, FLUSH).unwrap());
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&nobody), "{said}");

    assert!(
        cluster
            .run(&["stream", "list", "-o", "json"])
            .unwrap()
            .stdout
            .is_empty()
    );
}

#[test]
fn a_lake_that_cannot_be_written_is_refused_at_apply() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 1,
        lake: Some("gs://bucket/lake".to_owned()),
        environment: gcs.environment(),
        ..Default::default()
    })
    .unwrap();
    let forbidden = gcs
        .faults()
        .plant(Effect::StatusBefore(403), u64::MAX, |call| {
            matches!(call.operation, Operation::Put | Operation::BeginUpload)
        });
    let (code, said) = apply(&cluster, &example_stream(&kafka.brokers(), FLUSH).unwrap());
    assert!(matches!(code, Some(2 | 3)), "{code:?}: {said}");
    assert!(said.contains("gs://bucket/lake"), "{said}");
    assert!(forbidden.fired() > 0);
}

#[test]
fn a_master_that_is_not_there_is_unreachable() {
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let output = cluster
        .run(&["sql", "--master", &nobody, "-c", "SELECT 1"])
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains(&nobody), "{}", errors(&output));
}

#[test]
fn a_busy_port_is_named() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    let output = cluster
        .run(&[
            "master",
            "--listen",
            &address,
            "--state-dir",
            "other",
            "--lake",
            "other-lake",
        ])
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(errors(&output).contains(&address), "{}", errors(&output));
}

#[test]
fn a_mistyped_table_is_named_with_its_place_and_what_was_meant() {
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    cluster
        .sql("CREATE TABLE listens AS SELECT 1 AS n")
        .unwrap();
    let output = cluster
        .run(&["sql", "-c", "SELECT n\nFROM listsen"])
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let said = errors(&output);
    assert!(
        said.contains("listsen") && said.contains("listens"),
        "{said}"
    );
    assert!(said.contains('2'), "no line: {said}");
}
