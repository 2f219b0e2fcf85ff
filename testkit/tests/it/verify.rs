//! `drumline stream verify`: says that a stream is whole when it is, and names what is not.

use std::path::Path;
use std::time::Duration;

use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(30);
const TOPIC: &str = "events";

fn bed(format: &str) -> (Kafka, Cluster) {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[(TOPIC, 2)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let text = format!(
        "name = \"small\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nformat = \"{format}\"\n\
         dead_letters = \"letters\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\nschema = {{ n = \"bigint\" }}\n\
         transform = \"SELECT n FROM input WHERE n % 10 <> 7\"\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    (kafka, cluster)
}

struct Sender(BaseProducer);

impl Sender {
    fn new(kafka: &Kafka) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers())
            .set("transactional.id", "test")
            .create()
            .unwrap();
        producer.init_transactions(LIMIT).unwrap();
        Self(producer)
    }

    /// A transaction of numbers, and of as many malformed records.
    fn send(&self, numbers: std::ops::Range<i64>, malformed: i64, commit: bool) {
        self.0.begin_transaction().unwrap();
        let good = numbers.map(|n| format!("{{\"n\":{n}}}"));
        let bad = (0..malformed).map(|n| format!("broken {n}"));
        for (key, value) in good.chain(bad).enumerate() {
            let key = key.to_string();
            let record = BaseRecord::to(TOPIC).key(&key).payload(&value);
            self.0.send(record).unwrap();
        }
        self.0.flush(LIMIT).unwrap();
        match commit {
            true => self.0.commit_transaction(LIMIT).unwrap(),
            false => self.0.abort_transaction(LIMIT).unwrap(),
        }
    }
}

/// Exit code, and what it found.
fn verify(cluster: &Cluster) -> (Option<i32>, Value) {
    let output = cluster
        .run(&["stream", "verify", "small", "-o", "json"])
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found = serde_json::from_str(&text);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = found.unwrap_or_else(|error| panic!("{error}: {text}{said}"));
    (output.status.code(), found)
}

fn sum(found: &Value, table: &str, field: &str) -> i64 {
    let tables = found["tables"].as_array().unwrap();
    let table = tables.iter().find(|t| t["table"] == table).unwrap();
    let partitions = table["partitions"].as_array().unwrap();
    partitions.iter().map(|p| p[field].as_i64().unwrap()).sum()
}

fn wait_for_rows(cluster: &Cluster, table: &str, count: i64) {
    let sql = format!("SELECT count(*) FROM {table}");
    cluster.wait_for_number(&sql, count, PATIENCE).unwrap();
}

