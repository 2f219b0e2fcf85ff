//! Values in all formats, through a real broker, a registry and a real cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, Registry, poll};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "hunter2-of-the-registry";

fn cluster_with_secret() -> Cluster {
    let mut cluster = Cluster::start(Options {
        workers: 0,
        ..Default::default()
    })
    .unwrap();
    let secret = ("REGISTRY_PASSWORD".to_owned(), PASSWORD.to_owned());
    cluster.start_worker_with(&[secret]).unwrap();
    cluster
}

fn stream(kafka: &Kafka, registry: &Registry, topics: &str) -> String {
    format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\n\
         [registry]\nurl = \"{}\"\nusername = \"reader\"\npassword_env = \"REGISTRY_PASSWORD\"\n{topics}",
        kafka.brokers(),
        registry.url()
    )
}

fn send(kafka: &Kafka, topic: &str, values: impl IntoIterator<Item = Vec<u8>>) {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for value in values {
        producer.send(topic, None, Some(&value), None).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn status(cluster: &Cluster) -> Value {
    let output = cluster
        .run(&["stream", "status", "formats", "-o", "json"])
        .unwrap();
    rows(&output).unwrap().remove(0)
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The schema of version `version`: a field more with each.
fn avro(version: i64) -> String {
    let mut fields = vec![json!({ "name": "n", "type": "long" })];
    for extra in 1..version {
        fields.push(
            json!({ "name": format!("f{extra}"), "type": ["null", "long"], "default": null }),
        );
    }
    json!({ "type": "record", "name": "Event", "fields": fields }).to_string()
}

fn avro_value(id: i32, version: i64, n: i64) -> Vec<u8> {
    let mut value = vec![0];
    value.extend(id.to_be_bytes());
    value.extend(zigzag(n));
    for extra in 1..version {
        value.extend(zigzag(1));
        value.extend(zigzag(n * extra));
    }
    value
}

#[test]
fn ten_schema_versions_interleaved_are_one_table_with_no_more_files() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("one", 1), ("ten", 1)]).unwrap();
    let registry = Registry::start().unwrap();
    registry.require("reader", PASSWORD);
    let mut ids = Vec::new();
    for version in 1..=10 {
        ids.push(registry.register("ten-value", "AVRO", &avro(version), &[]));
    }
    registry.register("one-value", "AVRO", &avro(10), &[]);
    let count: i64 = 20_000;
    send(&kafka, "one", (0..count).map(|n| avro_value(ids[9], 10, n)));
    let mixed = (0..count).map(|n| {
        let version = n % 10 + 1;
        avro_value(ids[usize::try_from(version).unwrap() - 1], version, n)
    });
    send(&kafka, "ten", mixed);
    let cluster = cluster_with_secret();
    let topics = "[[topic]]\ntopic = \"one\"\ndecode = \"avro\"\n\
                  [[topic]]\ntopic = \"ten\"\ndecode = \"avro\"\n";
    let text = stream(&kafka, &registry, topics).replace("400ms", "2s");
    cluster.apply_stream(&text).unwrap();
    for table in ["one", "ten"] {
        cluster
            .wait_for_number(&format!("SELECT count(*) FROM {table}"), count, PATIENCE)
            .unwrap();
    }
    // A field that a version did not have is null, one that it had is what was written.
    let wrong = cluster.number(
        "SELECT count(*) FROM ten WHERE (n % 10 >= 4) <> (f4 IS NOT NULL) OR f4 <> n * 4 \
         OR (n % 10 = 9) <> (f9 IS NOT NULL) OR _offset <> n",
    );
    assert_eq!(wrong.unwrap(), 0);
    let dead = cluster.number("SELECT count(*) FROM formats_dead_letters");
    assert_eq!(dead.unwrap(), 0);
    let files = |topic: &str| {
        let folder = std::path::Path::new(cluster.lake().trim_start_matches("file://"))
            .join("default")
            .join(topic);
        let mut found = 0;
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() && !path.ends_with("_delta_log") => folders.push(path),
                    path if path.extension().is_some_and(|it| it == "parquet") => found += 1,
                    _ => {}
                }
            }
        }
        found
    };
    let (one, ten) = (files("one"), files("ten"));
    assert!(
        one > 0 && ten <= one + 1,
        "{ten} files of ten versions, {one} of one"
    );
    // Every schema was asked for once, by whoever looked and whoever read.
    assert!(registry.asked() <= 30, "{} questions", registry.asked());
}

