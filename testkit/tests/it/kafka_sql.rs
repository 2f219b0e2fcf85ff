//! Topics as tables: what a statement sees of them, how little it reads, and who reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Kafka};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

const TOPIC: &str = "click-events";
const IN_SQL: &str = "kafka.\"click-events\"";

/// A stream that commits nothing while the test runs.
fn apply(cluster: &Cluster, kafka: &Kafka) {
    let brokers = kafka.brokers();
    let text = format!(
        "name = \"clicks\"\nbrokers = \"{brokers}\"\nflush_interval = \"1h\"\nstart_from = \"latest\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"clicks\"\nschema = {{ n = \"bigint\", who = \"varchar\" }}\n\
         transform = \"SELECT n FROM input WHERE n < 0\"\n"
    );
    cluster.apply_stream(&text).unwrap();
}

fn bed() -> (Kafka, Cluster) {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[(TOPIC, 3), ("plain", 2)]).unwrap();
    let environment = vec![("DRUMLINE_MASTER__KAFKA_BROKERS".to_owned(), kafka.brokers())];
    let cluster = Cluster::start(Options {
        environment,
        ..Options::default()
    })
    .unwrap();
    (kafka, cluster)
}

/// Number n goes to partition n % 3, n milliseconds after the epoch's second 1,000,000.
fn send(kafka: &Kafka, numbers: std::ops::Range<i64>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .create()
        .unwrap();
    for n in numbers {
        let value = format!("{{\"n\":{n},\"who\":\"w{}\"}}", n % 5);
        let key = format!("k{n}");
        let mut record = BaseRecord::to(TOPIC)
            .key(&key)
            .payload(&value)
            .partition(i32::try_from(n % 3).unwrap())
            .timestamp(1_000_000_000 + n);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// Offsets that a scan would read, as `EXPLAIN` tells.
fn offsets_read(cluster: &Cluster, sql: &str) -> i64 {
    let plan = cluster.sql(&format!("EXPLAIN {sql}")).unwrap();
    let text = Value::from(plan).to_string();
    let Some((_, rest)) = text.split_once("offsets=") else {
        // Without anything to read the answer is known when it is planned.
        assert!(!text.contains("TopicScanExec"), "{text}");
        return 0;
    };
    let number = rest.split(',').next().unwrap();
    number.parse().unwrap()
}

#[test]
fn a_topic_is_a_table_of_all_its_records() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..300);
    apply(&cluster, &kafka);
    let all = cluster.sql(&format!(
        "SELECT count(*) c, sum(n) s, count(DISTINCT who) w FROM {IN_SQL}"
    ));
    assert_eq!(all.unwrap(), [json!({ "c": 300, "s": 44_850, "w": 5 })]);

    // What cannot be decoded is a row that says so.
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for value in [Some(&b"{\"n\":\"x\"}"[..]), None] {
        producer.send(TOPIC, Some(b"bad"), value, None).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let sql = format!(
        "SELECT n, CAST(_key AS VARCHAR) k, CAST(_value AS VARCHAR) v, _topic t, _error IS NOT NULL e FROM {IN_SQL} \
         WHERE _error IS NOT NULL ORDER BY v NULLS LAST"
    );
    let bad = cluster.sql(&sql).unwrap();
    assert_eq!(
        bad,
        [
            json!({ "n": null, "k": "bad", "v": "{\"n\":\"x\"}", "t": TOPIC, "e": true }),
            json!({ "n": null, "k": "bad", "v": null, "t": TOPIC, "e": true }),
        ]
    );
    assert_eq!(
        cluster
            .number(&format!("SELECT count(*) FROM {IN_SQL}"))
            .unwrap(),
        302
    );

    // A topic of nobody is text.
    producer.send("plain", None, Some(b"one"), None).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let plain = cluster
        .sql("SELECT value, _offset FROM kafka.plain")
        .unwrap();
    assert_eq!(plain, [json!({ "value": "one", "_offset": 0 })]);

    // It joins with tables, and fills them.
    let made =
        "CREATE TABLE names AS SELECT * FROM (VALUES ('w1', 'Ann'), ('w2', 'Bob')) v(who, name)";
    cluster.sql(made).unwrap();
    let sql = format!(
        "SELECT name, count(*) c FROM {IN_SQL} JOIN names USING (who) GROUP BY 1 ORDER BY 1"
    );
    let joined = cluster.sql(&sql).unwrap();
    assert_eq!(
        joined,
        [
            json!({ "name": "Ann", "c": 60 }),
            json!({ "name": "Bob", "c": 60 })
        ]
    );
    cluster
        .sql(&format!(
            "CREATE TABLE copied AS SELECT n, _partition, _offset FROM {IN_SQL} WHERE n >= 150"
        ))
        .unwrap();
    assert_eq!(
        cluster.number("SELECT sum(n) FROM copied").unwrap(),
        (150..300).sum::<i64>()
    );

    let tables = cluster.sql("SHOW TABLES FROM kafka").unwrap();
    assert_eq!(tables.len(), 1, "{tables:?}");
    let output = cluster
        .run(&["sql", "-c", "SELECT * FROM kafka.click_events"])
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("click-events"), "{said}");
    let output = cluster
        .run(&["sql", "-c", "CREATE TABLE kafka.t AS SELECT 1"])
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("only read"), "{said}");
}

