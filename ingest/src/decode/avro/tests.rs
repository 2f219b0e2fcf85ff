use std::collections::HashMap;

use arrow::array::{AsArray, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;

use super::super::beside::{Beside, Bytes, Wanted};
use super::super::tests::shown;
use super::super::wire::Unknown;
use super::super::{Decoder as Records, Headers, Record, Tombstones};
use super::*;
use crate::registry::{Language, Schemas};

fn registered(id: i32, text: &str) -> Registered {
    Registered {
        id,
        language: Language::Avro,
        text: text.to_owned(),
        references: Vec::new(),
    }
}

const FIRST: &str = r#"{"type":"record","name":"E","fields":[
    {"name":"n","type":"int"},{"name":"gone","type":"string"}]}"#;
const SECOND: &str = r#"{"type":"record","name":"E","fields":[
    {"name":"n","type":"long"},{"name":"added","type":["null","string"],"default":null},
    {"name":"kind","type":"string","default":"none"}]}"#;

/// A value in the wire format, made by another implementation than the one that is tested.
fn value(id: i32, text: &str, columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let metadata = HashMap::from([(SCHEMA_METADATA_KEY.to_owned(), text.to_owned())]);
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| {
            Field::new(
                *name,
                column.data_type().clone(),
                column.null_count() > 0 || *name == "added",
            )
        })
        .collect();
    let schema = Schema::new_with_metadata(fields, metadata);
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
    let mut writer = WriterBuilder::new(schema)
        .with_fingerprint_strategy(FingerprintStrategy::Id(id.cast_unsigned()))
        .build::<_, AvroSoeFormat>(Vec::new())
        .unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

fn first(n: i32) -> Vec<u8> {
    let gone: ArrayRef = Arc::new(StringArray::from(vec!["gone"]));
    value(
        1,
        FIRST,
        vec![("n", Arc::new(Int32Array::from(vec![n]))), ("gone", gone)],
    )
}

fn second(n: i64, added: Option<&str>) -> Vec<u8> {
    value(
        2,
        SECOND,
        vec![
            ("n", Arc::new(Int64Array::from(vec![n]))),
            ("added", Arc::new(StringArray::from(vec![added]))),
            ("kind", Arc::new(StringArray::from(vec!["second"]))),
        ],
    )
}

fn records(declared: &[(&str, &str, DataType, bool)]) -> Records {
    records_beside(declared, Wanted::default())
}

fn records_beside(declared: &[(&str, &str, DataType, bool)], wanted: Wanted) -> Records {
    records_of(avro(declared), wanted)
}

fn avro(declared: &[(&str, &str, DataType, bool)]) -> Avro {
    let known = [registered(1, FIRST), registered(2, SECOND)];
    let declared = declared
        .iter()
        .map(|(name, sql_type, data_type, required)| Declared {
            name: (*name).to_owned(),
            sql_type: (*sql_type).to_owned(),
            data_type: data_type.clone(),
            required: *required,
        });
    let plan = AvroPlan::new(&known[1], declared.collect(), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &known);
    let framing = Framing::new(schemas, Language::Avro, Unknown::DeadLetter);
    Avro::new(plan, framing)
}

fn records_of(avro: Avro, wanted: Wanted) -> Records {
    Records::new(
        "t",
        Box::new(avro),
        Beside::new(wanted),
        Tombstones::DeadLetter,
        100_000,
    )
}

fn push(records: &mut Records, values: &[Vec<u8>]) {
    for (offset, value) in values.iter().enumerate() {
        let key = offset.to_string();
        records.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            timestamp: None,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: Headers::default(),
        });
    }
}

