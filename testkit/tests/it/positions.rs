//! Where streams begin and end, moving them, and what they tell of themselves, with a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "events";
/// The broker's date of record n is so many milliseconds after this.
const DAY_ONE: i64 = 1_793_491_200_000;

fn bed() -> (Kafka, Cluster) {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[(TOPIC, 1)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    (kafka, cluster)
}

fn send(kafka: &Kafka, numbers: std::ops::Range<i64>) {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for n in numbers {
        let value = format!("{{\"n\":{n}}}");
        producer
            .send(
                TOPIC,
                None,
                Some(value.as_bytes()),
                Some(DAY_ONE + n * 1000),
            )
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn file(cluster: &Cluster, kafka: &Kafka, name: &str, table: &str, more: &str) -> String {
    let text = format!(
        "name = \"{name}\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\n{more}\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"{table}\"\nschema = {{ n = \"bigint\" }}\n",
        kafka.brokers()
    );
    let path = cluster.path(&format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What a command answers, as JSON; it must succeed.
fn done(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let mut arguments = arguments.to_vec();
    arguments.extend(["-o", "json"]);
    rows(&cluster.run(&arguments).unwrap()).unwrap()
}

/// What a command that fails says, and its exit code.
fn refused(cluster: &Cluster, arguments: &[&str]) -> (String, Option<i32>) {
    let output = cluster.run(arguments).unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (said, output.status.code())
}

fn numbers(cluster: &Cluster, table: &str) -> (i64, i64, i64) {
    let one = |what: &str| cluster.number(&format!("SELECT coalesce({what}, -1) FROM {table}"));
    (
        one("count(*)").unwrap(),
        one("min(n)").unwrap(),
        one("max(n)").unwrap(),
    )
}

fn count(cluster: &Cluster, table: &str, expected: i64) {
    let sql = format!("SELECT count(*) FROM {table}");
    cluster.wait_for_number(&sql, expected, PATIENCE).unwrap();
}

fn status(cluster: &Cluster, name: &str) -> Value {
    done(cluster, &["stream", "status", name]).remove(0)
}

#[test]
fn a_stream_begins_and_ends_where_it_is_told_to() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..100);
    let moment = "start_from = { timestamp = \"2026-11-01T00:00:40Z\" }";
    let path = file(&cluster, &kafka, "part", "part", moment);
    let told = done(
        &cluster,
        &[
            "stream",
            "apply",
            &path,
            "--until",
            "2026-11-01T00:01:10Z",
            "--wait",
        ],
    );
    assert_eq!(told[1]["result"], "finished", "{told:?}");
    assert_eq!(numbers(&cluster, "part"), (30, 40, 69));
    let told = status(&cluster, "part");
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
    send(&kafka, 100..110);
    let again = done(
        &cluster,
        &[
            "stream",
            "apply",
            &path,
            "--until",
            "2026-11-01T00:01:10Z",
            "--wait",
        ],
    );
    assert_eq!(again[0]["result"], "unchanged");
    assert_eq!(numbers(&cluster, "part"), (30, 40, 69));

    let offsets = "start_from = { offsets = { events = { 0 = 90 } } }\nuntil = \"now\"";
    let path = file(&cluster, &kafka, "tail", "tail", offsets);
    done(&cluster, &["stream", "apply", &path, "--wait"]);
    assert_eq!(numbers(&cluster, "tail"), (20, 90, 109));
    send(&kafka, 110..115);
    done(&cluster, &["stream", "apply", &path, "--wait"]);
    assert_eq!(numbers(&cluster, "tail"), (25, 90, 114), "now has moved on");

    let beyond = "start_from = { offsets = { 0 = 900 } }";
    let path = file(&cluster, &kafka, "beyond", "beyond", beyond);
    let (said, _) = refused(&cluster, &["stream", "apply", &path]);
    assert!(
        said.contains("has offsets 0 to 115, so it cannot begin at 900"),
        "{said}"
    );
    let (said, code) = refused(&cluster, &["stream", "apply", &path, "--wait"]);
    assert!(said.contains("never ends") && code == Some(2), "{said}");
    let path = file(
        &cluster,
        &kafka,
        "future",
        "future",
        "until = 2099-01-01T00:00:00Z",
    );
    let (said, _) = refused(&cluster, &["stream", "apply", &path]);
    assert!(said.contains("still to come"), "{said}");
}

#[test]
fn a_start_holds_over_a_master_that_is_killed_before_the_first_commit() {
    let (kafka, mut cluster) = bed();
    send(&kafka, 0..50);
    let path = file(
        &cluster,
        &kafka,
        "late",
        "late",
        "start_from = \"latest\"\npaused = true",
    );
    done(&cluster, &["stream", "apply", &path]);
    cluster.kill_master().unwrap();
    send(&kafka, 50..60);
    cluster.start_master().unwrap();
    poll("the stream to resume", PATIENCE, || {
        let resumed = cluster.run(&["stream", "resume", "late"])?;
        Ok(resumed.status.success().then_some(()))
    })
    .unwrap();
    count(&cluster, "late", 10);
    assert_eq!(numbers(&cluster, "late"), (10, 50, 59));
}

#[test]
fn one_topic_goes_to_one_table_from_one_stream_only() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..10);
    let first = file(&cluster, &kafka, "first", "both", "");
    done(&cluster, &["stream", "apply", &first]);
    count(&cluster, "both", 10);
    let second = file(&cluster, &kafka, "second", "both", "until = \"now\"");
    let (said, _) = refused(&cluster, &["stream", "apply", &second]);
    assert!(
        said.contains("stream first writes topic events to table both already")
            && said.contains("drumline stream delete first"),
        "{said}"
    );
    done(&cluster, &["stream", "delete", "first"]);
    let (said, _) = refused(&cluster, &["stream", "apply", &second]);
    assert!(said.contains("nothing would be written"), "{said}");
    send(&kafka, 10..12);
    done(&cluster, &["stream", "apply", &second, "--wait"]);
    assert_eq!(numbers(&cluster, "both"), (12, 0, 11));
    // A stream that has ended is in nobody's way.
    done(&cluster, &["stream", "apply", &first]);
    send(&kafka, 12..15);
    count(&cluster, "both", 15);
}

#[test]
fn a_paused_stream_is_moved_back_and_forth() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..100);
    let path = file(&cluster, &kafka, "moved", "moved", "format = \"parquet\"");
    done(&cluster, &["stream", "apply", &path]);
    count(&cluster, "moved", 100);
    let back = ["stream", "reset", "moved", "--to", "90", "--yes"];
    let (said, _) = refused(&cluster, &back);
    assert!(
        said.contains("is not paused") && said.contains("drumline stream pause moved"),
        "{said}"
    );
    done(&cluster, &["stream", "pause", "moved"]);
    let (said, code) = refused(&cluster, &back[..5]);
    assert!(
        code == Some(2) && said.contains("10 records are read again"),
        "{said}"
    );
    let (said, _) = refused(
        &cluster,
        &["stream", "reset", "moved", "--to", "500", "--yes"],
    );
    assert!(said.contains("has offsets 0 to 100"), "{said}");

    done(&cluster, &back);
    done(&cluster, &["stream", "resume", "moved"]);
    count(&cluster, "moved", 110);
    done(&cluster, &["stream", "pause", "moved"]);
    let told = done(
        &cluster,
        &[
            "stream",
            "reset",
            "moved",
            "--to",
            "earliest",
            "--truncate",
            "--yes",
        ],
    );
    assert!(told[0]["tables"].to_string().contains("110"), "{told:?}");
    assert_eq!(numbers(&cluster, "moved"), (0, -1, -1));
    done(&cluster, &["stream", "resume", "moved"]);
    count(&cluster, "moved", 100);

    // Skipping is how to go on after records were lost.
    done(&cluster, &["stream", "pause", "moved"]);
    send(&kafka, 100..120);
    kafka.drop_records(TOPIC, 0, 110).unwrap();
    done(
        &cluster,
        &["stream", "reset", "moved", "--to", "earliest", "--yes"],
    );
    done(&cluster, &["stream", "resume", "moved"]);
    count(&cluster, "moved", 110);
    let history = cluster.sql("DESCRIBE HISTORY moved").unwrap();
    let resets = history
        .iter()
        .filter(|row| row["operation"] == "RESET STREAM")
        .count();
    assert_eq!(resets, 3, "{history:?}");
}