#[test]
fn places_and_times_become_ranges_that_alone_are_read() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..3_000);
    apply(&cluster, &kafka);
    let check = |filter: &str, numbers: i64, offsets: i64| {
        let sql = format!("SELECT count(*) FROM {IN_SQL} WHERE {filter}");
        assert_eq!(cluster.number(&sql).unwrap(), numbers, "{filter}");
        assert_eq!(offsets_read(&cluster, &sql), offsets, "{filter}");
    };
    check("true", 3_000, 3_000);
    check("_partition = 1", 1_000, 1_000);
    check("_partition IN (0, 2) AND _offset >= 900", 200, 200);
    check("_offset BETWEEN 10 AND 19", 30, 30);
    check(
        "_partition = 0 AND _offset = 5 OR _partition = 2 AND _offset = 7",
        2,
        2,
    );
    check("_partition = 7", 0, 0);
    // Milliseconds after the second 1,000,000: the last 300 numbers, and one more per partition to be sure.
    let late = "_timestamp >= to_timestamp_millis(1000002700)";
    let sql = format!("SELECT count(*) FROM {IN_SQL} WHERE {late}");
    assert_eq!(cluster.number(&sql).unwrap(), 300);
    let read = offsets_read(&cluster, &sql);
    assert!((300..=303).contains(&read), "{read}");
    check("_timestamp >= to_timestamp_millis(1000009999)", 0, 0);
    // Columns that are not decoded, and none at all.
    let least = format!("SELECT min(_timestamp) t FROM {IN_SQL} WHERE _partition = 2");
    let least = cluster.sql(&least).unwrap();
    assert!(
        Value::from(least)
            .to_string()
            .contains("1970-01-12T13:46:40.002")
    );
}

#[test]
fn only_what_was_committed_is_seen_and_gaps_do_not_stall() {
    let (kafka, cluster) = bed();
    apply(&cluster, &kafka);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "t")
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    for (round, commits) in [true, false, true, false].into_iter().enumerate() {
        producer.begin_transaction().unwrap();
        for n in 0..30 {
            let value = format!("{{\"n\":{}}}", round * 100 + n);
            let record = BaseRecord::<str, str>::to(TOPIC)
                .payload(&value)
                .partition(i32::try_from(n % 3).unwrap());
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        // Or what is not sent yet cannot be aborted.
        producer.flush(Duration::from_secs(30)).unwrap();
        match commits {
            true => producer
                .commit_transaction(Duration::from_secs(30))
                .unwrap(),
            false => producer.abort_transaction(Duration::from_secs(30)).unwrap(),
        }
    }
    // Still open: nobody sees it yet.
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<str, str>::to(TOPIC)
        .payload("{\"n\":-1}")
        .partition(0);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let sql = format!("SELECT count(*) c, sum(n) s, min(n) m FROM {IN_SQL}");
    let expected: i64 = (0..30).sum::<i64>() + (200..230).sum::<i64>();
    assert_eq!(
        cluster.sql(&sql).unwrap(),
        [json!({ "c": 60, "s": expected, "m": 0 })]
    );
    producer.abort_transaction(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_large_topic_is_read_by_all_workers_at_the_same_time() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..120_000);
    apply(&cluster, &kafka);
    let sql = format!("SELECT count(*) c, sum(n) s FROM {IN_SQL}");
    let script = format!("SET drumline.bytes_per_task = 1000000; {sql}");
    let found = cluster.sql(&script).unwrap();
    assert_eq!(
        found.last(),
        Some(&json!({ "c": 120_000, "s": 7_199_940_000_i64 }))
    );
    let readers = "SELECT count(DISTINCT t.worker) FROM system.operators o \
                   JOIN system.tasks t ON (t.job, t.stage, t.task) = (o.job, o.stage, o.task) \
                   WHERE o.name = 'TopicScanExec' AND o.rows_out > 0";
    assert_eq!(cluster.number(readers).unwrap(), 2);
}