#[test]
fn versions_interleaved_make_one_batch_of_rows_that_know_their_records() {
    let wanted = Wanted {
        key: Some(Bytes::Text),
        ..Wanted::default()
    };
    let mut records = records_beside(&[], wanted);
    let values: Vec<_> = (0..50)
        .map(|n| match n % 2 {
            0 => first(n),
            _ => second(n.into(), Some("x")),
        })
        .collect();
    push(&mut records, &values);
    let batch = records.finish().unwrap();
    let offsets: Vec<i64> = batch.origins.positions().map(|(_, at)| at).collect();
    let (columns, dead) = shown(batch);
    assert!(dead.is_empty(), "{dead:?}");
    for (row, offset) in offsets.iter().enumerate() {
        assert_eq!(columns[0][row], offset.to_string());
        assert_eq!(columns[3][row], offset.to_string());
        let (added, kind) = match offset % 2 {
            0 => ("-", "none"),
            _ => ("x", "second"),
        };
        assert_eq!((&*columns[1][row], &*columns[2][row]), (added, kind));
    }
    let mut sorted = offsets;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_bad_record_is_alone_and_its_neighbours_are_whole() {
    let mut cut = second(7, Some("a longer text"));
    cut.truncate(cut.len() - 4);
    let mut longer = second(8, None);
    longer.push(9);
    let values = [
        second(1, Some("a")),
        cut,
        second(2, None),
        longer,
        [second(9, None), second(10, None)].concat(),
        first(3),
        b"text".to_vec(),
        [0, 0, 0, 0, 99, 1].to_vec(),
        second(4, Some("d")),
    ];
    let mut records = records(&[]);
    push(&mut records, &values);
    let batch = records.finish().unwrap();
    let offsets: Vec<i64> = batch.origins.positions().map(|(_, at)| at).collect();
    assert_eq!(offsets, [0, 2, 5, 8]);
    let (columns, dead) = shown(batch);
    assert_eq!(columns[0], ["1", "2", "3", "4"]);
    assert_eq!(columns[1], ["a", "-", "-", "d"]);
    assert_eq!(dead.len(), 5, "{dead:?}");
    assert!(
        dead.iter().any(|it| it == "schema 99 is not registered"),
        "{dead:?}"
    );
    assert!(
        dead.iter().any(|it| it.contains("more follows")),
        "{dead:?}"
    );
    assert!(
        dead.iter().any(|it| it.starts_with("malformed avro")),
        "{dead:?}"
    );
    // And it goes on after that.
    push(&mut records, &[second(5, None)]);
    let (columns, dead) = shown(records.finish().unwrap());
    assert_eq!(
        (columns[0].as_slice(), dead.len()),
        (["5".to_owned()].as_slice(), 0)
    );
}

#[test]
fn versions_that_wait_for_their_like_keep_their_rows_and_lose_only_what_is_none() {
    let mut apart = avro(&[]);
    apart.shared = None;
    let mut records = records_of(apart, Wanted::default());
    // Several times what waits at most, of two versions by turns; and every fiftieth is cut off.
    let long = "x".repeat(1000);
    let values: Vec<_> = (0..600)
        .map(|n| match n {
            n if n % 50 == 49 => second(n.into(), Some(&long))[..20].to_vec(),
            n if n % 2 == 0 => first(n),
            n => second(n.into(), Some(&long)),
        })
        .collect();
    assert!(values.iter().map(Vec::len).sum::<usize>() > 2 * WINDOW);
    push(&mut records, &values);
    let batch = records.finish().unwrap();
    let mut rows: Vec<i64> = batch.origins.positions().map(|(_, at)| at).collect();
    let (columns, dead) = shown(batch);
    let own: Vec<i64> = columns[0].iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(own, rows);
    rows.sort_unstable();
    let whole: Vec<i64> = (0..600).filter(|n| n % 50 != 49).collect();
    assert_eq!(rows, whole);
    assert_eq!(dead.len(), 12, "{dead:?}");
    for (id, added) in columns[0].iter().zip(&columns[1]) {
        let is_second = id.parse::<i64>().unwrap() % 2 == 1;
        assert_eq!(*added == long, is_second, "{id}");
    }
}

#[test]
fn declared_fields_are_taken_and_cast_and_required() {
    let mut records = records(&[
        ("added", "varchar", DataType::Utf8, true),
        ("n", "tinyint", DataType::Int8, false),
    ]);
    push(
        &mut records,
        &[
            second(1, Some("a")),
            second(1000, Some("b")),
            second(2, None),
            second(3, Some("c")),
        ],
    );
    let (columns, dead) = shown(records.finish().unwrap());
    assert_eq!(columns, [["a", "c"], ["1", "3"]]);
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(
        dead[0].starts_with("field \"n\"") && dead[0].contains("1000"),
        "{dead:?}"
    );
    assert_eq!(dead[1], "required field \"added\" is null");
}

#[test]
fn a_declared_field_that_is_not_registered_is_named() {
    let wanted = vec![Declared {
        name: "addde".to_owned(),
        sql_type: "varchar".to_owned(),
        data_type: DataType::Utf8,
        required: false,
    }];
    let (key, reason) = AvroPlan::new(&registered(2, SECOND), wanted, false).unwrap_err();
    assert_eq!(key, "schema");
    assert_eq!(
        reason,
        "field addde is not in schema 2; it has n, added, kind"
    );
    let (_, reason) = AvroPlan::new(&registered(3, r#""string""#), Vec::new(), false).unwrap_err();
    assert!(reason.starts_with("schema 3 cannot be used: "), "{reason}");
}

/// A zigzag number as Avro has it.
fn number(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text_of(value: &str) -> Vec<u8> {
    [
        number(value.len().try_into().unwrap()),
        value.as_bytes().to_vec(),
    ]
    .concat()
}

#[test]
fn every_type_becomes_one_that_tables_have() {
    let schema = r#"{"type":"record","name":"All","namespace":"x","fields":[
        {"name":"decimal","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}},
        {"name":"date","type":{"type":"int","logicalType":"date"}},
        {"name":"millis","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"micros","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"nanos","type":{"type":"long","logicalType":"timestamp-nanos"}},
        {"name":"local","type":{"type":"long","logicalType":"local-timestamp-millis"}},
        {"name":"time","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
        {"name":"enum","type":{"type":"enum","name":"Suit","symbols":["HEARTS","SPADES"]}},
        {"name":"nothing","type":["null","long"]},
        {"name":"either","type":["null","long","string"]},
        {"name":"nested","type":{"type":"record","name":"Inner","fields":[
            {"name":"a","type":"boolean"},{"name":"again","type":["null","Suit"]}]}},
        {"name":"list","type":{"type":"array","items":"float"}},
        {"name":"map","type":{"type":"map","values":"double"}},
        {"name":"fixed","type":{"type":"fixed","name":"F","size":2}}
    ]}"#;
    let registered = registered(7, schema);
    let plan = AvroPlan::new(&registered, Vec::new(), false).unwrap();
    let moment: i64 = 1_541_106_106_796;
    let value = [
        vec![0, 0, 0, 0, 7],
        // 123.45 in two bytes
        number(2),
        vec![0x30, 0x39],
        number(17_000),
        number(moment),
        number(moment * 1000),
        number(moment * 1_000_000),
        number(moment),
        number(3_661_007),
        text_of("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        number(1),
        number(0),
        [number(2), text_of("two")].concat(),
        [vec![1], number(1), number(0)].concat(),
        [
            number(2),
            1.5f32.to_le_bytes().to_vec(),
            2.5f32.to_le_bytes().to_vec(),
            number(0),
        ]
        .concat(),
        [
            number(1),
            text_of("k"),
            0.25f64.to_le_bytes().to_vec(),
            number(0),
        ]
        .concat(),
        vec![0xab, 0xcd],
    ]
    .concat();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &[registered]);
    let framing = Framing::new(schemas, Language::Avro, Unknown::Wait);
    let mut records = Records::new(
        "t",
        Box::new(Avro::new(plan, framing)),
        Beside::new(Wanted::default()),
        Tombstones::Row,
        100_000,
    );
    push(&mut records, &[value]);
    let batch = records.finish().unwrap();
    let types: Vec<String> = batch
        .rows
        .schema()
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    let (columns, dead) = shown(batch);
    assert!(dead.is_empty(), "{dead:?}");
    let row: Vec<&str> = columns.iter().map(|column| column[0].as_str()).collect();
    assert_eq!(
        row,
        [
            "123.45",
            "2016-07-18",
            "2018-11-01T21:01:46.796Z",
            "2018-11-01T21:01:46.796Z",
            "2018-11-01T21:01:46.796Z",
            "2018-11-01T21:01:46.796",
            "01:01:01.007",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "SPADES",
            "-",
            "{long: -, string: two}",
            "{a: true, again: HEARTS}",
            "[1.5, 2.5]",
            "{k: 0.25}",
            "abcd",
        ],
        "{types:?}"
    );
    assert_eq!(types[8], "Utf8");
}

#[test]
fn types_that_others_define_are_written_out() {
    let address = r#"{"type":"record","name":"Address","namespace":"a.b","fields":[
        {"name":"city","type":"City"}]}"#;
    let city = r#"{"type":"enum","name":"City","namespace":"a.b","symbols":["ULM","BONN"]}"#;
    let order = r#"{"type":"record","name":"Order","namespace":"c","fields":[
        {"name":"from","type":"a.b.Address"},{"name":"to","type":["null","a.b.Address"]}]}"#;
    let registered = Registered {
        references: vec![
            ("a.b.City".to_owned(), city.to_owned()),
            ("a.b.Address".to_owned(), address.to_owned()),
        ],
        ..registered(4, order)
    };
    let plan = AvroPlan::new(&registered, Vec::new(), false).unwrap();
    let natural = plan.schema();
    assert_eq!(natural.field(0).data_type(), natural.field(1).data_type());
    assert!(natural.field(0).data_type().to_string().contains("city"));
}

