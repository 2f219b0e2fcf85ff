use std::collections::BTreeMap;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use serde_json::json;

use super::super::{Avro, AvroPlan};
use super::*;
use crate::decode::beside::{Beside, Wanted as WantedBeside};
use crate::decode::wire::{Framing, Unknown};
use crate::decode::{Decoder, Headers, Record, Tombstones};
use crate::registry::{Language, Registered, Schemas};

const READER: i32 = 1;

fn registered(id: i32, fields: &[Value]) -> Registered {
    Registered {
        id,
        language: Language::Avro,
        text: json!({ "type": "record", "name": "R", "fields": fields }).to_string(),
        references: Vec::new(),
    }
}

fn columns(reader: &[Value]) -> Option<Flat> {
    let reader = registered(READER, reader);
    let plan = AvroPlan::new(&reader, Vec::new(), false).unwrap();
    Flat::new(&plan.reader, &plan.own)
}

/// Rows by their offsets, and why others are none.
#[derive(Debug, PartialEq)]
struct Outcome {
    rows: BTreeMap<i64, Vec<String>>,
    refused: BTreeMap<i64, String>,
}

/// What becomes of values in versions of a schema, of which the first is the one that all are read in: in columns that
/// all share, or without.
fn decoded(versions: &[Vec<Value>], values: &[Vec<u8>], is_flat: bool) -> Outcome {
    let known: Vec<Registered> = (READER..)
        .zip(versions)
        .map(|(id, fields)| registered(id, fields))
        .collect();
    let plan = AvroPlan::new(&known[0], Vec::new(), false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &known);
    let mut avro = Avro::new(
        plan,
        Framing::new(schemas, Language::Avro, Unknown::DeadLetter),
    );
    assert!(avro.flat.is_some(), "{versions:?}");
    if !is_flat {
        avro.flat = None;
    }
    let beside = Beside::new(WantedBeside::default());
    let mut decoder = Decoder::new(
        "t",
        Box::new(avro),
        beside,
        Tombstones::DeadLetter,
        1_000_000,
    );
    let mut outcome = Outcome {
        rows: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    let offsets: Vec<i64> = (0..).take(values.len()).collect();
    // Two batches: nothing of the first is left in the second.
    let half = values.len() / 2;
    for (offsets, values) in [
        (&offsets[..half], &values[..half]),
        (&offsets[half..], &values[half..]),
    ] {
        for (offset, value) in offsets.iter().zip(values) {
            decoder.push(Record {
                partition: 0,
                offset: *offset,
                timestamp: None,
                key: None,
                value: Some(value),
                headers: Headers::default(),
            });
        }
        let batch = decoder.finish().unwrap();
        let options = FormatOptions::new().with_null("-");
        for (row, (_, offset)) in batch.origins.positions().enumerate() {
            let cells = batch.rows.columns().iter().map(|column| {
                let cells = ArrayFormatter::try_new(column, &options).unwrap();
                cells.value(row).to_string()
            });
            let twice = outcome.rows.insert(offset, cells.collect());
            assert_eq!(twice, None);
        }
        for (row, (_, offset)) in batch.dead.positions().iter().enumerate() {
            let reason = batch.dead.reason(row).unwrap().to_owned();
            outcome.refused.insert(*offset, reason);
        }
    }
    assert_eq!(outcome.rows.len() + outcome.refused.len(), values.len());
    outcome
}

fn number(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

const TYPES: [&str; 14] = [
    r#""boolean""#,
    r#""int""#,
    r#""long""#,
    r#""float""#,
    r#""double""#,
    r#""bytes""#,
    r#""string""#,
    r#"{"type":"string","avro.java.string":"String"}"#,
    r#"{"type":"int","logicalType":"date"}"#,
    r#"{"type":"int","logicalType":"time-millis"}"#,
    r#"{"type":"long","logicalType":"time-micros"}"#,
    r#"{"type":"long","logicalType":"timestamp-millis"}"#,
    r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
    r#"{"type":"long","logicalType":"unheard-of"}"#,
];

/// One of the types, alone or in a union, with or without a default.
fn field(at: usize, choice: (usize, u8, bool)) -> Value {
    let (of, union, has_default) = choice;
    let own: Value = serde_json::from_str(TYPES[of % TYPES.len()]).unwrap();
    let primitive = own.get("type").unwrap_or(&own).as_str().unwrap();
    let default = match primitive {
        "boolean" => json!(true),
        "int" | "long" => json!(7),
        "float" | "double" => json!(0.5),
        "bytes" => json!("\u{00ff}"),
        _ => json!("d"),
    };
    let (own, default) = match union % 3 {
        0 => (own, default),
        1 => (json!(["null", own]), Value::Null),
        _ => (json!([own, "null"]), default),
    };
    let mut field = json!({ "name": format!("f{at}"), "type": own });
    if has_default {
        field["default"] = default;
    }
    field
}

/// A value of these fields.
fn value(id: i32, fields: &[Value], numbers: &[i64], damage: (u8, usize, u8)) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    for (field, seed) in fields.iter().zip(numbers.iter().cycle()) {
        let own = match field["type"].as_array() {
            Some(branches) => {
                let at = usize::from(seed % 3 != 0);
                number(at as i64, &mut bytes);
                &branches[at]
            }
            None => &field["type"],
        };
        match own.get("type").unwrap_or(own).as_str().unwrap() {
            "null" => {}
            "boolean" => bytes.push((seed & 1) as u8),
            // Small enough for every unit of time to be shown.
            "int" => number(seed % 86_400, &mut bytes),
            "long" => number(seed % 86_400_000_000, &mut bytes),
            "float" => bytes.extend((*seed as f32).to_le_bytes()),
            "double" => bytes.extend((*seed as f64).to_le_bytes()),
            "bytes" => {
                number(2, &mut bytes);
                bytes.extend([0xff, *seed as u8]);
            }
            _ => {
                let text = format!("text {seed} ü");
                number(text.len() as i64, &mut bytes);
                bytes.extend(text.as_bytes());
            }
        }
    }
    let (kind, at, byte) = damage;
    let at = 5 + at % (bytes.len() - 4);
    match kind % 8 {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] = byte,
        2 => bytes.insert(at, byte),
        _ => {}
    }
    bytes
}

