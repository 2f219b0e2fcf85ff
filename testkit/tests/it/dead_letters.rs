//! Records that cannot be decoded go to the dead letters, with all that is known of them; the good
//! ones around them are not touched.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use drumline_testkit::{Cluster, Kafka};

const PATIENCE: Duration = Duration::from_secs(120);

fn good(session: u32) -> Vec<u8> {
    format!(
        "{{\"ts\":1541121934796,\"sessionId\":{session},\"level\":\"free\",\"itemInSession\":0,\
         \"city\":\"Lansing\",\"state\":\"MI\",\"userId\":\"8\",\"success\":true}}"
    )
    .into_bytes()
}

#[test]
fn bad_records_are_kept_apart_with_their_place_and_reason() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&EXAMPLE_TOPICS).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let stream = example_stream(&kafka.brokers(), Duration::from_millis(500)).unwrap();
    cluster.apply_stream(&stream).unwrap();

    let mut huge = good(1);
    huge.truncate(huge.len() - 1);
    huge.extend(b",\"userAgent\":\"");
    huge.resize(10 * 1024 * 1024, b'x');
    // Cut off: ten megabytes that are not JSON either.
    let bad: [(&str, Option<Vec<u8>>); 6] = [
        ("malformed", Some(b"{\"ts\": 1541121934796,".to_vec())),
        ("no ts", Some(b"{\"sessionId\": 7}".to_vec())),
        (
            "wrong type",
            Some(b"{\"ts\": \"yesterday\", \"sessionId\": 7}".to_vec()),
        ),
        ("huge", Some(huge.clone())),
        ("null", None),
        (
            "not UTF-8",
            Some(b"{\"ts\": 1541121934796, \"city\": \"\xff\xfe\"}".to_vec()),
        ),
    ];
    let brokers = kafka.brokers();
    let values: Vec<Option<Vec<u8>>> = bad.iter().map(|(_, value)| value.clone()).collect();
    let producer = Producer::connect(&brokers, &BTreeMap::new()).unwrap();
    let send = |value: Option<&[u8]>| {
        producer
            .send("auth_events", Some(b"one"), value, None)
            .unwrap();
    };
    send(Some(&good(0)));
    for (number, value) in values.iter().enumerate() {
        send(value.as_deref());
        send(Some(&good(number as u32 + 1)));
    }
    producer.flush(Duration::from_secs(60)).unwrap();

    cluster
        .wait_for_number("SELECT count(*) FROM auth_events", 7, PATIENCE)
        .unwrap();
    cluster
        .wait_for_number("SELECT count(*) FROM beatlytica_dead_letters", 6, PATIENCE)
        .unwrap();
    // One key, so one partition: the bad ones have the odd offsets.
    let letters = cluster
        .sql(
            "SELECT _topic, _offset, octet_length(encode(value, 'hex')) / 2 AS bytes, reason \
             FROM beatlytica_dead_letters ORDER BY _offset",
        )
        .unwrap();
    let offsets: Vec<_> = letters
        .iter()
        .map(|row| row["_offset"].as_i64().unwrap())
        .collect();
    assert_eq!(offsets, [1, 3, 5, 7, 9, 11]);
    for (row, (name, value)) in letters.iter().zip(&bad) {
        assert_eq!(row["_topic"], "auth_events", "{name}: {row}");
        assert!(!row["reason"].as_str().unwrap().is_empty(), "{name}: {row}");
        assert_eq!(
            row["bytes"].as_u64(),
            value.as_ref().map(|value| value.len() as u64),
            "{name}: {row}"
        );
    }
    // Nothing was taken twice.
    let twice = "SELECT count(*) FROM (SELECT _partition, _offset FROM auth_events \
                 GROUP BY _partition, _offset HAVING count(*) > 1)";
    assert_eq!(cluster.number(twice).unwrap(), 0);
}