#[test]
fn types_whose_names_are_written_in_full_are_found_again() {
    let text = r#"{"type":"record","name":"a.b.Order","fields":[
        {"name":"from","type":{"type":"enum","name":"a.c.City","symbols":["ULM","BONN"]}},
        {"name":"to","type":"a.c.City"},
        {"name":"unit","type":{"type":"fixed","name":"a.b.Unit","size":2}},
        {"name":"other","type":["null","Unit"]}]}"#;
    let registered = registered(4, text);
    let plan = AvroPlan::new(&registered, Vec::new(), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &[registered]);
    let framing = Framing::new(schemas, Language::Avro, Unknown::DeadLetter);
    let mut records = records_of(Avro::new(plan, framing), Wanted::default());
    push(
        &mut records,
        &[b"\x00\x00\x00\x00\x04\x02\x00ab\x02cd".to_vec()],
    );
    let (columns, dead) = shown(records.finish().unwrap());
    assert!(dead.is_empty(), "{dead:?}");
    assert_eq!(columns.concat(), ["BONN", "ULM", "6162", "6364"]);
}

#[test]
fn a_change_in_avro_is_its_row() {
    let envelope = r#"{"type":"record","name":"Envelope","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"long"}]}]},
        {"name":"after","type":["null","Value"]},
        {"name":"source","type":{"type":"record","name":"Source","fields":[
            {"name":"connector","type":"string"},{"name":"lsn","type":["null","long"]}]}},
        {"name":"op","type":"string"},
        {"name":"ts_ms","type":["null","long"]}]}"#;
    let registered = registered(5, envelope);
    let plan = AvroPlan::new(&registered, Vec::new(), true).unwrap();
    let change = |before: Option<i64>, after: Option<i64>, op: &str| {
        let row = |row: Option<i64>| row.map_or(number(0), |id| [number(1), number(id)].concat());
        [
            vec![0, 0, 0, 0, 5],
            row(before),
            row(after),
            text_of("postgresql"),
            number(1),
            number(33),
            text_of(op),
            number(1),
            number(9),
        ]
        .concat()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &[registered]);
    let framing = Framing::new(schemas, Language::Avro, Unknown::Wait);
    let changed = super::super::debezium::ChangedRows::new(Avro::new(plan, framing));
    let mut records = Records::new(
        "t",
        Box::new(changed),
        Beside::new(Wanted::default()),
        Tombstones::Skip,
        100_000,
    );
    let values = [
        change(None, Some(1), "c"),
        change(Some(1), None, "u"),
        change(Some(2), None, "d"),
    ];
    push(&mut records, &values);
    let (columns, dead) = shown(records.finish().unwrap());
    assert_eq!(columns[0], ["1", "2"]);
    assert_eq!(columns[1], ["c", "d"]);
    assert_eq!(columns[2], ["9", "9"]);
    assert_eq!(columns[3][0], "00000000000000000033");
    assert_eq!(columns[4][0], r#"{"connector":"postgresql","lsn":33}"#);
    assert_eq!(dead, ["malformed change: it has no after"]);
}

