//! Topics of a real broker while a stream reads them: they grow, are shortened, hold transactions,
//! and are out of reach for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "events";

fn bed(partitions: u32) -> (Kafka, Cluster) {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[(TOPIC, partitions)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    (kafka, cluster)
}

fn apply(cluster: &Cluster, kafka: &Kafka) {
    apply_from(cluster, kafka, "earliest");
}

fn apply_from(cluster: &Cluster, kafka: &Kafka, start: &str) {
    let brokers = kafka.brokers();
    let text = format!(
        "name = \"small\"\nbrokers = \"{brokers}\"\nflush_interval = \"300ms\"\n\
         start_from = \"{start}\"\n\
         kafka = {{ \"topic.metadata.refresh.interval.ms\" = \"1000\" }}\n\
         [[topic]]\ntopic = \"{TOPIC}\"\nschema = {{ n = \"bigint\" }}\n"
    );
    cluster.apply_stream(&text).unwrap();
}

/// Sends numbers, over all partitions that there are.
fn send(kafka: &Kafka, numbers: std::ops::Range<i64>) {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for n in numbers {
        let (key, value) = (n.to_string(), format!("{{\"n\":{n}}}"));
        let (key, value) = (key.as_bytes(), value.as_bytes());
        producer.send(TOPIC, Some(key), Some(value), None).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn status(cluster: &Cluster) -> Value {
    let output = cluster
        .run(&["stream", "status", "small", "-o", "json"])
        .unwrap();
    rows(&output).unwrap().remove(0)
}

/// Waits until the stream is in this state; its status then.
fn wait_for_state(cluster: &Cluster, state: &str) -> Value {
    let mut last = Value::Null;
    let found = poll(state, PATIENCE, || {
        last = status(cluster);
        Ok((last["state"] == state).then(|| last.clone()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {last}"))
}

fn count(cluster: &Cluster, expected: i64) {
    let sql = format!("SELECT count(*) FROM {TOPIC}");
    cluster.wait_for_number(&sql, expected, PATIENCE).unwrap();
    let distinct = cluster.number(&format!("SELECT count(DISTINCT n) FROM {TOPIC}"));
    assert_eq!(distinct.unwrap(), expected, "a record was taken twice");
}

#[test]
fn partitions_that_a_topic_gets_are_read_while_the_stream_runs() {
    let (kafka, cluster) = bed(1);
    apply(&cluster, &kafka);
    send(&kafka, 0..50);
    count(&cluster, 50);
    kafka.grow_topic(TOPIC, 4).unwrap();
    send(&kafka, 50..450);
    count(&cluster, 450);
    let status = wait_for_state(&cluster, "running");
    let partitions = status["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 4, "{status}");
    let used = partitions
        .iter()
        .filter(|partition| partition["committed"].as_i64() > Some(0));
    assert_eq!(used.count(), 4, "{status}");
}

#[test]
fn records_that_kafka_dropped_are_left_out_before_the_first_commit_and_named_after_it() {
    let (kafka, cluster) = bed(1);
    send(&kafka, 0..10);
    kafka.drop_records(TOPIC, 0, 4).unwrap();
    apply(&cluster, &kafka);
    count(&cluster, 6);

    assert!(
        cluster
            .run(&["stream", "pause", "small"])
            .unwrap()
            .status
            .success()
    );
    send(&kafka, 10..20);
    kafka.drop_records(TOPIC, 0, 15).unwrap();
    assert!(
        cluster
            .run(&["stream", "resume", "small"])
            .unwrap()
            .status
            .success()
    );
    let status = wait_for_state(&cluster, "failing");
    let reason = status["last_error"].as_str().unwrap();
    assert!(reason.contains("[10, 15) are gone"), "{reason}");
    assert!(
        reason.contains("drumline stream reset"),
        "no next step: {reason}"
    );
    assert!(status["since_unix_millis"].as_i64() > Some(0), "{status}");
    count(&cluster, 6);
}

#[test]
fn the_latest_records_are_those_after_the_apply_however_late_they_are_read() {
    let (kafka, cluster) = bed(2);
    send(&kafka, 0..50);
    apply_from(&cluster, &kafka, "latest");
    assert!(
        cluster
            .run(&["stream", "pause", "small"])
            .unwrap()
            .status
            .success()
    );
    send(&kafka, 50..90);
    // Nobody knows of the new partition before it holds records.
    kafka.grow_topic(TOPIC, 6).unwrap();
    send(&kafka, 90..150);
    assert!(
        cluster
            .run(&["stream", "resume", "small"])
            .unwrap()
            .status
            .success()
    );
    count(&cluster, 100);
    let lowest = cluster.number(&format!("SELECT min(n) FROM {TOPIC}"));
    assert_eq!(lowest.unwrap(), 50);
}

#[test]
fn a_broker_that_does_not_answer_is_shown_until_it_does() {
    let (mut kafka, cluster) = bed(2);
    apply(&cluster, &kafka);
    send(&kafka, 0..50);
    count(&cluster, 50);
    wait_for_state(&cluster, "running");

    kafka.process().freeze().unwrap();
    let status = wait_for_state(&cluster, "waiting");
    let reason = status["last_error"].as_str().unwrap();
    assert!(reason.contains(&kafka.brokers()), "{reason}");
    let list = cluster.run(&["stream", "list", "-o", "json"]).unwrap();
    let list = rows(&list).unwrap().remove(0);
    assert_eq!(list["state"], "waiting", "{list}");
    assert!(list["since_unix_millis"].as_i64() > Some(0), "{list}");

    kafka.process().thaw().unwrap();
    let status = wait_for_state(&cluster, "running");
    assert_eq!(status["last_error"], "", "{status}");
    send(&kafka, 50..100);
    count(&cluster, 100);
}

#[test]
fn only_committed_transactions_are_read_and_none_holds_the_stream_up() {
    let (kafka, cluster) = bed(1);
    apply(&cluster, &kafka);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "test")
        .create()
        .unwrap();
    let limit = Duration::from_secs(30);
    producer.init_transactions(limit).unwrap();
    let transaction = |numbers: std::ops::Range<i64>, commit: bool| {
        producer.begin_transaction().unwrap();
        for n in numbers {
            let value = format!("{{\"n\":{n}}}");
            let record = BaseRecord::<(), _>::to(TOPIC).payload(&value);
            producer.send(record).unwrap();
        }
        producer.flush(limit).unwrap();
        match commit {
            true => producer.commit_transaction(limit).unwrap(),
            false => producer.abort_transaction(limit).unwrap(),
        }
    };
    transaction(0..10, true);
    transaction(100..110, false);
    transaction(10..20, true);
    count(&cluster, 20);
    // The log ends with aborted records and a marker: progress passes them all the same.
    transaction(200..210, false);
    let end = 4 * 10 + 4;
    poll("the stream is through", PATIENCE, || {
        let status = status(&cluster);
        let partition = &status["partitions"][0];
        let is_through =
            partition["committed"] == end && partition["end"] == end && status["lag"] == 0;
        Ok(is_through.then_some(()))
    })
    .unwrap();
    count(&cluster, 20);
    let highest = cluster.number(&format!("SELECT max(n) FROM {TOPIC}"));
    assert_eq!(highest.unwrap(), 19);
}