type Choice = (usize, u8, bool);

/// A version: for each field of the first whether it is there, and what may be there instead; further fields; and where
/// it begins.
fn version(reader: &[Choice], own: &(Vec<(u8, Choice)>, Vec<Choice>, usize)) -> Vec<Value> {
    let (changed, more, turn) = own;
    let mut fields = Vec::new();
    for (at, choice) in reader.iter().enumerate() {
        let (change, other) = changed[at % changed.len()];
        match change % 6 {
            0 => {}
            1 => fields.push(field(at, other)),
            2 => fields.push(field(at, (choice.0, 0, false))),
            3 => fields.push(field(at, (choice.0, choice.1.wrapping_add(1), choice.2))),
            _ => fields.push(field(at, *choice)),
        }
    }
    for (at, choice) in (100..).zip(more) {
        fields.push(field(at, *choice));
    }
    if fields.is_empty() {
        // A record without any byte is one that ends too early to the other decoder.
        fields.push(field(99, (1, 0, false)));
    }
    let turn = turn % fields.len();
    fields.rotate_left(turn);
    fields
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn shared_columns_hold_what_decoders_of_their_own_find(
        reader in prop::collection::vec(any::<Choice>(), 1..6),
        others in prop::collection::vec(
            (
                prop::collection::vec(any::<(u8, Choice)>(), 1..6),
                prop::collection::vec(any::<Choice>(), 0..3),
                any::<usize>(),
            ),
            0..4,
        ),
        records in prop::collection::vec(
            (any::<usize>(), prop::collection::vec(any::<i64>(), 1..8), any::<(u8, usize, u8)>()),
            1..40,
        ),
    ) {
        let own = reader.iter().enumerate().map(|(at, choice)| field(at, *choice));
        let mut versions: Vec<Vec<Value>> = vec![own.collect()];
        versions.extend(others.iter().map(|own| version(&reader, own)));
        let values: Vec<Vec<u8>> = records
            .iter()
            .map(|(of, numbers, damage)| {
                let of = of % versions.len();
                value(READER + of as i32, &versions[of], numbers, *damage)
            })
            .collect();
        let flat = decoded(&versions, &values, true);
        prop_assert_eq!(flat, decoded(&versions, &values, false), "{:?}", versions);
    }
}