#[test]
fn a_registry_that_is_away_costs_time_and_no_record_and_its_secret_is_nowhere() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("orders", 1)]).unwrap();
    let registry = Registry::start().unwrap();
    registry.require("reader", PASSWORD);
    let first = registry.register("orders-value", "AVRO", &avro(2), &[]);
    let cluster = cluster_with_secret();
    let topics = "[[topic]]\ntopic = \"orders\"\ndecode = \"avro\"\n";
    cluster
        .apply_stream(&stream(&kafka, &registry, topics))
        .unwrap();
    send(&kafka, "orders", (0..10).map(|n| avro_value(first, 2, n)));
    cluster
        .wait_for_number("SELECT count(*) FROM orders", 10, PATIENCE)
        .unwrap();

    // A version that nobody has asked for yet, while the registry is away.
    let second = registry.register("orders-value", "AVRO", &avro(3), &[]);
    registry.set_away(true);
    send(&kafka, "orders", (10..20).map(|n| avro_value(first, 2, n)));
    send(&kafka, "orders", (20..30).map(|n| avro_value(second, 3, n)));
    let waiting = poll("waiting", PATIENCE, || {
        let status = status(&cluster);
        Ok((status["state"] == "waiting").then_some(status))
    });
    let reason = waiting.unwrap()["last_error"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("answers 503") && reason.contains("partition 0, offset 20"),
        "{reason}"
    );
    // What came before it is not held up.
    cluster
        .wait_for_number("SELECT count(*) FROM orders", 20, PATIENCE)
        .unwrap();
    registry.set_away(false);
    cluster
        .wait_for_number("SELECT count(*) FROM orders", 30, PATIENCE)
        .unwrap();

    // Its column is there once the stream is applied again.
    cluster
        .apply_stream(&stream(&kafka, &registry, topics))
        .unwrap();
    send(&kafka, "orders", (40..45).map(|n| avro_value(second, 3, n)));
    cluster
        .wait_for_number("SELECT count(*) FROM orders WHERE f2 = n * 2", 5, PATIENCE)
        .unwrap();

    // In SQL the topic has the same columns, of all its records.
    let in_sql = cluster.number("SELECT count(*) FROM kafka.orders WHERE f2 = n * 2");
    assert_eq!(in_sql.unwrap(), 15);
    let fresh = cluster.number("SELECT count(*) FROM fresh(orders)");
    assert_eq!(fresh.unwrap(), 35);

    // A schema that is not registered waits too; what has no schema at all is a dead letter.
    send(
        &kafka,
        "orders",
        [b"no avro".to_vec(), avro_value(99, 1, 30)],
    );
    let waiting = poll("waiting", PATIENCE, || {
        let status = status(&cluster);
        let reason = status["last_error"].as_str().unwrap_or_default().to_owned();
        Ok(reason.contains("has no schema 99").then_some(()))
    });
    waiting.unwrap();
    cluster
        .wait_for_number("SELECT count(*) FROM formats_dead_letters", 1, PATIENCE)
        .unwrap();
    let errors = cluster
        .sql("SELECT _error FROM kafka.orders WHERE _error IS NOT NULL ORDER BY _offset")
        .unwrap();
    let errors = format!("{errors:?}");
    assert!(
        errors.contains("begins with byte 110") && errors.contains("schema 99 is not registered"),
        "{errors}"
    );
    let shown = format!("{}", status(&cluster));
    let catalog = cluster.sql("SELECT * FROM system.streams").unwrap();
    assert!(!shown.contains(PASSWORD) && !format!("{catalog:?}").contains(PASSWORD));
    assert!(!cluster.log_tails().contains(PASSWORD));
    let holds = std::process::Command::new("grep")
        .args([
            "-rl",
            PASSWORD,
            cluster.lake().trim_start_matches("file://"),
        ])
        .output()
        .unwrap();
    assert!(
        holds.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&holds.stdout)
    );
}

