use drumline_proto::v1;

use super::super::tests::shown;
use super::super::{Decoding, Headers, Record};
use super::*;

/// Values that are empty are null.
fn decoded(values: &[&str]) -> (Vec<Vec<String>>, Vec<String>) {
    let records: Vec<(&str, &str)> = values.iter().map(|value| ("", *value)).collect();
    decoded_keyed(&records, &[])
}

fn decoded_keyed(records: &[(&str, &str)], required: &[&str]) -> (Vec<Vec<String>>, Vec<String>) {
    let field = |name: &str, r#type: &str| v1::FieldDefinition {
        name: name.to_owned(),
        r#type: r#type.to_owned(),
        required: required.contains(&name),
    };
    let topic = v1::TopicDefinition {
        topic: "t".to_owned(),
        schema: vec![field("id", "bigint"), field("name", "varchar")],
        decode: Some(v1::Decode {
            envelope: "debezium".to_owned(),
            ..Default::default()
        }),
        keys: vec!["id".to_owned()],
        ..Default::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let decoding = runtime
        .block_on(Decoding::resolve(0, &topic, None))
        .unwrap();
    let mut decoder = decoding.decoder(10_000, runtime.handle()).unwrap();
    for (offset, (key, value)) in records.iter().enumerate() {
        decoder.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            timestamp: None,
            key: (!key.is_empty()).then_some(key.as_bytes()),
            value: (!value.is_empty()).then_some(value.as_bytes()),
            headers: Headers::default(),
        });
    }
    shown(decoder.finish().unwrap())
}

#[test]
fn a_change_is_its_row_and_what_happened_to_it() {
    let (columns, dead) = decoded(&[
        r#"{"before":null,"after":{"id":1,"name":"a"},"source":{"connector":"postgresql","lsn":77},"op":"c","ts_ms":5}"#,
        r#"{"schema":{"type":"struct"},"payload":{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"source":{"connector":"postgresql","lsn":90},"op":"u","ts_ms":6}}"#,
        r#"{"before":{"id":1,"name":"b"},"after":null,"op":"d","ts_ms":7}"#,
        // The tombstone after it says nothing new.
        "",
        r#"{"op":"t","ts_ms":8}"#,
    ]);
    assert_eq!(columns[0], ["1", "1", "1", "-"]);
    assert_eq!(columns[1], ["a", "b", "b", "-"]);
    assert_eq!(columns[2], ["c", "u", "d", "t"]);
    assert_eq!(columns[3], ["5", "6", "7", "8"]);
    assert_eq!(
        columns[4],
        [
            "00000000000000000077",
            "00000000000000000090",
            // Without a source the time when it was seen stands in.
            "00000000000007000000",
            "00000000000008000000"
        ]
    );
    assert_eq!(columns[5][0], r#"{"connector":"postgresql","lsn":77}"#);
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn a_deletion_needs_no_more_than_its_key() {
    let bare = r#"{"before":null,"after":null,"op":"d","ts_ms":1}"#;
    let (columns, dead) = decoded_keyed(
        &[
            (r#"{"id":1}"#, bare),
            (r#"{"schema":{"type":"struct"},"payload":{"id":2}}"#, bare),
            (
                "",
                r#"{"before":{"id":3,"name":null},"after":null,"op":"d"}"#,
            ),
            // Who is without a key stays unknown.
            ("", bare),
            ("7", bare),
            (r#"{"name":"x"}"#, bare),
            // Of what is there everything is required.
            (r#"{"id":4}"#, r#"{"after":{"id":4,"name":null},"op":"u"}"#),
        ],
        &["id", "name"],
    );
    assert_eq!(columns[0], ["1", "2", "3"]);
    assert_eq!(columns[2], ["d", "d", "d"]);
    let starts = [
        "malformed change: op d without before and key",
        "malformed change: op d without before and key",
        "required field \"id\" is missing",
        "required field \"name\" is null",
    ];
    assert_eq!(dead.len(), starts.len(), "{dead:?}");
    for (reason, start) in dead.iter().zip(starts) {
        assert!(reason.starts_with(start), "{reason}");
    }
}

#[test]
fn what_is_no_change_is_a_dead_letter() {
    let (columns, dead) = decoded(&[
        r#"{"id":1}"#,
        r#"{"op":"u","after":null}"#,
        r#"{"op":"d","before":null}"#,
        r#"{"op":"m","after":{"id":1}}"#,
        r#"{"op":"c","after":{"id":"x"}}"#,
        "nothing",
    ]);
    assert_eq!(columns[0].len(), 0);
    let starts = [
        "malformed change: it has no op",
        "malformed change: op u without after",
        "malformed change: op d without before",
        "a change with op \"m\" is none of a row",
        "field \"id\": expected bigint, found a string",
        "malformed change: expected",
    ];
    assert_eq!(dead.len(), starts.len(), "{dead:?}");
    for (reason, start) in dead.iter().zip(starts) {
        assert!(reason.starts_with(start), "{reason}");
    }
}

/// Earlier and later places of each connector.
#[test]
fn positions_sort_as_the_sources_log_does() {
    for (earlier, later) in [
        (
            r#"{"connector":"postgresql","lsn":9}"#,
            r#"{"connector":"postgresql","lsn":10}"#,
        ),
        (
            r#"{"connector":"mysql","file":"bin.000009","pos":500,"row":0}"#,
            r#"{"connector":"mysql","file":"bin.000010","pos":4,"row":0}"#,
        ),
        (
            r#"{"connector":"mysql","file":"bin.000010","pos":4,"row":9}"#,
            r#"{"connector":"mysql","file":"bin.000010","pos":4,"row":10}"#,
        ),
        (
            r#"{"connector":"sqlserver","commit_lsn":"00000027:00000ac0:0002","change_lsn":"NULL"}"#,
            r#"{"connector":"sqlserver","commit_lsn":"00000027:00000ac0:0002","change_lsn":"00000027:00000ac0:0001","event_serial_no":1}"#,
        ),
        (
            r#"{"connector":"oracle","scn":"99"}"#,
            r#"{"connector":"oracle","scn":"100"}"#,
        ),
        (
            r#"{"connector":"db2","ts_ms":99}"#,
            r#"{"connector":"db2","ts_ms":100}"#,
        ),
    ] {
        let place = |text: &str| position(&serde_json::from_str(text).unwrap()).unwrap();
        assert!(place(earlier) < place(later), "{earlier} {later}");
    }
}
