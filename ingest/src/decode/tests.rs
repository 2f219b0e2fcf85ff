use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use drumline_proto::v1;
use proptest::prelude::*;

use super::json::{Names, Slot, scan};
use super::*;

/// The decoder of a topic with these fields: name, type, whether it is required.
fn decoder_of(mut topic: v1::TopicDefinition, fields: &[(&str, &str, bool)]) -> Decoder {
    topic.topic = "t".to_owned();
    topic.schema = fields
        .iter()
        .map(|(name, r#type, required)| v1::FieldDefinition {
            name: (*name).to_owned(),
            r#type: (*r#type).to_owned(),
            required: *required,
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let decoding = runtime
        .block_on(Decoding::resolve(0, &topic, None))
        .unwrap();
    decoding.decoder(200, runtime.handle()).unwrap()
}

fn decoder() -> Decoder {
    let fields = [
        ("ts", "bigint", true),
        ("song", "varchar", false),
        ("duration", "double", false),
        ("success", "boolean", false),
    ];
    decoder_of(v1::TopicDefinition::default(), &fields)
}

fn record(offset: i64, value: Option<&[u8]>) -> Record<'_> {
    Record {
        partition: 3,
        offset,
        timestamp: Some(7),
        key: Some(b"k"),
        value,
        headers: Headers::default(),
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
    let cases: [(Option<&[u8]>, &str); 14] = [
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
            "field \"ts\": expected bigint, found a number with a fraction",
        ),
        (
            Some(b"{\"ts\":9223372036854775808}"),
            "field \"ts\": expected bigint, found a number that it cannot hold",
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

/// Rows as text, column by column, and reasons of dead letters, of these values.
fn decoded(
    topic: v1::TopicDefinition,
    fields: &[(&str, &str, bool)],
    values: &[Option<&str>],
) -> (Vec<Vec<String>>, Vec<String>) {
    let mut decoder = decoder_of(topic, fields);
    let mut bytes = Vec::new();
    for (name, value) in [("a", Some(b"1".as_slice())), ("b", None), ("a", Some(b"2"))] {
        headers::push(&mut bytes, name, value);
    }
    let headers = Headers::from_bytes(&bytes);
    for (offset, value) in values.iter().enumerate() {
        decoder.push(Record {
            headers,
            ..record(i64::try_from(offset).unwrap(), value.map(str::as_bytes))
        });
    }
    shown(decoder.finish().unwrap())
}

pub(super) fn shown(batch: Batch) -> (Vec<Vec<String>>, Vec<String>) {
    assert_eq!(batch.rows.num_rows(), batch.origins.len());
    let options = arrow::util::display::FormatOptions::default().with_null("-");
    let column = |column: &ArrayRef| {
        let shown = arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap();
        (0..column.len())
            .map(|row| shown.value(row).to_string())
            .collect()
    };
    let columns = batch.rows.columns().iter().map(column).collect();
    let dead = batch.dead.finish(0).unwrap();
    let reasons = dead.column_by_name("reason").unwrap().as_string::<i32>();
    (
        columns,
        reasons.iter().flatten().map(str::to_owned).collect(),
    )
}

fn decode(change: impl FnOnce(&mut v1::Decode)) -> v1::TopicDefinition {
    let mut decode = v1::Decode::default();
    change(&mut decode);
    v1::TopicDefinition {
        decode: Some(decode),
        ..Default::default()
    }
}

const CSV: [(&str, &str, bool); 4] = [
    ("id", "bigint", true),
    ("name", "varchar", false),
    ("paid", "boolean", false),
    ("price", "decimal(6, 2)", false),
];

#[test]
fn csv_has_quotes_nulls_and_numbers() {
    let topic = decode(|it| it.format = "csv".to_owned());
    let (columns, dead) = decoded(
        topic,
        &CSV,
        &[
            Some("1,plain,true,1.50"),
            Some("2,\"a, \"\"b\"\"\",F,\r\n"),
            Some("3,\"\",,7\n"),
            Some("4,\"two\nlines\",0,-1"),
            Some("x,a,true,1"),
            Some("5,a,maybe,1"),
            Some(",a,true,1"),
            Some("6,a,true"),
            Some("7,\"a,true,1"),
            Some("8,\"a\"b,true,1"),
            Some("9,a,true,1\n10,b,true,1"),
            None,
        ],
    );
    assert_eq!(columns[0], ["1", "2", "3", "4"]);
    assert_eq!(columns[1], ["plain", "a, \"b\"", "", "two\nlines"]);
    assert_eq!(columns[2], ["true", "false", "-", "false"]);
    assert_eq!(columns[3], ["1.50", "-", "7.00", "-1.00"]);
    assert_eq!(
        dead,
        [
            "field \"id\": expected bigint, found \"x\"",
            "field \"paid\": expected boolean, found \"maybe\"",
            "required field \"id\" is null",
            "malformed csv: 3 fields instead of 4 (id, name, paid, price)",
            "malformed csv: a quote is not closed",
            "malformed csv at byte 5: more follows after a closing quote",
            "malformed csv: more than one row",
            "null value",
        ]
    );
}

#[test]
fn csv_takes_other_delimiters_quotes_nulls_and_orders() {
    let topic = decode(|it| {
        it.format = "csv".to_owned();
        it.delimiter = ";".to_owned();
        it.quote = "'".to_owned();
        it.null_text = "NULL".to_owned();
        it.columns = ["skipped", "name", "id"].map(str::to_owned).to_vec();
    });
    let fields = [("id", "bigint", true), ("name", "varchar", false)];
    let values = [
        Some("x;'it''s';1"),
        Some(";NULL;2"),
        Some(";'NULL';3"),
        Some(";;4"),
    ];
    let (columns, dead) = decoded(topic, &fields, &values);
    assert_eq!(columns[0], ["1", "2", "3", "4"]);
    assert_eq!(columns[1], ["it's", "-", "NULL", ""]);
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn raw_values_are_a_column_and_null_ones_too() {
    let topic = || decode(|it| it.format = "raw".to_owned());
    let (columns, _) = decoded(topic(), &[], &[Some("ab"), None]);
    assert_eq!(columns, [["6162", "-"]]);
    let (columns, _) = decoded(topic(), &[("line", "varchar", false)], &[Some("ab")]);
    assert_eq!(columns, [["ab"]]);
}

#[test]
fn what_stands_beside_a_value_becomes_columns() {
    let mut topic = decode(|it| it.tombstones = "row".to_owned());
    topic.key_column = "text".to_owned();
    topic.headers_column = "text".to_owned();
    topic.timestamp_column = true;
    let fields = [("a", "bigint", true)];
    let (columns, dead) = decoded(topic, &fields, &[Some(r#"{"a":1}"#), None]);
    assert_eq!(columns[0], ["1", "-"]);
    assert_eq!(columns[1], ["k", "k"]);
    // The last of two headers with one name.
    assert_eq!(columns[2][0], "{b: -, a: 2}");
    assert_eq!(columns[3][0], "1970-01-01T00:00:00.007Z");
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn a_skipped_tombstone_is_neither_row_nor_letter_and_moves_the_position() {
    let mut decoder = decoder_of(
        decode(|it| it.tombstones = "skip".to_owned()),
        &[("a", "bigint", false)],
    );
    decoder.push(record(8, None));
    assert!(!decoder.is_empty());
    let batch = decoder.finish().unwrap();
    assert_eq!((batch.rows.num_rows(), batch.dead.len()), (0, 0));
    // It counts as left out.
    assert_eq!(batch.skipped, [(3, 8)]);
    assert_eq!(batch.next, BTreeMap::from([(3, 9)]));
}

#[test]
fn any_json_can_be_kept_as_its_text() {
    let fields = [("a", "json", false)];
    let values = [
        Some(r#"{"a":{"b": [1, "x"]}}"#),
        Some(r#"{"a":"q\"uote"}"#),
        Some(r#"{"a":"plain"}"#),
        Some(r#"{"a":1.50}"#),
        Some(r#"{"a":true}"#),
        Some(r#"{"a":null}"#),
    ];
    let (columns, dead) = decoded(v1::TopicDefinition::default(), &fields, &values);
    let expected = [
        "{\"b\": [1, \"x\"]}",
        "\"q\\\"uote\"",
        "\"plain\"",
        "1.50",
        "true",
        "-",
    ];
    assert_eq!(columns[0], expected);
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn json_schema_values_lose_their_header() {
    let topic = decode(|it| it.format = "json_schema".to_owned());
    let values = [
        Some("\0\0\0\0\u{7}{\"a\":1}"),
        Some("{\"a\":1}"),
        Some("\0\0"),
    ];
    let (columns, dead) = decoded(topic, &[("a", "bigint", true)], &values);
    assert_eq!(columns, [["1"]]);
    assert_eq!(
        dead,
        [
            "the value begins with byte 123 instead of 0 and a schema's id",
            "2 bytes are too few for a schema's id"
        ]
    );
}

#[test]
fn wrong_definitions_are_refused_by_their_key() {
    let refused = |topic: v1::TopicDefinition| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let resolved = runtime.block_on(Decoding::resolve(2, &topic, None));
        let Err(Error::Definition { key, reason }) = resolved else {
            panic!("{resolved:?}")
        };
        (key, reason)
    };
    let a = v1::FieldDefinition {
        name: "a".to_owned(),
        r#type: "bigint".to_owned(),
        required: false,
    };
    let with = |change: &dyn Fn(&mut v1::Decode, &mut v1::TopicDefinition)| {
        let (mut topic, mut decode) = (v1::TopicDefinition::default(), v1::Decode::default());
        topic.schema = vec![a.clone()];
        change(&mut decode, &mut topic);
        topic.decode = Some(decode);
        refused(topic)
    };
    let said = |text: &str| text.to_owned();
    for (got, key, part) in [
        (
            with(&|it, _| it.format = said("xml")),
            "decode.format",
            "use json, csv",
        ),
        (
            with(&|it, _| it.delimiter = said(";")),
            "decode.delimiter",
            "leave it out",
        ),
        (
            with(&|it, _| {
                it.format = said("csv");
                it.delimiter = said("ab");
            }),
            "decode.delimiter",
            "not one character",
        ),
        (
            with(&|it, _| {
                it.format = said("csv");
                it.columns = vec![said("b")];
            }),
            "decode.columns",
            "field a",
        ),
        (
            with(&|it, _| it.format = said("raw")),
            "schema",
            "binary or varchar",
        ),
        (
            with(&|it, _| it.envelope = said("x")),
            "decode.envelope",
            "use debezium",
        ),
        (
            with(&|it, _| it.tombstones = said("x")),
            "decode.tombstones",
            "use dead_letter",
        ),
        (
            with(&|_, topic| topic.key_column = said("x")),
            "key_column",
            "use text or binary",
        ),
        (
            with(&|_, topic| topic.schema.clear()),
            "schema",
            "declares no fields",
        ),
        (
            with(&|_, topic| topic.schema[0].r#type = said("binary")),
            "schema[0].type",
            "use varchar",
        ),
    ] {
        assert_eq!(got.0, format!("topic[2].{key}"), "{}", got.1);
        assert!(got.1.contains(part), "{}", got.1);
    }
    let (key, reason) = with(&|it, _| it.format = said("avro"));
    assert_eq!(key, "registry");
    assert!(reason.contains("add [registry]"), "{reason}");
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
    #[test]
    fn strings_end_where_they_end(text in r#"[a-zA-Z0-9 éß€\u{1d11e}\\\u{1f}\u{80}\u{7f}]{0,40}"#, behind in "[\"x]{0,12}") {
        let mut scratch = String::new();
        let quoted = serde_json::to_string(&text).unwrap();
        let record = format!("{{\"a\":{quoted},\"b\":{}}}", serde_json::to_string(&behind).unwrap());
        let mut slots = [Slot::Missing; 2];
        let mut names = Names::new(["a".to_owned(), "b".to_owned()].into_iter());
        scan(&record, &mut names, &mut slots, &mut scratch).unwrap();
        for (slot, expected) in slots.iter().zip([&text, &behind]) {
            let found = match slot {
                Slot::Plain(range) => range.of(&record),
                Slot::Unescaped(range) => range.of(&scratch),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(found, expected.as_str());
        }
        // A raw control character is no string, wherever it stands.
        let raw = format!("{{\"a\":\"{}\u{1}{}\"}}", text.replace(['\\', '\u{1f}'], ""), behind.replace('"', ""));
        prop_assert!(scan(&raw, &mut names, &mut slots, &mut scratch).is_err(), "{}", raw);
    }
}
