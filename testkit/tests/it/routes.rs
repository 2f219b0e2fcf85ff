//! Many to many: one topic to several tables, several topics and patterns to one.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

fn send(kafka: &Kafka, topic: &str, values: impl Iterator<Item = String>) {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for (n, value) in values.enumerate() {
        let key = n.to_string();
        let (key, value) = (key.as_bytes(), value.as_bytes());
        producer.send(topic, Some(key), Some(value), None).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|n| format!("{{\"n\":{n},\"text\":\"{n}\"}}"))
}

fn head(kafka: &Kafka) -> String {
    format!(
        "name = \"many\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\n",
        kafka.brokers()
    )
}

fn status(cluster: &Cluster) -> Value {
    let output = cluster.run(&["stream", "status", "many", "-o", "json"]);
    rows(&output.unwrap()).unwrap().remove(0)
}

#[test]
fn one_topic_goes_to_several_tables_each_with_its_own_transform() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("events", 3)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let text = head(&kafka)
        + r#"
[[topic]]
topic = "events"
schema = { n = "bigint", text = "varchar" }
[[topic.route]]
table = "whole"
metadata_columns = false
[[topic.route]]
table = "even"
format = "parquet"
partition_by = ["digit"]
# In the words of statements: DataFusion itself has no `mod`, and reads `1 AND …` behind `FROM`.
transform = "SELECT n, CAST(mod(n, 10) AS INT) AS digit FROM input WHERE n % 2 IS DISTINCT FROM 1 AND n >= 0"
[[topic.route]]
table = "numbers"
transform = "SELECT CAST(text AS BIGINT) AS number FROM input"
"#;
    cluster.apply_stream(&text).unwrap();
    send(&kafka, "events", numbers(0..300));
    let bad = ["no json", "{\"n\":1000,\"text\":\"many\"}"];
    send(&kafka, "events", bad.iter().map(|text| (*text).to_owned()));

    let wait = |sql: &str, expected| cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
    wait("SELECT count(*) FROM whole", 301);
    wait("SELECT count(DISTINCT n) FROM whole", 301);
    wait("SELECT count(*) FROM even", 151);
    wait("SELECT count(DISTINCT n) FROM even", 151);
    wait("SELECT count(*) FROM numbers", 300);
    wait("SELECT count(DISTINCT number) FROM numbers", 300);
    // What no table could decode is told once, what one transform refused is told with its table.
    wait("SELECT count(*) FROM many_dead_letters", 2);
    wait(
        "SELECT count(*) FROM many_dead_letters WHERE reason LIKE 'table numbers: transform: %many%'",
        1,
    );
    wait(
        "SELECT count(*) FROM many_dead_letters WHERE reason LIKE 'malformed json%'",
        1,
    );
    // A restart goes on from what each table holds.
    for verb in ["pause", "resume"] {
        let done = cluster.run(&["stream", verb, "many"]).unwrap();
        assert!(done.status.success(), "{verb}");
    }
    send(&kafka, "events", numbers(300..400));
    wait("SELECT count(*) FROM whole", 401);
    wait("SELECT count(*) FROM even", 201);
    wait("SELECT count(DISTINCT number) FROM numbers", 400);
}

