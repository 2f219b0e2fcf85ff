//! Kafka to bare Parquet folders, exactly once: as it goes, and when a process is killed on the way.

use std::path::Path;
use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::outside::read_bare_folder;
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use drumline_testkit::{Cluster, Gcs, Kafka};

const PATIENCE: Duration = Duration::from_secs(120);
const FLUSH: Duration = Duration::from_millis(500);

/// What the issue promises of the shipped month, read without our log.
pub(crate) fn assert_bare_folders_hold_the_example(lake: &Path) {
    for (topic, rows, users) in [
        ("listen_events", 6_820, 96),
        ("page_view_events", 8_056, 97),
        ("auth_events", 182, 0),
    ] {
        let found = read_bare_folder(&lake.join(topic), &["userId"]).unwrap();
        assert_eq!(found.rows, rows, "{topic}: {found:?}");
        assert_eq!(found.twice, 0, "{topic}: {found:?}");
        assert!(found.misplaced.is_empty(), "{topic}: {found:?}");
        if users > 0 {
            assert_eq!(found.distinct["userId"], users, "{topic}: {found:?}");
        }
        if topic == "listen_events" {
            assert_eq!(found.hours, 544, "{found:?}");
        }
    }
}

fn broker() -> Kafka {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    kafka
}

fn assert_no_dead_letters(cluster: &Cluster) {
    let tables = cluster.sql("SHOW TABLES").unwrap();
    let has = tables
        .iter()
        .any(|row| row.to_string().contains("beatlytica_dead_letters"));
    if has {
        assert_eq!(
            cluster
                .number("SELECT count(*) FROM beatlytica_dead_letters")
                .unwrap(),
            0
        );
    }
}

#[test]
fn every_record_is_in_its_bare_hive_folder_once() {
    let kafka = broker();
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), FLUSH).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    cluster.wait_for_example(PATIENCE).unwrap();
    assert_bare_folders_hold_the_example(Path::new(cluster.lake()));
    assert_no_dead_letters(&cluster);
}

#[test]
fn a_worker_killed_while_consuming_loses_and_doubles_nothing() {
    let kafka = broker();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), FLUSH).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    cluster.wait_for_some("page_view_events", PATIENCE).unwrap();
    cluster.worker(0).unwrap().kill().unwrap();
    // More to do for the worker that is left.
    cluster.wait_for_example(PATIENCE).unwrap();
    assert_bare_folders_hold_the_example(Path::new(cluster.lake()));
    assert_no_dead_letters(&cluster);
}

#[test]
fn a_master_killed_while_consuming_loses_and_doubles_nothing() {
    let kafka = broker();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), FLUSH).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    cluster.wait_for_some("page_view_events", PATIENCE).unwrap();
    cluster.kill_master().unwrap();
    cluster.start_master().unwrap();
    cluster.wait_for_example(PATIENCE).unwrap();
    assert_bare_folders_hold_the_example(Path::new(cluster.lake()));
    assert_no_dead_letters(&cluster);
}

#[test]
fn a_broker_killed_while_consuming_loses_and_doubles_nothing() {
    let mut kafka = broker();
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), FLUSH).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    cluster.wait_for_some("page_view_events", PATIENCE).unwrap();
    kafka.restart().unwrap();
    cluster.wait_for_example(PATIENCE).unwrap();
    assert_bare_folders_hold_the_example(Path::new(cluster.lake()));
}

#[test]
fn a_lake_on_google_cloud_storage_holds_the_same() {
    let kafka = broker();
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let cluster = Cluster::start(Options {
        lake: Some("gs://bucket/lake".to_owned()),
        environment: gcs.environment(),
        ..Default::default()
    })
    .unwrap();
    cluster
        .apply_stream(&example_stream(&kafka.brokers(), FLUSH).unwrap())
        .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    cluster.wait_for_example(PATIENCE).unwrap();
    let users = "SELECT count(DISTINCT \"userId\") FROM listen_events";
    assert_eq!(cluster.number(users).unwrap(), 96);
    let folder = tempfile::tempdir().unwrap();
    gcs.export("bucket", "lake/", folder.path()).unwrap();
    assert_bare_folders_hold_the_example(&folder.path().join("lake"));
}