#[test]
fn the_last_record_before_a_bound_is_read_though_it_has_to_wait() {
    let kafka = Kafka::start().unwrap();
    let topics = ["orders", "grows", "waits"];
    kafka
        .create_topics(&topics.map(|topic| (topic, 1)))
        .unwrap();
    let registry = Registry::start().unwrap();
    let first = registry.register("orders-value", "AVRO", &avro(2), &[]);
    let second = registry.register("orders-value", "AVRO", &avro(3), &[]);
    let cluster = Cluster::start(Options::default()).unwrap();
    // For its schema, for its column, and for a schema that comes later.
    let orders = (0..20).map(|n| avro_value(first, 2, n));
    send(&kafka, "orders", orders.chain([avro_value(second, 3, 20)]));
    let grows = (0..20).map(|n| format!("{{\"n\":{n}}}").into_bytes());
    let last = br#"{"n":20,"more":"x"}"#.to_vec();
    send(&kafka, "grows", grows.chain([last]));
    send(&kafka, "waits", [avro_value(second + 1, 1, 0)]);
    let text = format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nuntil = \"now\"\n\
         [registry]\nurl = \"{}\"\n[[topic]]\ntopic = \"orders\"\ndecode = \"avro\"\n\
         [[topic]]\ntopic = \"grows\"\nschema = {{ n = \"bigint\" }}\ndecode = {{ evolve = true }}\n\
         [[topic]]\ntopic = \"waits\"\ndecode = {{ format = \"avro\", subject = \"orders-value\" }}\n",
        kafka.brokers(),
        registry.url()
    );
    cluster.apply_stream(&text).unwrap();
    for (table, sum) in [("orders", 210), ("grows", 210)] {
        let sql = format!("SELECT sum(n) FROM {table}");
        cluster.wait_for_number(&sql, sum, PATIENCE).unwrap();
    }
    let waiting = poll("waiting", PATIENCE, || {
        Ok((status(&cluster)["state"] == "waiting").then_some(()))
    });
    waiting.unwrap();
    registry.register("others", "AVRO", &avro(1), &[]);
    cluster
        .wait_for_number("SELECT count(*) FROM waits", 1, PATIENCE)
        .unwrap();
    let finished = poll("the end", PATIENCE, || {
        Ok((status(&cluster)["state"] == "finished").then_some(()))
    });
    finished.unwrap();
    let verified = cluster.run(&["stream", "verify", "formats"]).unwrap();
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}");
}

#[test]
fn protobuf_csv_and_raw_values_become_tables() {
    let kafka = Kafka::start().unwrap();
    kafka
        .create_topics(&[("proto", 1), ("lines", 1), ("bytes", 1)])
        .unwrap();
    let registry = Registry::start().unwrap();
    registry.require("reader", PASSWORD);
    registry.register(
        "money",
        "PROTOBUF",
        "syntax = \"proto3\"; message Money { uint64 units = 1; }",
        &[],
    );
    let text = "syntax = \"proto3\"; import \"money.proto\"; \
                message Order { int64 id = 1; Money price = 2; repeated string tags = 3; map<string, int32> counts = 4; }";
    let id = registry.register(
        "proto-value",
        "PROTOBUF",
        text,
        &[("money.proto", "money", 1)],
    );
    let id = u8::try_from(id).unwrap();
    let cluster = cluster_with_secret();
    let topics = "[[topic]]\ntopic = \"proto\"\ntable = \"orders\"\ndecode = \"protobuf\"\n\
                  [[topic]]\ntopic = \"lines\"\ndecode = { format = \"csv\", delimiter = \";\" }\n\
                  schema = { id = \"bigint\", name = \"varchar\" }\nformat = \"parquet\"\n\
                  [[topic]]\ntopic = \"bytes\"\ntable = \"raw_bytes\"\ndecode = \"raw\"\nkey_column = \"text\"\n\
                  headers_column = \"text\"\ntimestamp_column = true\n";
    cluster
        .apply_stream(&stream(&kafka, &registry, topics))
        .unwrap();
    // id 7, price of 300, tags a and b, counts of k.
    let order = [
        &[0, 0, 0, 0, id, 0][..],
        &[
            8, 7, 18, 3, 8, 0xac, 2, 26, 1, b'a', 26, 1, b'b', 34, 5, 10, 1, b'k', 16, 5,
        ],
    ];
    send(&kafka, "proto", [order.concat()]);
    send(&kafka, "lines", [b"1;\"a;b\"".to_vec(), b"x;y".to_vec()]);
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    producer
        .send("bytes", Some(b"k"), None, Some(1_541_106_106_796))
        .unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    cluster
        .wait_for_number(
            "SELECT count(*) FROM orders WHERE id = 7 AND price['units'] = 300 AND tags[2] = 'b'",
            1,
            PATIENCE,
        )
        .unwrap();
    cluster
        .wait_for_number(
            "SELECT count(*) FROM lines WHERE id = 1 AND name = 'a;b'",
            1,
            PATIENCE,
        )
        .unwrap();
    cluster
        .wait_for_number(
            "SELECT count(*) FROM raw_bytes WHERE value IS NULL AND _key = 'k' \
             AND _timestamp = to_timestamp_millis(1541106106796)",
            1,
            PATIENCE,
        )
        .unwrap();
    cluster
        .wait_for_number("SELECT count(*) FROM formats_dead_letters", 1, PATIENCE)
        .unwrap();
    // What statements read of the topics is the same, headers and keys too.
    let in_sql = cluster.number(
        "SELECT (SELECT count(*) FROM kafka.proto WHERE price['units'] = 300) \
         + (SELECT count(*) FROM kafka.\"lines\" WHERE name = 'a;b' OR _error LIKE '%bigint%') \
         + (SELECT count(*) FROM kafka.bytes WHERE CAST(_key AS VARCHAR) = 'k' AND cardinality(_headers) = 0)",
    );
    assert_eq!(in_sql.unwrap(), 4);
}

