//! Streams from several brokers, while partitions change their leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::kafka::several::Brokers;
use drumline_testkit::{Cluster, poll};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "events";
const PARTITIONS: u32 = 3;

fn send(brokers: &Brokers, numbers: std::ops::Range<i64>) {
    let producer = Producer::connect(&brokers.brokers(), &BTreeMap::new()).unwrap();
    for n in numbers {
        let value = format!("{{\"n\":{n}}}");
        producer
            .send(TOPIC, Some(&n.to_be_bytes()), Some(value.as_bytes()), None)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The leader of each partition, as the brokers tell it; -1: none.
fn leaders(brokers: &Brokers) -> Vec<i32> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers.brokers())
        .create()
        .unwrap();
    let metadata = client.fetch_metadata(Some(TOPIC), PATIENCE).unwrap();
    let partitions = metadata.topics()[0].partitions();
    partitions
        .iter()
        .map(|partition| partition.leader())
        .collect()
}

/// A partition that this broker led is led by another.
fn wait_for_moves(brokers: &Brokers, gone: i32) {
    poll("leaders move", PATIENCE, || {
        let leaders = leaders(brokers);
        let moved = leaders.iter().all(|leader| *leader > 0 && *leader != gone);
        Ok(moved.then_some(()))
    })
    .unwrap();
}

/// A stream of the topic, with these lines more, into the table `t`. Each replica is in a rack of its own, and the
/// stream's is broker 3's: all partitions are fetched from it while it is there, whoever leads them.
fn apply(cluster: &Cluster, brokers: &Brokers, kafka: &str) {
    let text = format!(
        "name = \"s\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nkafka = {{ \"client.rack\" = \"rack-3\"{kafka} }}\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"t\"\nschema = {{ n = \"bigint\" }}\n",
        brokers.brokers()
    );
    let path = cluster.path("s.toml");
    std::fs::write(&path, text).unwrap();
    let applied = cluster.run(&["stream", "apply", path.to_str().unwrap()]);
    let applied = applied.unwrap();
    assert!(
        applied.status.success(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );
}

fn wait_for_rows(cluster: &Cluster, expected: i64) {
    let sql = "SELECT count(*) FROM t";
    cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
}

/// Each number below is in the table once.
fn assert_each_once(cluster: &Cluster, below: i64) {
    let held = cluster
        .sql(
            "SELECT count(*) AS rows, count(DISTINCT n) AS n, min(n) AS low, max(n) AS high FROM t",
        )
        .unwrap();
    assert_eq!(
        held,
        [serde_json::json!({"rows": below, "n": below, "low": 0, "high": below - 1})]
    );
    let verified = cluster.run(&["stream", "verify", "s"]).unwrap();
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
}

#[test]
fn a_follower_that_hangs_is_not_waited_for() {
    let mut brokers = Brokers::start(3).unwrap();
    // Broker 3 leads none, so that no partition has to find a new leader, and is read from in its rack.
    let placed: [&[i32]; 3] = [&[1, 3, 2], &[2, 3, 1], &[1, 2, 3]];
    brokers.create_placed_topic(TOPIC, &placed).unwrap();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    // What librdkafka itself waits for an answer is longer than this test does.
    apply(&cluster, &brokers, ", \"socket.timeout.ms\" = \"300000\"");
    // A leader sends a reader to the follower once that is known to have all that the reader asks for.
    for round in 1..=10 {
        send(&brokers, (round - 1) * 100..round * 100);
        wait_for_rows(&cluster, round * 100);
    }
    brokers.process(3).unwrap().freeze().unwrap();
    send(&brokers, 1000..2000);
    wait_for_rows(&cluster, 2000);
    assert_each_once(&cluster, 2000);
    for worker in 0..cluster.started_workers() {
        eprintln!("{}", cluster.worker(worker).unwrap().log());
    }
}

#[test]
fn leaders_that_die_hang_and_come_back_lose_and_double_nothing() {
    let mut brokers = Brokers::start(3).unwrap();
    brokers.create_topic(TOPIC, PARTITIONS).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    apply(&cluster, &brokers, "");
    let count = |expected| wait_for_rows(&cluster, expected);
    send(&brokers, 0..1000);
    count(1000);

    let mut sent = 1000;
    for (number, is_killed) in [(3, true), (2, false)] {
        assert!(
            leaders(&brokers).contains(&number),
            "{:?}",
            leaders(&brokers)
        );
        match is_killed {
            true => brokers.process(number).unwrap().kill().unwrap(),
            false => brokers.process(number).unwrap().freeze().unwrap(),
        }
        wait_for_moves(&brokers, number);
        send(&brokers, sent..sent + 1000);
        sent += 1000;
        count(sent);
        match is_killed {
            true => brokers.start_again(number).unwrap(),
            false => brokers.process(number).unwrap().thaw().unwrap(),
        }
        // It leads again what it led at first.
        poll("leaders come back", PATIENCE, || {
            Ok(leaders(&brokers).contains(&number).then_some(()))
        })
        .unwrap();
        send(&brokers, sent..sent + 1000);
        sent += 1000;
        count(sent);
    }
    assert_each_once(&cluster, sent);
}