#[test]
fn what_is_no_value_within_another_is_refused_alone() {
    let price = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    let text = format!(
        r#"{{"type":"record","name":"R","fields":[
        {{"name":"prices","type":{{"type":"array","items":{price}}}}},
        {{"name":"named","type":{{"type":"map","values":{price}}}}},
        {{"name":"outer","type":["null",{{"type":"record","name":"O","fields":[
            {{"name":"inner","type":["null",{{"type":"record","name":"I","fields":[
                {{"name":"is","type":"boolean"}}]}}]}},
            {{"name":"x","type":"float"}}]}}]}},
        {{"name":"at","type":{{"type":"int","logicalType":"time-millis"}}}}]}}"#
    );
    let registered = registered(5, &text);
    let plan = AvroPlan::new(&registered, Vec::new(), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &[registered]);
    let framing = Framing::new(schemas, Language::Avro, Unknown::DeadLetter);
    let mut records = records_of(Avro::new(plan, framing), Wanted::default());
    let list = |prices: &[i32], is_map: bool| {
        let mut bytes = Vec::new();
        for price in prices {
            bytes.extend(number(1));
            bytes.extend(if is_map { text_of("k") } else { Vec::new() });
            bytes.extend(number(4));
            bytes.extend(price.to_be_bytes());
        }
        [bytes, number(0)].concat()
    };
    let record = |prices: &[i32], named: &[i32], outer: Option<bool>, at: i64| {
        let outer = outer.map_or(number(0), |is| {
            let x = 0.5f32.to_le_bytes().to_vec();
            [number(1), number(1), vec![u8::from(is)], x].concat()
        });
        let fields = [list(prices, false), list(named, true), outer, number(at)];
        [vec![0, 0, 0, 0, 5], fields.concat()].concat()
    };
    push(
        &mut records,
        &[
            record(&[1, 2], &[], Some(true), 1),
            // Five digits.
            record(&[3, 10_000], &[], None, 1),
            record(&[4], &[5], Some(false), 1),
            record(&[], &[10_000], None, 1),
            // Before midnight.
            record(&[6], &[7], None, -1),
            record(&[], &[8, 9], Some(true), 1),
            record(&[-9999], &[], None, 1),
        ],
    );
    let batch = records.finish().unwrap();
    let mut offsets: Vec<i64> = batch.origins.positions().map(|(_, at)| at).collect();
    let (columns, dead) = shown(batch);
    assert_eq!(dead.len(), 3, "{dead:?}");
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 2, 5, 6], "{dead:?}");
    assert_eq!(columns[0], ["[0.01, 0.02]", "[0.04]", "[]", "[-99.99]"]);
    assert_eq!(columns[1], ["{}", "{k: 0.05}", "{k: 0.08, k: 0.09}", "{}"]);
    assert_eq!(columns[2][1], "{inner: {is: false}, x: 0.5}");
}