#[test]
fn a_definition_that_cannot_be_is_refused_by_its_key() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("t", 1)]).unwrap();
    let registry = Registry::start().unwrap();
    registry.require("reader", "another");
    let cluster = cluster_with_secret();
    let avro_topic = "[[topic]]\ntopic = \"t\"\ndecode = \"avro\"\n";
    let refused = |topics: &str| {
        let text = stream(&kafka, &registry, topics);
        format!("{:#}", cluster.apply_stream(&text).unwrap_err())
    };
    let said = refused(avro_topic);
    assert!(
        said.contains("registry") && said.contains("refuses these credentials (401)"),
        "{said}"
    );
    assert!(!said.contains(PASSWORD), "{said}");
    registry.require("reader", PASSWORD);
    let said = refused(avro_topic);
    assert!(
        said.contains("topic[0].decode") && said.contains("has no subject t-value"),
        "{said}"
    );
    registry.register(
        "t-value",
        "PROTOBUF",
        "syntax = \"proto3\"; message M { int32 a = 1; }",
        &[],
    );
    let said = refused(avro_topic);
    assert!(said.contains("one in Protobuf, not in Avro"), "{said}");
    let said = refused(
        "[[topic]]\ntopic = \"t\"\nschema = { a = \"int\" }\nkeep = \"latest\"\nkeys = [\"b\"]\n",
    );
    assert!(
        said.contains("topic[0].keys") && said.contains("is no column of its rows"),
        "{said}"
    );
    let said = refused("[[topic]]\ntopic = \"t\"\nschema = { _offset = \"bigint\" }\n");
    assert!(
        said.contains("a column _offset, which is one that the stream adds"),
        "{said}"
    );
}

/// Records of which more and more fields are new, and numbers outgrow their columns.
fn open_record(n: i64) -> Value {
    let mut value = json!({ "n": n, "small": n });
    if n >= 100 {
        value["number"] = json!(n);
    }
    if n >= 200 {
        value["number"] = json!(n as f64 + 0.5);
        value[format!("p{}", n % 3)] = json!(format!("text {n}"));
        value["deep"] = json!({ "n": [n] });
    }
    if n >= 300 {
        value["small"] = json!(n * 1_000_000_000);
        value["no column"] = json!(n);
    }
    value
}