#[test]
fn what_needs_no_judgement_is_a_version_and_the_rest_is_none() {
    let reader = [
        json!({ "name": "id", "type": "long" }),
        json!({ "name": "at", "type": { "type": "long", "logicalType": "timestamp-millis" } }),
        json!({ "name": "song", "type": ["null", "string"], "default": null }),
        json!({ "name": "level", "type": "string", "default": "free" }),
    ];
    let mut flat = columns(&reader).unwrap();
    let version = |fields: &[Value]| flat.version(&registered(2, fields).text);
    let [id, at, song, level] = reader.clone();
    let turned = version(&[level.clone(), at.clone(), id.clone(), song.clone()]).unwrap();
    assert!(turned.absent.is_empty());
    let same_order = version(&reader).unwrap();
    let before = version(&[id.clone(), at.clone()]).unwrap();
    let absent = [(2, Absent::Null), (3, Absent::Text("free".to_owned()))];
    assert_eq!(before.absent, absent);
    // Narrower, without null, and with a field that is not read.
    let other = [
        json!({ "name": "gone", "type": ["double", "null"] }),
        json!({ "name": "id", "type": "int" }),
        at.clone(),
        json!({ "name": "song", "type": "string" }),
    ];
    assert!(version(&other).is_some());
    let refused = [
        // A field without a default is missing.
        vec![at.clone()],
        // Milliseconds and microseconds.
        vec![
            id.clone(),
            json!({ "name": "at", "type": { "type": "long", "logicalType": "timestamp-micros" } }),
        ],
        // A null has no place.
        vec![
            json!({ "name": "id", "type": ["null", "long"] }),
            at.clone(),
        ],
        // Text is no number.
        vec![json!({ "name": "id", "type": "string" }), at.clone()],
        // More than primitives.
        vec![
            id.clone(),
            at.clone(),
            json!({ "name": "list", "type": { "type": "array", "items": "int" } }),
        ],
    ];
    for fields in refused {
        assert!(version(&fields).is_none(), "{fields:?}");
    }
    // Of a record that ends too early, or too late, nothing stays.
    let record = [2, 4, 2, 2, b'x', 0];
    assert!(flat.take(&same_order, &record, 0));
    assert!(!flat.take(&same_order, &record[..5], 1));
    assert!(!flat.take(&same_order, &[record.as_slice(), &[0]].concat(), 1));
    assert!(flat.take(&before, &[6, 8], 1));
    let (rows, batch) = flat.finish();
    assert_eq!((rows, batch.unwrap().num_rows()), (vec![0, 1], 2));
    for other in [
        json!({ "name": "id", "type": "long", "aliases": ["key"] }),
        json!({ "name": "id", "type": ["null", "int", "string"] }),
        json!({ "name": "id", "type": { "type": "bytes", "logicalType": "decimal", "precision": 4 } }),
    ] {
        assert!(columns(std::slice::from_ref(&other)).is_none(), "{other}");
    }
}

#[test]
fn text_that_is_none_is_refused_alone() {
    let versions = [
        vec![
            json!({ "name": "song", "type": "string" }),
            json!({ "name": "n", "type": "long", "default": 0 }),
        ],
        vec![json!({ "name": "song", "type": ["string"] })],
        vec![json!({ "name": "song", "type": "string" })],
    ];
    let record = |id: u8, text: &[u8], rest: &[u8]| {
        let length = [2 * text.len() as u8];
        [&[0, 0, 0, 0, id], length.as_slice(), text, rest].concat()
    };
    let values = [
        record(1, b"one", &[2]),
        record(3, b"three", &[]),
        record(1, b"\xff\xfe", &[2]),
        record(3, b"also three", &[]),
        record(1, b"cut", &[]),
    ];
    let flat = decoded(
        &versions,
        &[values.to_vec(), values.to_vec()].concat(),
        true,
    );
    let rows: Vec<i64> = flat.rows.keys().copied().collect();
    assert_eq!(rows, [0, 1, 3, 5, 6, 8]);
    assert_eq!(flat.rows[&3], ["also three", "0"]);
    assert!(flat.refused[&2].starts_with("malformed avro"), "{flat:?}");
    assert!(flat.refused[&4].starts_with("malformed avro"), "{flat:?}");
}
