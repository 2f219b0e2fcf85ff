//! A master that is killed and comes back: what it had acknowledged has happened, once.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use drumline_testkit::chaos::{self, Load};
use drumline_testkit::cluster::Options;
use drumline_testkit::gcs::{Effect, Gcs, Operation};
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use drumline_testkit::{Cluster, Kafka, Process, poll};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(120);

/// Begins a client's script; done at once, and told to who submitted it.
const FIRST: &str = "SET datafusion.execution.batch_size = 4096; ";

/// Waits until a client has been told that the first statement of its application is done.
fn wait_until_told(client: &Process) {
    poll("the client is told", PATIENCE, || {
        Ok(client.log().contains("batch_size is 4096").then_some(()))
    })
    .unwrap();
}

#[test]
fn a_master_killed_with_applications_and_a_stream_loses_and_doubles_nothing() {
    let kafka = chaos::example_broker().unwrap();
    let load = Load {
        applications: 40,
        within: Duration::from_secs(16),
    };
    // After two seconds: `cargo xtask chaos master` kills at any moment.
    let round = chaos::kill_master(2, load, &kafka).unwrap();
    println!("{round}");
    assert!(round.resumed > 0, "{round}");
}

#[test]
fn a_waiting_client_says_that_it_waits_and_gets_its_result() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let mut client = cluster
        .spawn(
            "client",
            &[
                "sql",
                "-o",
                "csv",
                "-c",
                &format!(
                    "{FIRST} CREATE TABLE t AS SELECT value AS n FROM generate_series(1, 3000); \
                     SELECT 'answer', count(*), sum(n) FROM t"
                ),
            ],
        )
        .unwrap();
    wait_until_told(&client);
    cluster.kill_master().unwrap();
    poll("the client notices", PATIENCE, || {
        Ok(client
            .log()
            .contains("lost the master, waiting for it…")
            .then_some(()))
    })
    .unwrap();
    cluster.start_master().unwrap();
    let status = client.wait(PATIENCE).unwrap();
    let said = client.log();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("the master is back"), "{said}");
    assert_eq!(said.matches("answer,3000,4501500").count(), 1, "{said}");
    let resumed =
        "SELECT count(*) FROM system.applications WHERE resumed = 1 AND state = 'succeeded'";
    assert_eq!(cluster.number(resumed).unwrap(), 1);
}

#[test]
fn a_result_that_was_handed_out_in_part_is_not_spliced() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let mut client = cluster
        .command()
        .args([
            "sql",
            "-o",
            "csv",
            "-c",
            "SELECT value FROM generate_series(1, 100000000)",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = client.stdout.take().unwrap();
    let mut some = [0; 4096];
    stdout.read_exact(&mut some).unwrap();
    cluster.kill_master().unwrap();
    cluster.start_master().unwrap();
    let rest = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let output = client.wait_with_output().unwrap();
    rest.join().unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("had been handed out"), "{said}");
    assert!(said.contains("run it again"), "{said}");
    let failed = "SELECT count(*) FROM system.applications WHERE state = 'failed' AND error_kind = 'retryable'";
    assert_eq!(cluster.number(failed).unwrap(), 1);
}

#[test]
fn what_was_cancelled_stays_cancelled() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let mut client = cluster
        .spawn(
            "client",
            &[
                "sql",
                "-c",
                &format!(
                    "{FIRST} CREATE TABLE t AS SELECT count(*) AS n FROM generate_series(1, 1000000) a, \
                     generate_series(1, 1000000) b"
                ),
            ],
        )
        .unwrap();
    wait_until_told(&client);
    client.signal(Signal::SIGINT).unwrap();
    assert_eq!(client.wait(PATIENCE).unwrap().code(), Some(130));
    cluster.kill_master().unwrap();
    cluster.start_master().unwrap();
    let states = cluster
        .sql("SELECT state FROM system.applications WHERE resumed > 0 OR state IN ('cancelled', 'succeeded')")
        .unwrap();
    let states: Vec<&str> = states
        .iter()
        .filter_map(|row| row["state"].as_str())
        .collect();
    assert_eq!(states, ["cancelled"]);
}