#[test]
fn fields_that_nobody_declared_become_columns_and_columns_widen() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("open", 4), ("bare", 1)]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 2,
        ..Default::default()
    })
    .unwrap();
    for format in ["delta", "parquet"] {
        let table = format!("open_{format}");
        let text = format!(
            "name = \"{format}\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\nformat = \"{format}\"\n\
             [[topic]]\ntopic = \"open\"\ntable = \"{table}\"\nschema = {{ n = \"bigint\", small = \"smallint\" }}\n\
             decode = {{ format = \"json\", evolve = true }}\n",
            kafka.brokers()
        );
        cluster.apply_stream(&text).unwrap();
    }
    let send_all = |from: i64, to: i64| {
        let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
        for n in from..to {
            let (key, value) = (n.to_string(), open_record(n).to_string());
            producer
                .send("open", Some(key.as_bytes()), Some(value.as_bytes()), None)
                .unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    let both = |count: i64| {
        for table in ["open_delta", "open_parquet"] {
            cluster
                .wait_for_number(&format!("SELECT count(*) FROM {table}"), count, PATIENCE)
                .unwrap();
        }
    };
    for (from, to) in [(0, 100), (100, 200), (200, 400)] {
        send_all(from, to);
        both(to);
    }
    for table in ["open_delta", "open_parquet"] {
        let wrong = cluster.number(&format!(
            "SELECT count(*) FROM {table} WHERE (n >= 100) <> (number IS NOT NULL) \
             OR number <> n + CASE WHEN n >= 200 THEN 0.5 ELSE 0 END \
             OR small <> n * CASE WHEN n >= 300 THEN 1000000000 ELSE 1 END \
             OR (n >= 200) <> (deep IS NOT NULL) OR deep <> '{{\"n\":[' || n || ']}}' \
             OR (n >= 200 AND coalesce(p0, p1, p2) IS DISTINCT FROM 'text ' || n)"
        ));
        assert_eq!(wrong.unwrap(), 0, "{table}");
        let distinct = cluster.number(&format!("SELECT count(DISTINCT n) FROM {table}"));
        assert_eq!(distinct.unwrap(), 400, "{table}");
        let types = cluster.sql(&format!(
            "SELECT arrow_typeof(small) s, arrow_typeof(number) n FROM {table} LIMIT 1"
        ));
        assert_eq!(types.unwrap(), [json!({ "s": "Int64", "n": "Float64" })]);
    }
    // A value that fits no wider column is one record's fault.
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for value in [
        r#"{"n":400,"number":"no number"}"#,
        r#"{"n":1.5}"#,
        r#"{"n":401}"#,
    ] {
        producer
            .send("open", None, Some(value.as_bytes()), None)
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    both(401);
    for stream in ["delta", "parquet"] {
        let letters = format!("SELECT count(*) FROM {stream}_dead_letters");
        cluster.wait_for_number(&letters, 2, PATIENCE).unwrap();
        let verified = cluster.run(&["stream", "verify", stream]).unwrap();
        assert!(
            verified.status.success(),
            "{}{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&verified.stderr)
        );
    }
    // Nothing at all is declared.
    let text = format!(
        "name = \"bare\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\n\
         [[topic]]\ntopic = \"bare\"\ndecode = {{ evolve = true }}\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    producer
        .send("bare", None, Some(br#"{"a":1,"b":"x"}"#), None)
        .unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    cluster
        .wait_for_number("SELECT count(*) FROM bare", 1, PATIENCE)
        .unwrap();
    let rows = cluster.sql("SELECT a, b FROM bare").unwrap();
    assert_eq!(rows, [json!({ "a": 1, "b": "x" })]);
}

#[test]
fn fields_become_columns_beside_transforms_and_of_the_newest_rows() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("taken", 1), ("state", 1)]).unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    let text = format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\n\
         [[topic]]\ntopic = \"taken\"\nschema = {{ n = \"bigint\" }}\ndecode = {{ evolve = true }}\n\
         transform = \"SELECT *, n + 1 AS next FROM input\"\n\
         [[topic]]\ntopic = \"state\"\nschema = {{ id = \"bigint\" }}\nrequired = [\"id\"]\n\
         decode = {{ evolve = true }}\nkeep = \"latest\"\nkeys = [\"id\"]\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    // A name that the transform uses can be no column, and holds up nothing.
    send(
        &kafka,
        "taken",
        [
            br#"{"n":1}"#.to_vec(),
            br#"{"n":2,"next":"x","other":"y"}"#.to_vec(),
        ],
    );
    cluster
        .wait_for_number("SELECT count(*) FROM taken", 2, PATIENCE)
        .unwrap();
    let rows = cluster.sql("SELECT n, next, other FROM taken WHERE n = 2");
    assert_eq!(rows.unwrap(), [json!({ "n": 2, "next": 3, "other": "y" })]);

    send(
        &kafka,
        "state",
        [br#"{"id":1,"a":1}"#.to_vec(), br#"{"id":2,"a":7}"#.to_vec()],
    );
    cluster
        .wait_for_number("SELECT sum(a) FROM state", 8, PATIENCE)
        .unwrap();
    // Who adds columns is gone before it has.
    send(&kafka, "state", [br#"{"id":1,"a":2.5,"b":true}"#.to_vec()]);
    cluster.kill_master().unwrap();
    cluster.start_master().unwrap();
    cluster
        .wait_for_number(
            "SELECT count(*) FROM state WHERE a = 2.5 AND b",
            1,
            PATIENCE,
        )
        .unwrap();
    let rows = cluster.sql("SELECT id, a, b FROM state ORDER BY id");
    assert_eq!(
        rows.unwrap(),
        [
            json!({ "id": 1, "a": 2.5, "b": true }),
            json!({ "id": 2, "a": 7.0, "b": null }),
        ]
    );
    // To apply the file again changes nothing.
    let definition = cluster.path("stream.toml").display().to_string();
    let again = cluster.run(&["stream", "apply", &definition]).unwrap();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("unchanged"), "{said}");
}

#[test]
fn every_compression_of_kafka_is_read() {
    let kafka = Kafka::start().unwrap();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    kafka.create_topics(&[("packed", 2)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let text = format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\n\
         [[topic]]\ntopic = \"packed\"\nschema = {{ codec = \"varchar\", n = \"bigint\" }}\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    for codec in codecs {
        let settings = BTreeMap::from([("compression.codec".to_owned(), codec.to_owned())]);
        let producer = Producer::connect(&kafka.brokers(), &settings).unwrap();
        for n in 0..500 {
            let value = json!({ "codec": codec, "n": n }).to_string();
            producer
                .send("packed", None, Some(value.as_bytes()), None)
                .unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }
    let count = "SELECT count(DISTINCT codec || n) FROM packed";
    cluster.wait_for_number(count, 2_500, PATIENCE).unwrap();
    assert_eq!(
        cluster.number("SELECT count(*) FROM packed").unwrap(),
        2_500
    );
}

#[test]
fn what_is_inside_of_json_is_read_by_transforms_and_queries() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("nested", 1)]).unwrap();
    let cluster = Cluster::start(Options {
        workers: 1,
        ..Default::default()
    })
    .unwrap();
    let text = format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"400ms\"\n\
         [[topic]]\ntopic = \"nested\"\nschema = {{ who = \"json\" }}\npartition_by = [\"city\"]\n\
         transform = \"\"\"SELECT CAST(who ->> 'id' AS BIGINT) AS id, who -> 'at' ->> 'city' AS city, who -> 'tags' AS tags\n\
         FROM input WHERE (who ->> 'id') IS NOT NULL\"\"\"\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    let values = [
        r#"{"who": {"id": 1, "at": {"city": "Z\u00fcrich"}, "tags": ["a", {"b": 2}]}}"#,
        r#"{"who": {"id": 2, "at": null}}"#,
        r#"{"who": {"id": "many"}}"#,
        r#"{"who": ["no", "id"]}"#,
        r#"{"who": null}"#,
    ];
    send(
        &kafka,
        "nested",
        values.map(|value| value.as_bytes().to_vec()),
    );
    let (count, letters) = (
        "SELECT count(*) FROM nested",
        "SELECT count(*) FROM formats_dead_letters WHERE _offset = 2",
    );
    cluster.wait_for_number(count, 2, PATIENCE).unwrap();
    cluster.wait_for_number(letters, 1, PATIENCE).unwrap();
    let rows = cluster.sql(
        "SELECT id, city, tags -> 1 ->> 'b' AS b, json_length(tags) AS tags FROM nested ORDER BY id",
    );
    let expected = [
        json!({ "id": 1, "city": "Zürich", "b": "2", "tags": 2 }),
        json!({ "id": 2, "city": null, "b": null, "tags": null }),
    ];
    assert_eq!(rows.unwrap(), expected);
    let fresh = cluster.number("SELECT count(*) FROM fresh(nested) WHERE (tags ->> 0) = 'a'");
    assert_eq!(fresh.unwrap(), 1);
}