#[test]
fn a_stream_tells_how_far_behind_it_is_and_what_it_costs() {
    let (kafka, cluster) = bed();
    send(&kafka, 0..1000);
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for value in ["{", "[1]", "{\"n\":\"x\"}"] {
        producer
            .send(TOPIC, None, Some(value.as_bytes()), Some(DAY_ONE))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let path = file(&cluster, &kafka, "told", "told", "");
    done(&cluster, &["stream", "apply", &path]);
    count(&cluster, "told", 1000);
    let told = poll("a watermark", PATIENCE, || {
        let told = status(&cluster, "told");
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
    cluster.wait_for_number(seen, 1, PATIENCE).unwrap();
    let seen = "SELECT count(*) FROM system.streams WHERE name = 'told' AND dead_letters = 3 AND records = 1003 \
                AND lag = 0 AND requests_per_million > 0 AND files >= 2";
    cluster.wait_for_number(seen, 1, PATIENCE).unwrap();

    let letters = done(
        &cluster,
        &[
            "stream",
            "dead-letters",
            "told",
            "--where",
            "reason LIKE 'malformed%'",
        ],
    );
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
    let (kafka, cluster) = bed();
    send(&kafka, 0..5);
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for value in ["{\"n\":\"5\"}", "{", "{\"n\":\"6\"}"] {
        producer
            .send(TOPIC, None, Some(value.as_bytes()), Some(DAY_ONE))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    for format in ["delta", "parquet"] {
        let name = format!("strict_{format}");
        let more = format!("format = \"{format}\"");
        let path = file(&cluster, &kafka, &name, &name, &more);
        done(&cluster, &["stream", "apply", &path]);
        count(&cluster, &name, 5);
        count(&cluster, &format!("{name}_dead_letters"), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace(
            "schema = { n = \"bigint\" }",
            "schema = { n = \"varchar\" }\ntransform = \"SELECT CAST(n AS BIGINT) AS n FROM input\"",
        );
        std::fs::write(&path, text).unwrap();
        done(&cluster, &["stream", "apply", &path]);
        let told = done(&cluster, &["stream", "dead-letters", &name, "--replay"]);
        assert_eq!(
            (
                &told[0]["letters"],
                &told[0]["passed"],
                &told[0]["rows"][&name]
            ),
            (&3.into(), &2.into(), &2.into()),
            "{told:?}"
        );
        assert_eq!(numbers(&cluster, &name), (7, 0, 6));
        count(&cluster, &format!("{name}_dead_letters"), 1);
        let again = done(&cluster, &["stream", "dead-letters", &name, "--replay"]);
        assert_eq!(
            (&again[0]["letters"], &again[0]["passed"]),
            (&1.into(), &0.into())
        );
        assert_eq!(numbers(&cluster, &name), (7, 0, 6));
        // The stream goes on as before.
        done(&cluster, &["stream", "delete", &name]);
    }
}

#[test]
fn the_newest_rows_take_over_what_comes_below_the_changes_that_they_hold() {
    let (kafka, cluster) = bed();
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let values = [
        r#"{"id":1,"n":"1"}"#,
        r#"{"id":2,"n":"1"}"#,
        r#"{"id":2,"n":2}"#,
    ];
    for value in values {
        let value = Some(value.as_bytes());
        producer.send(TOPIC, None, value, Some(DAY_ONE)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    for way in ["replay", "reset"] {
        let path = file(&cluster, &kafka, way, way, "");
        let text = std::fs::read_to_string(&path).unwrap();
        let strict = text.replace(
            "schema = { n = \"bigint\" }",
            "schema = { id = \"bigint\", n = \"bigint\" }\nkeep = \"latest\"\nkeys = [\"id\"]",
        );
        std::fs::write(&path, &strict).unwrap();
        done(&cluster, &["stream", "apply", &path]);
        count(&cluster, way, 1);
        count(&cluster, &format!("{way}_dead_letters"), 2);
        let wide = strict.replace(
            "n = \"bigint\" }",
            "n = \"varchar\" }\ntransform = \"SELECT id, CAST(n AS BIGINT) AS n, _op FROM input\"",
        );
        std::fs::write(&path, wide).unwrap();
        done(&cluster, &["stream", "apply", &path]);
        if way == "replay" {
            let told = done(&cluster, &["stream", "dead-letters", way, "--replay"]);
            assert_eq!(told[0]["passed"], 2, "{told:?}");
        } else {
            done(&cluster, &["stream", "pause", way]);
            done(&cluster, &["stream", "reset", way, "--to", "0", "--yes"]);
            done(&cluster, &["stream", "resume", way]);
        }
        count(&cluster, way, 2);
        // What stands below loses against the newer change of its key.
        let rows = cluster.sql(&format!("SELECT id, n FROM {way} ORDER BY id"));
        let expected = [(1, 1), (2, 2)].map(|(id, n)| serde_json::json!({ "id": id, "n": n }));
        assert_eq!(rows.unwrap(), expected);
        done(&cluster, &["stream", "delete", way]);
    }
}