/// Waits until everything is committed, markers included.
fn settle(cluster: &Cluster) {
    poll("no lag", PATIENCE, || {
        let output = cluster.run(&["stream", "status", "small", "-o", "json"])?;
        let status = rows(&output)?.remove(0);
        let partitions = status["partitions"].as_array().cloned().unwrap_or_default();
        let done = |p: &Value| p["committed"] == p["end"] || p["end"] == 0;
        Ok((status["lag"] == 0 && partitions.iter().all(done)).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_stream_is_whole_with_transactions_letters_filters_and_others_between() {
    for format in ["delta", "parquet"] {
        let (kafka, cluster) = bed(format);
        let sender = Sender::new(&kafka);
        sender.send(0..100, 3, true);
        sender.send(1000..1100, 5, false);
        wait_for_rows(&cluster, TOPIC, 90);
        if format == "delta" {
            cluster.sql("OPTIMIZE events").unwrap();
        }
        sender.send(100..200, 2, true);
        wait_for_rows(&cluster, TOPIC, 180);
        settle(&cluster);

        let (code, found) = verify(&cluster);
        assert_eq!(code, Some(0), "{found}");
        assert_eq!(sum(&found, TOPIC, "records"), 205, "{found}");
        assert_eq!(sum(&found, TOPIC, "rows"), 180, "{found}");
        assert_eq!(sum(&found, TOPIC, "filtered"), 20, "{found}");
        assert_eq!(sum(&found, TOPIC, "dead_letters"), 5, "{found}");
        assert_eq!(sum(&found, TOPIC, "found"), 205, "{found}");
        assert_eq!(sum(&found, "letters", "rows"), 5, "{found}");
        assert_eq!(found["notes"], serde_json::json!([]), "{found}");

        if format == "delta" {
            cluster.sql("DELETE FROM events WHERE n = 42").unwrap();
            let (code, found) = verify(&cluster);
            assert_eq!(code, Some(0), "{found}");
            assert!(found["notes"].to_string().contains("others"), "{found}");
            // Such as a backfill that another stream made.
            cluster
                .sql("INSERT INTO events (n, _topic, _partition, _offset) VALUES (1, 'events', 0, 100000)")
                .unwrap();
            let (code, found) = verify(&cluster);
            assert_eq!(code, Some(0), "{found}");
            let notes = found["notes"].to_string();
            assert!(notes.contains("others wrote them"), "{notes}");
        }

        // Kafka forgets: what is left is counted, and it is said from where.
        kafka.drop_records(TOPIC, 0, 20).unwrap();
        let (code, found) = verify(&cluster);
        assert_eq!(code, Some(0), "{found}");
        let notes = found["notes"].to_string();
        assert!(notes.contains("nothing before offset 20"), "{notes}");
    }
}

/// The first violation's words; the exit code must be 1.
fn violation(cluster: &Cluster) -> String {
    let (code, found) = verify(cluster);
    assert_eq!(code, Some(1), "{found}");
    found["violations"].to_string()
}

#[test]
fn what_is_not_whole_is_named_with_table_partition_version_and_range() {
    let (kafka, cluster) = bed("parquet");
    let sender = Sender::new(&kafka);
    sender.send(0..100, 1, true);
    wait_for_rows(&cluster, TOPIC, 90);
    sender.send(100..200, 1, true);
    wait_for_rows(&cluster, TOPIC, 180);
    settle(&cluster);
    assert_eq!(verify(&cluster).0, Some(0));

    // A record's counts and ranges that are not what happened.
    let record = record_of(&cluster, "letters");
    let honest = std::fs::read_to_string(&record).unwrap();
    for (name, change) in [
        ("kafka has", "records"),
        ("the rows' tables count", "rows"),
        ("commits lead to", "to"),
    ] {
        std::fs::write(&record, changed(&honest, change)).unwrap();
        let said = violation(&cluster);
        assert!(said.contains(name), "{change}: {said}");
        assert!(said.contains("\"letters\""), "{said}");
    }
    std::fs::write(&record, &honest).unwrap();
    assert_eq!(verify(&cluster).0, Some(0));

    // A row twice: the rows themselves tell.
    cluster
        .sql("INSERT INTO events SELECT * FROM events WHERE n = 42")
        .unwrap();
    let twice = violation(&cluster);
    assert!(twice.contains("2 rows are of this one record"), "{twice}");
}

#[test]
fn what_a_reset_brought_again_is_no_violation_and_more_than_that_is() {
    let (kafka, cluster) = bed("delta");
    Sender::new(&kafka).send(0..100, 1, true);
    wait_for_rows(&cluster, TOPIC, 90);
    settle(&cluster);
    let run = |arguments: &[&str]| {
        let done = cluster.run(arguments).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{arguments:?}: {said}");
    };
    run(&["stream", "pause", "small"]);
    run(&["stream", "reset", "small", "--to", "earliest", "--yes"]);
    let (code, found) = verify(&cluster);
    assert_eq!(code, Some(0), "{found}");
    run(&["stream", "resume", "small"]);
    wait_for_rows(&cluster, TOPIC, 180);
    settle(&cluster);
    let (code, found) = verify(&cluster);
    assert_eq!(code, Some(0), "{found}");
    let notes = found["notes"].to_string();
    assert!(notes.contains("was read again after a reset"), "{notes}");
    cluster
        .sql("INSERT INTO events SELECT * FROM events WHERE n = 42 LIMIT 1")
        .unwrap();
    let thrice = violation(&cluster);
    assert!(thrice.contains("3 rows are of this one record"), "{thrice}");
}

/// The first commit of a plain table that consumed something.
fn record_of(cluster: &Cluster, table: &str) -> std::path::PathBuf {
    let folder = Path::new(cluster.lake()).join("_drumline/commits");
    for log in std::fs::read_dir(folder).unwrap().flatten() {
        if !log.file_name().to_string_lossy().contains(table) {
            continue;
        }
        let mut records: Vec<_> = std::fs::read_dir(log.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        records.sort();
        let consumed = |path: &&std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            let record: Value = serde_json::from_str(&text).unwrap();
            let ranges = record["made_by"]["ranges"].as_array().cloned();
            ranges.is_some_and(|ranges| ranges.iter().any(|range| range["from"] != range["to"]))
        };
        if let Some(found) = records.iter().find(consumed) {
            return found.clone();
        }
    }
    panic!("no commit of {table}")
}

/// The record with one of its first range's numbers, or counts, off by one.
fn changed(record: &str, field: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    let range = &mut record["made_by"]["ranges"][0];
    let number = match field {
        "to" => &mut range["to"],
        count => &mut range["counts"][count],
    };
    *number = (number.as_i64().unwrap() + 1).into();
    record.to_string()
}