#[test]
fn several_topics_and_those_that_come_to_match_a_pattern_go_to_one_table() {
    let kafka = Kafka::start().unwrap();
    let topics = [("plain", 1), ("plainer", 2), ("events.a", 2), ("other", 1)];
    kafka.create_topics(&topics).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let text = head(&kafka)
        + r#"
[[topic]]
topics = ["plain", "plainer"]
table = "everything"
schema = { n = "bigint" }
[[topic]]
pattern = "events\\..*"
table = "everything"
schema = { n = "bigint" }
[[topic]]
pattern = "later-[0-9]+"
table = "later"
schema = { n = "bigint" }
"#;
    cluster.apply_stream(&text).unwrap();
    send(&kafka, "plain", numbers(0..100));
    send(&kafka, "plainer", numbers(100..200));
    send(&kafka, "events.a", numbers(200..300));
    send(&kafka, "other", numbers(0..50));
    let wait = |sql: &str, expected| cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
    wait("SELECT count(*) FROM everything", 300);
    // Topics that are made while the stream runs, and hold records before it notices.
    kafka
        .create_topics(&[("events.b", 3), ("later-7", 1)])
        .unwrap();
    send(&kafka, "events.b", numbers(300..400));
    send(&kafka, "later-7", numbers(0..10));
    send(&kafka, "plain", numbers(400..410));
    wait("SELECT count(*) FROM everything", 410);
    wait("SELECT count(DISTINCT n) FROM everything", 410);
    wait("SELECT count(*) FROM later", 10);
    let by_topic = cluster
        .sql("SELECT _topic, count(*) AS rows FROM everything GROUP BY _topic ORDER BY _topic")
        .unwrap();
    let by_topic: Vec<(String, i64)> = by_topic
        .iter()
        .map(|row| {
            let topic = row["_topic"].as_str().unwrap().to_owned();
            (topic, row["rows"].as_i64().unwrap())
        })
        .collect();
    let expected = [
        ("events.a", 100),
        ("events.b", 100),
        ("plain", 110),
        ("plainer", 100),
    ];
    assert_eq!(
        by_topic,
        expected.map(|(topic, rows)| (topic.to_owned(), rows))
    );
    let partitions = poll("no lag", PATIENCE, || {
        let status = status(&cluster);
        let partitions = status["partitions"].as_array().cloned();
        Ok(partitions.filter(|_| status["lag"] == 0))
    });
    assert_eq!(partitions.unwrap().len(), 9);
}

#[test]
fn late_events_go_to_the_folder_of_their_own_day_wherever_people_are() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("events", 4)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let text = head(&kafka)
        + r#"
[[topic]]
topic = "events"
table = "events"
format = "parquet"
location = "events"
schema = { ts = "bigint" }
transform = "SELECT ts, arrow_cast(to_timestamp_millis(ts), 'Timestamp(Microsecond, Some(\"UTC\"))') AS at FROM input"
partition_by = ["CAST(at AT TIME ZONE 'Europe/Berlin' AS DATE) AS day", "hour(at)"]
"#;
    cluster.apply_stream(&text).unwrap();
    // 22:30 UTC of November 1st 2018, 23:30 in Berlin; and so on, hour by hour, backwards and forwards.
    let base = 1_541_111_400_000i64;
    let at = |hours: i64| format!("{{\"ts\":{}}}", base + hours * 3_600_000);
    send(&kafka, "events", (0..200).map(|n| at(n % 2)));
    let wait = |sql: &str, expected| cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
    wait("SELECT count(*) FROM events", 200);
    // Months late.
    send(&kafka, "events", (0..40).map(|_| at(-24 * 90)));
    wait("SELECT count(*) FROM events", 240);
    wait(
        "SELECT count(*) FROM events WHERE day = '2018-11-01' AND hour = 22",
        100,
    );
    wait(
        "SELECT count(*) FROM events WHERE day = '2018-11-02' AND hour = 23",
        100,
    );
    // Summer time in Berlin: 22:30 UTC is half past midnight.
    wait(
        "SELECT count(*) FROM events WHERE day = '2018-08-04' AND hour = 22",
        40,
    );
    let folder = std::path::Path::new(cluster.lake()).join("events");
    let mut folders: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("day="))
        .collect();
    folders.sort();
    assert_eq!(
        folders,
        ["day=2018-08-04", "day=2018-11-01", "day=2018-11-02"]
    );
}

#[test]
fn files_do_not_multiply_by_partitions_of_the_topic() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("events", 32)]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Options::default()
    })
    .unwrap();
    send(&kafka, "events", numbers(0..2_000));
    let text = head(&kafka).replace("300ms", "5s")
        + "[[topic]]\ntopic = \"events\"\nschema = { n = \"bigint\" }\n";
    cluster.apply_stream(&text).unwrap();
    cluster
        .wait_for_number("SELECT count(*) FROM events", 2_000, PATIENCE)
        .unwrap();
    let folder = std::path::Path::new(cluster.lake()).join("default/events");
    let files = std::fs::read_dir(&folder).unwrap();
    let files = files.filter(|file| {
        let path = file.as_ref().unwrap().path();
        path.extension()
            .is_some_and(|extension| extension == "parquet")
    });
    assert_eq!(files.count(), 1);
}