#[test]
fn what_can_be_read_and_is_no_value_is_refused_alone() {
    let text = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"long"},
        {"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"]}},
        {"name":"n","type":["null",{"type":"record","name":"N","fields":[{"name":"x","type":"double"}]}]},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}}]}"#;
    let registered = registered(5, text);
    let plan = AvroPlan::new(&registered, Vec::new(), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &[registered]);
    let framing = Framing::new(schemas, Language::Avro, Unknown::DeadLetter);
    let mut records = Records::new(
        "t",
        Box::new(Avro::new(plan, framing)),
        Beside::new(Wanted::default()),
        Tombstones::DeadLetter,
        100_000,
    );
    let record = |id: i64, kind: i64, x: Option<f64>, price: i16| {
        let x = x.map_or(number(0), |x| {
            [number(1), x.to_le_bytes().to_vec()].concat()
        });
        let price = price.to_be_bytes();
        let fields = [number(id), number(kind), x, number(2), price.to_vec()];
        [vec![0, 0, 0, 0, 5], fields.concat()].concat()
    };
    for _ in 0..2 {
        push(
            &mut records,
            &[
                record(0, 0, Some(1.5), 1234),
                record(1, 7, Some(1.5), 1),
                record(2, 1, None, -9999),
                // Five digits.
                record(3, 1, None, 10_000),
                record(4, -1, None, 0),
                record(5, 1, Some(0.0), 5),
            ],
        );
        let batch = records.finish().unwrap();
        let offsets: Vec<i64> = batch.origins.positions().map(|(_, at)| at).collect();
        assert_eq!(offsets, [0, 2, 5]);
        // A member of a null struct is null by itself.
        let member = batch.rows.column(2).as_struct().column(0);
        let nulls: Vec<bool> = (0..3).map(|row| member.is_null(row)).collect();
        assert_eq!(nulls, [false, true, false]);
        let (columns, dead) = shown(batch);
        assert_eq!(columns[1], ["A", "B", "B"]);
        assert_eq!(columns[3], ["12.34", "-99.99", "0.05"]);
        assert_eq!(dead.len(), 3, "{dead:?}");
    }
}
