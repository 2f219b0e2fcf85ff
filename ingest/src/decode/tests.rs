use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use proptest::prelude::*;

use super::json::{Names, Slot, scan};
use super::*;

fn field(name: &str, sql_type: &str, data_type: DataType, required: bool) -> Declared {
    Declared {
        name: name.into(),
        sql_type: sql_type.into(),
        data_type,
        required,
    }
}

fn decoder() -> Decoder {
    let fields = vec![
        field("ts", "bigint", DataType::Int64, true),
        field("song", "varchar", DataType::Utf8, false),
        field("duration", "double", DataType::Float64, false),
        field("success", "boolean", DataType::Boolean, false),
    ];
    Decoder::new("t", fields, 200).unwrap()
}

fn record(offset: i64, value: Option<&[u8]>) -> Record<'_> {
    Record {
        partition: 3,
        offset,
        timestamp: Some(7),
        key: Some(b"k"),
        value,
    }
}

fn reason(value: Option<&[u8]>) -> Option<String> {
    let mut decoder = decoder();
    decoder.push(record(0, value));
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.rows.num_rows() + batch.dead.len(), 1);
    let dead = batch.dead.finish(0).unwrap();
    (dead.num_rows() == 1).then(|| {
        dead.column_by_name("reason")
            .unwrap()
            .as_string::<i32>()
            .value(0)
            .to_owned()
    })
}

#[test]
fn each_bad_record_gets_its_reason() {
    let cases: [(Option<&[u8]>, &str); 13] = [
        (None, "null value"),
        (
            Some(b"{\"ts\":1"),
            "malformed json at byte 7: the record ends too early",
        ),
        (
            Some(b"not json"),
            "malformed json at byte 0: expected a value",
        ),
        (
            Some(b""),
            "malformed json at byte 0: the record ends too early",
        ),
        (
            Some(b"[1]"),
            "malformed json at byte 0: expected an object, found an array",
        ),
        (
            Some(b"{\"ts\":1} x"),
            "malformed json at byte 9: more follows after the object",
        ),
        (
            Some(b"{\"song\":\"a\"}"),
            "required field \"ts\" is missing",
        ),
        (Some(b"{\"ts\":null}"), "required field \"ts\" is null"),
        (
            Some(b"{\"ts\":\"12\"}"),
            "field \"ts\": expected bigint, found a string",
        ),
        (
            Some(b"{\"ts\":1.5}"),
            "field \"ts\": expected bigint, found a number",
        ),
        (
            Some(b"{\"ts\":1,\"song\":{}}"),
            "field \"song\": expected varchar, found an object",
        ),
        (
            Some(b"{\"ts\":1,\"song\":\"\xff\"}"),
            "invalid utf-8 at byte 16",
        ),
        (
            Some(&[b'x'; 201]),
            "record of 201 bytes is over the limit of 200 bytes",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(reason(value).as_deref(), Some(expected), "{value:?}");
    }
}

#[test]
fn bad_records_leave_their_neighbours_whole_and_keep_their_bytes() {
    let mut decoder = decoder();
    decoder.push(record(10, Some(br#"{"ts":1,"song":"a","duration":1.25}"#)));
    // Fails at its last field, after others were read.
    decoder.push(record(11, Some(br#"{"ts":2,"song":"b","success":"yes"}"#)));
    decoder.push(record(12, Some(br#"{"ts":3,"song":"c","success":true}"#)));
    let batch = decoder.finish().unwrap();
    assert_eq!(
        batch.rows.column(0).as_primitive::<Int64Type>().values(),
        &[1, 3]
    );
    assert_eq!(
        batch
            .rows
            .column(1)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        ["a", "c"]
    );
    assert_eq!(batch.origins.position(1), Some((3, 12)));
    assert_eq!(batch.next, BTreeMap::from([(3, 13)]));
    let dead = batch.dead.finish(5).unwrap();
    assert_eq!(
        dead.column_by_name("value")
            .unwrap()
            .as_binary::<i32>()
            .value(0),
        br#"{"ts":2,"song":"b","success":"yes"}"#
    );
    assert_eq!(
        dead.column_by_name("key")
            .unwrap()
            .as_binary::<i32>()
            .value(0),
        b"k"
    );
    assert_eq!(
        dead.column_by_name("_offset")
            .unwrap()
            .as_primitive::<Int64Type>()
            .value(0),
        11
    );
}

#[test]
fn numbers_fit_where_nothing_is_lost() {
    let mut decoder = decoder();
    for (offset, value) in [
        r#"{"ts":1540919166796.0,"song":10001,"extra":{"deep":[1,{"ts":5}]}}"#,
        r#"{"ts":1.540919166796E12,"song":1.10}"#,
        r#"{"ts":9007199254740993.0,"duration":0.1}"#,
    ]
    .iter()
    .enumerate()
    {
        decoder.push(record(
            i64::try_from(offset).unwrap(),
            Some(value.as_bytes()),
        ));
    }
    let batch = decoder.finish().unwrap();
    assert_eq!(
        batch.rows.column(0).as_primitive::<Int64Type>().values(),
        &[1540919166796, 1540919166796, 9007199254740993]
    );
    let songs = batch.rows.column(1).as_string::<i32>();
    assert_eq!(
        (songs.value(0), songs.value(1), songs.is_null(2)),
        ("10001", "1.10", true)
    );
    assert_eq!(
        batch.rows.column(2).as_primitive::<Float64Type>().value(2),
        0.1
    );
}

#[test]
fn escapes_become_text() {
    let mut decoder = decoder();
    decoder.push(record(
        0,
        Some(r#"{"ts":1,"song":"a\"\\\/\n\u00e9\ud83d\ude00ü"}"#.as_bytes()),
    ));
    let batch = decoder.finish().unwrap();
    assert_eq!(
        batch.rows.column(1).as_string::<i32>().value(0),
        "a\"\\/\né😀ü"
    );
}

#[test]
fn a_deeply_nested_record_does_not_exhaust_the_stack() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let mut names = Names::new(["a".to_owned()].into_iter());
    let failed = scan(&deep, &mut names, &mut [Slot::Missing], &mut String::new()).unwrap_err();
    assert_eq!(failed.what, "nested too deeply");
}

proptest! {
    #[test]
    fn the_scanner_accepts_what_serde_json_accepts(text in r#"\{("a"|"b"): ?(-?[0-9]{1,3}(\.[0-9]*)?([eE][+-]?[0-9]?)?|true|nul?l|"([a-z\\"nu0-9]{0,6})"|\[[1,]{0,3}\]|\{\})(,"a":1)?\}? ?"#) {
        let mut slots = [Slot::Missing; 2];
        let mut names = Names::new(["a".to_owned(), "b".to_owned()].into_iter());
        let scanned = scan(&text, &mut names, &mut slots, &mut String::new());
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        prop_assert_eq!(scanned.is_ok(), parsed.is_ok(), "{} {:?} {:?}", text, scanned, parsed);
    }
}
