//! Where streams begin and end, moving them, and what they tell of themselves, with a real broker.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "events";
/// The broker's date of record n is so many milliseconds after this.
const DAY_ONE: i64 = 1_793_491_200_000;

/// A broker with one topic of one partition, and a cluster that reads it.
struct Bed {
    kafka: Kafka,
    cluster: Cluster,
}

impl Bed {
    fn new() -> Self {
        let kafka = Kafka::start().unwrap();
        kafka.create_topics(&[(TOPIC, 1)]).unwrap();
        let cluster = Cluster::start(Options::default()).unwrap();
        Self { kafka, cluster }
    }

    /// Sends `{"n":n}` for each number, a second apart.
    fn send(&self, numbers: Range<i64>) {
        self.send_dated(numbers.map(|n| (format!("{{\"n\":{n}}}"), DAY_ONE + n * 1000)));
    }

    fn send_values(&self, values: &[&str]) {
        self.send_dated(values.iter().map(|value| ((*value).to_owned(), DAY_ONE)));
    }

    fn send_dated(&self, values: impl Iterator<Item = (String, i64)>) {
        let producer = Producer::connect(&self.kafka.brokers(), &BTreeMap::new()).unwrap();
        for (value, date) in values {
            let value = Some(value.as_bytes());
            producer.send(TOPIC, None, value, Some(date)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// Sends a value under a header that stands twice: `trace = one`, `trace = two`.
    fn send_traced(&self, value: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.brokers());
        let producer: BaseProducer = config.create().unwrap();
        let headers = ["one", "two"]
            .iter()
            .fold(OwnedHeaders::new(), |all, value| {
                let (key, value) = ("trace", Some(*value));
                all.insert(Header { key, value })
            });
        let record = BaseRecord::<(), str>::to(TOPIC).payload(value);
        producer.send(record.headers(headers)).unwrap();
        producer.flush(PATIENCE).unwrap();
    }

    /// The file of a stream into a table of its own name.
    fn file(&self, name: &str, more: &str) -> String {
        self.file_into(name, name, more)
    }

    fn file_into(&self, name: &str, table: &str, more: &str) -> String {
        let text = format!(
            "name = \"{name}\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\n{more}\n\
             [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"{table}\"\nschema = {{ n = \"bigint\" }}\n",
            self.kafka.brokers()
        );
        let path = self.cluster.path(&format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Changes a stream's file.
    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// What a command answers, as JSON; it must succeed.
    fn done(&self, arguments: &[&str]) -> Vec<Value> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        rows(&self.cluster.run(&arguments).unwrap()).unwrap()
    }

    /// What a command that fails says, and its exit code.
    fn refused(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.cluster.run(arguments).unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (said, output.status.code())
    }

    fn apply(&self, path: &str) -> Vec<Value> {
        self.done(&["stream", "apply", path])
    }

    /// Has a paused stream go on there.
    fn reset(&self, name: &str, to: &str) -> Vec<Value> {
        self.done(&["stream", "reset", name, "--to", to, "--yes"])
    }

    fn numbers(&self, table: &str) -> (i64, i64, i64) {
        let one = |what: &str| {
            let sql = format!("SELECT coalesce({what}, -1) FROM {table}");
            self.cluster.number(&sql).unwrap()
        };
        (one("count(*)"), one("min(n)"), one("max(n)"))
    }

    fn count(&self, table: &str, expected: i64) {
        let sql = format!("SELECT count(*) FROM {table}");
        let counted = self.cluster.wait_for_number(&sql, expected, PATIENCE);
        counted.unwrap();
    }

    fn status(&self, name: &str) -> Value {
        self.done(&["stream", "status", name]).remove(0)
    }
}

#[test]
fn a_stream_begins_and_ends_where_it_is_told_to() {
    let bed = Bed::new();
    bed.send(0..100);
    let moment = "start_from = { timestamp = \"2026-11-01T00:00:40Z\" }";
    let path = bed.file("part", moment);
    let until = ["--until", "2026-11-01T00:01:10Z", "--wait"];
    let bounded = [&["stream", "apply", &path], &until[..]].concat();
    let told = bed.done(&bounded);
    assert_eq!(told[1]["result"], "finished", "{told:?}");
    assert_eq!(bed.numbers("part"), (30, 40, 69));
    let told = bed.status("part");
    assert_eq!(
        (
            &told["state"],
            &told["lag"],
            &told["partitions"][0]["until"]
        ),
        (&Value::from("finished"), &Value::from(0), &Value::from(70)),
        "{told}"
    );
    assert_eq!(told["partitions"][0]["worker"], "", "{told}");
    // What comes later is not read, whoever asks again.
    bed.send(100..110);
    let again = bed.done(&bounded);
    assert_eq!(again[0]["result"], "unchanged");
    assert_eq!(bed.numbers("part"), (30, 40, 69));

    let offsets = "start_from = { offsets = { events = { 0 = 90 } } }\nuntil = \"now\"";
    let path = bed.file("tail", offsets);
    bed.done(&["stream", "apply", &path, "--wait"]);
    assert_eq!(bed.numbers("tail"), (20, 90, 109));
    bed.send(110..115);
    bed.done(&["stream", "apply", &path, "--wait"]);
    assert_eq!(bed.numbers("tail"), (25, 90, 114), "now has moved on");

    let beyond = "start_from = { offsets = { 0 = 900 } }";
    let path = bed.file("beyond", beyond);
    let (said, _) = bed.refused(&["stream", "apply", &path]);
    assert!(
        said.contains("has offsets 0 to 115, so it cannot begin at 900"),
        "{said}"
    );
    let path = bed.file("nowhere", "start_from = { offsets = { 7 = 0 } }");
    let (said, _) = bed.refused(&["stream", "apply", &path]);
    let lacks = "topic 'events' has no partition 7: it has 1, and the first is 0";
    assert!(said.contains(lacks), "{said}");
    let (said, code) = bed.refused(&["stream", "apply", &path, "--wait"]);
    assert!(said.contains("never ends") && code == Some(2), "{said}");
    let path = bed.file("future", "until = 2099-01-01T00:00:00Z");
    let (said, _) = bed.refused(&["stream", "apply", &path]);
    assert!(said.contains("still to come"), "{said}");
}

#[test]
fn a_start_holds_over_a_master_that_is_killed_before_the_first_commit() {
    let mut bed = Bed::new();
    bed.send(0..50);
    let path = bed.file("late", "start_from = \"latest\"\npaused = true");
    bed.apply(&path);
    bed.cluster.kill_master().unwrap();
    bed.send(50..60);
    bed.cluster.start_master().unwrap();
    poll("the stream to resume", PATIENCE, || {
        let resumed = bed.cluster.run(&["stream", "resume", "late"])?;
        Ok(resumed.status.success().then_some(()))
    })
    .unwrap();
    bed.count("late", 10);
    assert_eq!(bed.numbers("late"), (10, 50, 59));
}

#[test]
fn one_topic_goes_to_one_table_from_one_stream_only() {
    let bed = Bed::new();
    bed.send(0..10);
    let first = bed.file_into("first", "both", "");
    bed.apply(&first);
    bed.count("both", 10);
    let second = bed.file_into("second", "both", "until = \"now\"");
    let (said, _) = bed.refused(&["stream", "apply", &second]);
    assert!(
        said.contains("stream first writes topic events to table both already")
            && said.contains("drumline stream delete first"),
        "{said}"
    );
    // The last before its query fails.
    for statement in [
        "DROP TABLE both",
        "ALTER TABLE both RENAME TO other",
        "CREATE OR REPLACE TABLE both AS SELECT n / (n - n) AS n FROM both",
    ] {
        let (said, code) = bed.refused(&["sql", "-c", statement]);
        assert!(
            said.contains("'both' is written by stream 'first'")
                && said.contains("drumline stream delete first"),
            "{said}"
        );
        assert_eq!(code, Some(1));
    }
    bed.done(&["stream", "delete", "first"]);
    for statement in [
        "ALTER TABLE both RENAME TO other",
        "ALTER TABLE other RENAME TO both",
    ] {
        bed.cluster.sql(statement).unwrap();
    }
    let (said, _) = bed.refused(&["stream", "apply", &second]);
    assert!(said.contains("nothing would be written"), "{said}");
    bed.send(10..12);
    bed.done(&["stream", "apply", &second, "--wait"]);
    assert_eq!(bed.numbers("both"), (12, 0, 11));
    // A stream that has ended is in nobody's way.
    bed.apply(&first);
    bed.send(12..15);
    bed.count("both", 15);
}

#[test]
fn a_paused_stream_is_moved_back_and_forth() {
    let bed = Bed::new();
    bed.send(0..100);
    let path = bed.file("moved", "format = \"parquet\"");
    bed.apply(&path);
    bed.count("moved", 100);
    let back = ["stream", "reset", "moved", "--to", "90", "--yes"];
    let (said, _) = bed.refused(&back);
    assert!(
        said.contains("is not paused") && said.contains("drumline stream pause moved"),
        "{said}"
    );
    bed.done(&["stream", "pause", "moved"]);
    let (said, code) = bed.refused(&back[..5]);
    assert!(
        code == Some(2) && said.contains("10 records are read again"),
        "{said}"
    );
    let (said, _) = bed.refused(&["stream", "reset", "moved", "--to", "500", "--yes"]);
    assert!(said.contains("has offsets 0 to 100"), "{said}");
    let (said, _) = bed.refused(&["stream", "reset", "moved", "--to", "3:0", "--yes"]);
    let lacks = "topic 'events' has no partition 3: it has 1, and the first is 0";
    assert!(said.contains(lacks), "{said}");

    bed.done(&back);
    bed.done(&["stream", "resume", "moved"]);
    bed.count("moved", 110);
    bed.done(&["stream", "pause", "moved"]);
    let told = bed.done(&[
        "stream",
        "reset",
        "moved",
        "--to",
        "earliest",
        "--truncate",
        "--yes",
    ]);
    assert!(told[0]["tables"].to_string().contains("110"), "{told:?}");
    assert_eq!(bed.numbers("moved"), (0, -1, -1));
    bed.done(&["stream", "resume", "moved"]);
    bed.count("moved", 100);

    // Skipping is how to go on after records were lost.
    bed.done(&["stream", "pause", "moved"]);
    bed.send(100..120);
    bed.kafka.drop_records(TOPIC, 0, 110).unwrap();
    bed.reset("moved", "earliest");
    bed.done(&["stream", "resume", "moved"]);
    bed.count("moved", 110);
    let history = bed.cluster.sql("DESCRIBE HISTORY moved").unwrap();
    let resets = history
        .iter()
        .filter(|row| row["operation"] == "RESET STREAM")
        .count();
    assert_eq!(resets, 3, "{history:?}");
}

#[test]
fn a_stream_tells_how_far_behind_it_is_and_what_it_costs() {
    let bed = Bed::new();
    bed.send(0..1000);
    bed.send_values(&["{", "[1]", "{\"n\":\"x\"}"]);
    let path = bed.file("told", "");
    bed.apply(&path);
    bed.count("told", 1000);
    let told = poll("a watermark", PATIENCE, || {
        let told = bed.status("told");
        let watermark = told["partitions"][0]["watermark_unix_millis"].as_i64();
        Ok((watermark > Some(0)).then_some(told))
    })
    .unwrap();
    let partition = &told["partitions"][0];
    assert_eq!(
        partition["watermark_unix_millis"],
        DAY_ONE + 999_000,
        "{told}"
    );
    assert_eq!(partition["oldest_unix_millis"], DAY_ONE, "{told}");
    assert_eq!(
        (&told["lag"], &told["lag_millis"]),
        (&0.into(), &0.into()),
        "{told}"
    );
    assert_eq!(told["records"], 1003, "{told}");
    let requests = told["requests"].as_u64().unwrap();
    assert!((4..200).contains(&requests), "{told}");
    let reasons = told["reasons"].as_object().unwrap();
    let letters: u64 = reasons.values().filter_map(Value::as_u64).sum();
    assert_eq!((letters, reasons.len()), (3, 3), "{told}");
    let tables = told["tables"].as_array().unwrap();
    assert!(
        tables.iter().all(|table| table["bytes"].as_u64() > Some(0)),
        "{told}"
    );

    let seen = "SELECT count(*) FROM system.stream_partitions WHERE stream = 'told' AND \"end\" = 1003 \
                AND committed = 1003 AND lag = 0 AND newest_at = timestamp '2026-11-01T00:16:39Z'";
    bed.cluster.wait_for_number(seen, 1, PATIENCE).unwrap();
    let seen = "SELECT count(*) FROM system.streams WHERE name = 'told' AND dead_letters = 3 AND records = 1003 \
                AND lag = 0 AND requests_per_million > 0 AND files >= 2";
    bed.cluster.wait_for_number(seen, 1, PATIENCE).unwrap();

    let letters = bed.done(&[
        "stream",
        "dead-letters",
        "told",
        "--where",
        "reason LIKE 'malformed%'",
    ]);
    assert!(!letters.is_empty() && letters.len() < 3, "{letters:?}");
    assert!(
        letters
            .iter()
            .all(|row| row["offset"].as_i64() >= Some(1000)),
        "{letters:?}"
    );
}

#[test]
fn dead_letters_become_rows_once_their_stream_understands_them() {
    let bed = Bed::new();
    bed.send(0..5);
    bed.send_values(&["{\"n\":\"5\"}", "{"]);
    bed.send_traced("{\"n\":\"6\"}");
    for format in ["delta", "parquet"] {
        let name = format!("strict_{format}");
        let more = format!("format = \"{format}\"");
        let path = bed.file(&name, &more);
        let schema = "schema = { n = \"bigint\" }";
        let with_headers = format!("{schema}\nheaders_column = \"text\"");
        bed.edit(&path, schema, &with_headers);
        bed.apply(&path);
        bed.count(&name, 5);
        bed.count(&format!("{name}_dead_letters"), 3);
        let kept = format!(
            "SELECT count(*) FROM {name}_dead_letters WHERE headers[1]['key'] = 'trace' AND cardinality(headers) = 2 \
             AND CAST(headers[1]['value'] AS VARCHAR) = 'one' AND CAST(headers[2]['value'] AS VARCHAR) = 'two'"
        );
        assert_eq!(bed.cluster.number(&kept).unwrap(), 1);
        let wider = "schema = { n = \"varchar\" }\n\
                     transform = \"SELECT CAST(n AS BIGINT) AS n, _headers FROM input\"";
        bed.edit(&path, schema, wider);
        bed.apply(&path);
        let told = bed.done(&["stream", "dead-letters", &name, "--replay"]);
        assert_eq!(
            (
                &told[0]["letters"],
                &told[0]["passed"],
                &told[0]["rows"][&name]
            ),
            (&3.into(), &2.into(), &2.into()),
            "{told:?}"
        );
        assert_eq!(bed.numbers(&name), (7, 0, 6));
        // As it would have become: of headers with one name the last.
        let traced = format!("SELECT n FROM {name} WHERE _headers['trace'] = 'two'");
        assert_eq!(bed.cluster.number(&traced).unwrap(), 6);
        bed.count(&format!("{name}_dead_letters"), 1);
        let again = bed.done(&["stream", "dead-letters", &name, "--replay"]);
        assert_eq!(
            (&again[0]["letters"], &again[0]["passed"]),
            (&1.into(), &0.into())
        );
        assert_eq!(bed.numbers(&name), (7, 0, 6));
        // The stream goes on as before.
        bed.done(&["stream", "delete", &name]);
    }
}

#[test]
fn the_newest_rows_take_over_what_comes_below_the_changes_that_they_hold() {
    let bed = Bed::new();
    bed.send_values(&[
        r#"{"id":1,"n":"1"}"#,
        r#"{"id":2,"n":"1"}"#,
        r#"{"id":2,"n":2}"#,
    ]);
    for way in ["replay", "reset"] {
        let path = bed.file(way, "");
        let strict = "{ id = \"bigint\", n = \"bigint\" }\nkeep = \"latest\"\nkeys = [\"id\"]";
        bed.edit(&path, "{ n = \"bigint\" }", strict);
        bed.apply(&path);
        bed.count(way, 1);
        bed.count(&format!("{way}_dead_letters"), 2);
        let wider =
            "n = \"varchar\" }\ntransform = \"SELECT id, CAST(n AS BIGINT) AS n, _op FROM input\"";
        bed.edit(&path, "n = \"bigint\" }", wider);
        bed.apply(&path);
        if way == "replay" {
            let told = bed.done(&["stream", "dead-letters", way, "--replay"]);
            assert_eq!(told[0]["passed"], 2, "{told:?}");
        } else {
            bed.done(&["stream", "pause", way]);
            bed.reset(way, "0");
            bed.done(&["stream", "resume", way]);
        }
        bed.count(way, 2);
        // What stands below loses against the newer change of its key.
        let rows = bed
            .cluster
            .sql(&format!("SELECT id, n FROM {way} ORDER BY id"));
        let expected = [(1, 1), (2, 2)].map(|(id, n)| serde_json::json!({ "id": id, "n": n }));
        assert_eq!(rows.unwrap(), expected);
        if way == "reset" {
            read_again_otherwise(&bed, &path, way);
        }
        bed.done(&["stream", "delete", way]);
    }
}

/// The same positions, and another transform: the newest rows are what it makes of them.
fn read_again_otherwise(bed: &Bed, path: &str, name: &str) {
    bed.edit(path, "CAST(n AS BIGINT)", "10 * CAST(n AS BIGINT)");
    bed.apply(path);
    bed.done(&["stream", "pause", name]);
    let sql = format!("DELETE FROM {name}_changes");
    bed.cluster.sql(&sql).unwrap();
    bed.reset(name, "0");
    bed.done(&["stream", "resume", name]);
    let sum = format!("SELECT sum(n) FROM {name}");
    bed.cluster.wait_for_number(&sum, 30, PATIENCE).unwrap();
}