#[test]
fn losing_the_state_folder_loses_history_only() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    cluster.sql("CREATE TABLE t AS SELECT 7 AS n").unwrap();
    cluster
        .sql("CREATE VIEW v AS SELECT n + 1 AS n FROM t")
        .unwrap();
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    let stream = example_stream(&kafka.brokers(), Duration::from_secs(1));
    cluster.apply_stream(&stream.unwrap()).unwrap();
    let applications = "SELECT count(*) FROM system.applications WHERE state = 'succeeded'";
    assert!(cluster.number(applications).unwrap() >= 2);
    cluster.kill_master().unwrap();
    std::fs::remove_dir_all(cluster.path("state")).unwrap();
    cluster.start_master().unwrap();
    assert_eq!(cluster.number(applications).unwrap(), 0);
    assert_eq!(cluster.number("SELECT n FROM v").unwrap(), 8);
    let streams = cluster.run(&["stream", "list", "-o", "json"]).unwrap();
    let streams = String::from_utf8(streams.stdout).unwrap();
    assert!(streams.contains("beatlytica"), "{streams}");
}

/// A statement that takes some seconds, and one that looks at what it made.
fn work(table: &str) -> String {
    format!(
        "{FIRST} CREATE TABLE {table} AS SELECT count(*) AS n FROM generate_series(1, 30000) a, \
         generate_series(1, 30000) b; SELECT 'answer', n FROM {table}"
    )
}

#[test]
fn a_master_that_is_asked_to_stop_fails_nobodys_work() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let spawn = |cluster: &Cluster, name: &str, sql: &str| {
        let arguments = ["sql", "-o", "csv", "-c", sql];
        cluster.spawn(name, &arguments).unwrap()
    };
    let mut clients = ["one", "two", "three"].map(|table| spawn(&cluster, table, &work(table)));
    for client in &clients {
        wait_until_told(client);
    }
    let stopped = std::time::Instant::now();
    let status = cluster.stop_master(Signal::SIGTERM).unwrap();
    assert!(status.success(), "{status}");
    assert!(stopped.elapsed() < Duration::from_secs(10), "it takes long");
    for client in &mut clients {
        poll("the client is told that the master goes", PATIENCE, || {
            Ok(client
                .log()
                .contains("the master is stopping")
                .then_some(()))
        })
        .unwrap();
    }
    cluster.start_master().unwrap();
    for client in &mut clients {
        let status = client.wait(PATIENCE).unwrap();
        let said = client.log();
        assert!(status.success(), "{status}: {said}");
        assert!(said.contains("the master is back"), "{said}");
        assert_eq!(said.matches("answer,900000000").count(), 1, "{said}");
    }
    let failed = "SELECT count(*) FROM system.applications WHERE state IN ('failed', 'cancelled')";
    assert_eq!(cluster.number(failed).unwrap(), 0);
}

#[test]
fn a_master_that_is_interrupted_cancels_what_runs() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let sql = work("t");
    let mut client = cluster.spawn("client", &["sql", "-c", &sql]).unwrap();
    wait_until_told(&client);
    let status = cluster.stop_master(Signal::SIGINT).unwrap();
    assert!(status.success(), "{status}");
    assert!(!client.wait(PATIENCE).unwrap().success());
    assert!(client.log().contains("cancelled"), "{}", client.log());
    cluster.start_master().unwrap();
    let cancelled =
        "SELECT count(*) FROM system.applications WHERE state = 'cancelled' AND resumed = 0";
    assert_eq!(cluster.number(cancelled).unwrap(), 1);
}

#[test]
fn a_cancel_in_the_middle_of_a_change_of_names_tells_the_truth() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 1,
        lake: Some("gs://bucket/lake".to_owned()),
        environment: gcs.environment(),
        ..Options::default()
    })
    .unwrap();
    cluster.sql("CREATE SCHEMA before").unwrap();
    let slow = gcs.faults().once(
        Effect::Delay(Duration::from_secs(3)),
        Operation::Put,
        "_drumline/catalog/",
    );
    let arguments = ["sql", "-c", "CREATE SCHEMA made; CREATE SCHEMA never"];
    let mut client = cluster.spawn("client", &arguments).unwrap();
    poll("the put is under way", PATIENCE, || {
        Ok((slow.fired() > 0).then_some(()))
    })
    .unwrap();
    client.signal(Signal::SIGINT).unwrap();
    assert_eq!(client.wait(PATIENCE).unwrap().code(), Some(130));
    // What was under way is done, and said to be done; what came after it is not.
    let state = "SELECT count(*) FROM system.statements WHERE state = 'succeeded' AND sql = 'CREATE SCHEMA made'";
    assert_eq!(cluster.number(state).unwrap(), 1);
    let made = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ";
    for (schema, count) in [("made", 1), ("never", 0)] {
        let sql = format!("{made}'{schema}'");
        assert_eq!(cluster.number(&sql).unwrap(), count, "{schema}");
    }
    assert_eq!(slow.fired(), 1);
}
