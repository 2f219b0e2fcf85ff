use std::collections::{BTreeMap, HashMap};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Avro, AvroPlan};
use super::kind::Absent;
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

fn columns(reader: &[Value]) -> Option<Shared> {
    let reader = registered(READER, reader);
    let plan = AvroPlan::new(&reader, Vec::new(), false).unwrap();
    Shared::new(&plan.reader, &plan.own)
}

/// Rows by their offsets, and why others are none.
#[derive(Debug, PartialEq)]
struct Outcome {
    rows: BTreeMap<i64, Vec<String>>,
    refused: BTreeMap<i64, String>,
}

/// What becomes of values in versions of a schema, of which the first is the one that all are read in: in columns that
/// all share, or without.
fn decoded(versions: &[Vec<Value>], values: &[Vec<u8>], is_shared: bool) -> Outcome {
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
    assert!(avro.shared.is_some(), "{versions:?}");
    if !is_shared {
        avro.shared = None;
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

/// Types, two by two such as one may have become the other. `NAME` is another for each field.
const TYPES: [&str; 32] = [
    r#""int""#,
    r#""long""#,
    r#""float""#,
    r#""double""#,
    r#""string""#,
    r#"{"type":"string","avro.java.string":"String"}"#,
    r#""boolean""#,
    r#""bytes""#,
    r#"{"type":"int","logicalType":"date"}"#,
    r#"{"type":"int","logicalType":"time-millis"}"#,
    r#"{"type":"long","logicalType":"timestamp-millis"}"#,
    r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
    r#"{"type":"enum","name":"NAME","symbols":["A","B","C"]}"#,
    r#"{"type":"enum","name":"NAME","symbols":["D","B","A"],"default":"D"}"#,
    r#"{"type":"fixed","name":"NAME","size":3}"#,
    r#"{"type":"fixed","name":"NAME","size":5,"logicalType":"decimal","precision":11,"scale":3}"#,
    r#"{"type":"bytes","logicalType":"decimal","precision":30,"scale":2}"#,
    r#"{"type":"long","logicalType":"time-micros"}"#,
    r#"{"type":"array","items":"int"}"#,
    r#"{"type":"array","items":"long"}"#,
    r#"{"type":"array","items":["null","string"]}"#,
    r#"{"type":"array","items":"string"}"#,
    r#"{"type":"map","values":"float"}"#,
    r#"{"type":"map","values":["null","double"]}"#,
    r#"{"type":"record","name":"NAME","namespace":"a.b","fields":[{"name":"a","type":"int"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}}]}"#,
    r#"{"type":"record","name":"NAME","namespace":"a.b","fields":[{"name":"new","type":["null","string"],"default":null},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["Y","X"]}},{"name":"a","type":"long"},
        {"name":"again","type":{"type":"array","items":"E"},"default":[]}]}"#,
    r#"{"type":"array","items":["null",{"type":"record","name":"NAME","fields":[
        {"name":"gone","type":{"type":"map","values":"bytes"}},{"name":"a","type":["null","int"]}]}]}"#,
    r#"{"type":"array","items":["null",{"type":"record","name":"NAME","fields":[
        {"name":"a","type":["null","double"]},{"name":"b","type":{"type":"map","values":"long"},"default":{}}]}]}"#,
    r#"{"type":"map","values":{"type":"record","name":"NAME","fields":[{"name":"a","type":["string","null"]}]}}"#,
    r#"{"type":"long","logicalType":"unheard-of"}"#,
    r#"{"type":"string","logicalType":"uuid"}"#,
    r#""string""#,
];

/// One of the types, alone or in a union, with or without a default.
fn field(at: usize, choice: Choice) -> Value {
    let (of, union, has_default) = choice;
    let text = TYPES[of % TYPES.len()];
    let text = text.replace("NAME", &format!("T{at}"));
    let text = text.replace("\"E\"", &format!("\"E{at}\""));
    let own: Value = serde_json::from_str(&text).unwrap();
    let default = match (name_of(&own), own.get("logicalType")) {
        ("boolean", _) => json!(true),
        ("int" | "long", _) => json!(7),
        ("float" | "double", _) => json!(0.5),
        ("string", None) => json!("d"),
        ("bytes", None) => json!("\u{00ff}"),
        ("enum", _) => json!("A"),
        ("array", _) => json!([]),
        ("map", _) => json!({}),
        _ => Value::Null,
    };
    let (own, default) = match union % 3 {
        0 => (own, default),
        1 => (json!(["null", own]), Value::Null),
        _ => (json!([own, "null"]), default),
    };
    let has_default = has_default && (union % 3 == 1 || !default.is_null());
    let mut field = json!({ "name": format!("f{at}"), "type": own });
    if has_default {
        field["default"] = default;
    }
    field
}

fn name_of(schema: &Value) -> &str {
    schema.get("type").unwrap_or(schema).as_str().unwrap()
}

/// Writes values that are made of numbers.
struct Encoder<'n> {
    numbers: std::iter::Cycle<std::slice::Iter<'n, i64>>,
    known: HashMap<String, Value>,
    bytes: Vec<u8>,
}

impl Encoder<'_> {
    fn next(&mut self) -> i64 {
        *self.numbers.next().unwrap()
    }

    fn text(&mut self, text: &str) {
        number(text.len() as i64, &mut self.bytes);
        self.bytes.extend(text.as_bytes());
    }

    /// Items in two blocks, of which the first says how long it is.
    fn blocks(&mut self, item: impl Fn(&mut Self)) {
        let count = self.next().unsigned_abs() % 4;
        for (at, of) in [count / 2, count - count / 2].into_iter().enumerate() {
            if of == 0 {
                continue;
            }
            let whole = std::mem::take(&mut self.bytes);
            (0..of).for_each(|_| item(self));
            let block = std::mem::replace(&mut self.bytes, whole);
            match at {
                0 => {
                    number(-(of as i64), &mut self.bytes);
                    number(block.len() as i64, &mut self.bytes);
                }
                _ => number(of as i64, &mut self.bytes),
            }
            self.bytes.extend(block);
        }
        number(0, &mut self.bytes);
    }

    fn value(&mut self, schema: &Value) {
        if let Some(branches) = schema.as_array() {
            let at = usize::from(self.next() % 3 != 0);
            number(at as i64, &mut self.bytes);
            return self.value(&branches[at]);
        }
        if let Some(name) = schema.get("name").and_then(Value::as_str) {
            let simple = name.rsplit('.').next().unwrap();
            self.known.insert(simple.to_owned(), schema.clone());
        }
        match name_of(schema) {
            "null" => {}
            "boolean" => {
                let value = self.next();
                self.bytes.push((value & 1) as u8);
            }
            // Small enough for every unit of time to be shown.
            "int" => {
                let value = self.next() % 86_400;
                number(value, &mut self.bytes);
            }
            "long" => {
                let value = self.next() % 86_400_000_000;
                number(value, &mut self.bytes);
            }
            "float" => {
                let value = self.next() as f32;
                self.bytes.extend(value.to_le_bytes());
            }
            "double" => {
                let value = self.next() as f64;
                self.bytes.extend(value.to_le_bytes());
            }
            "bytes" => {
                let value = self.next();
                let digits = value.to_be_bytes();
                let length = 1 + usize::try_from(value.unsigned_abs() % 8).unwrap();
                number(length as i64, &mut self.bytes);
                self.bytes.extend(&digits[8 - length..]);
            }
            "string" if schema["logicalType"] == "uuid" => {
                let text = uuid::Uuid::from_u64_pair(1, self.next().cast_unsigned());
                self.text(&text.to_string());
            }
            "string" => {
                let text = format!("text {} ü", self.next());
                self.text(&text);
            }
            "fixed" => {
                let digits = self.next().to_be_bytes();
                let size = usize::try_from(schema["size"].as_u64().unwrap()).unwrap();
                self.bytes.extend(&digits[8 - size..]);
            }
            "enum" => {
                let symbols = schema["symbols"].as_array().unwrap().len() as i64;
                let symbol = self.next().rem_euclid(symbols);
                number(symbol, &mut self.bytes);
            }
            "array" => self.blocks(|own| own.value(&schema["items"])),
            "map" => self.blocks(|own| {
                let key = format!("key {}", own.next());
                own.text(&key);
                own.value(&schema["values"]);
            }),
            "record" => {
                for field in schema["fields"].as_array().unwrap() {
                    self.value(&field["type"]);
                }
            }
            name => {
                let known = self.known[name].clone();
                self.value(&known);
            }
        }
    }
}

/// A value of these fields.
fn value(id: i32, fields: &[Value], numbers: &[i64], damage: (u8, usize, u8)) -> Vec<u8> {
    let mut encoder = Encoder {
        numbers: numbers.iter().cycle(),
        known: HashMap::new(),
        bytes: vec![0],
    };
    encoder.bytes.extend(id.to_be_bytes());
    for field in fields {
        encoder.value(&field["type"]);
    }
    let mut bytes = encoder.bytes;
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
        match change % 8 {
            0 => {}
            4 | 5 => fields.push(field(
                at,
                ((choice.0 % TYPES.len()) ^ 1, choice.1, choice.2),
            )),
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

const NULL: &str = "null where the columns' schema has no null";
const MALFORMED: [&str; 3] = [
    "malformed avro: a union of two has a third branch",
    "malformed avro: a boolean is neither 0 nor 1",
    "malformed avro: an enum has a symbol that its schema does not name",
];

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
        let mut shared = decoded(&versions, &values, true);
        let mut apart = decoded(&versions, &values, false);
        // What the other decoder takes for another value.
        for (offset, (_, _, (damage, ..))) in (0..).zip(&records) {
            let reason = shared.refused.get(&offset).cloned().unwrap_or_default();
            let is_damaged = damage % 8 < 3;
            if reason == NULL || is_damaged && MALFORMED.contains(&&*reason) {
                shared.refused.remove(&offset);
                apart.refused.remove(&offset);
                apart.rows.remove(&offset);
            }
        }
        prop_assert_eq!(shared, apart, "{:?}", versions);
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
    let mut shared = columns(&reader).unwrap();
    let version = |fields: &[Value]| shared.version(&registered(2, fields).text).unwrap();
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
        // Text is no number.
        vec![json!({ "name": "id", "type": "string" }), at.clone()],
        // A union of more than null and one type.
        vec![
            id.clone(),
            at.clone(),
            json!({ "name": "many", "type": ["int", "string"] }),
        ],
    ];
    for fields in refused {
        assert!(version(&fields).is_none(), "{fields:?}");
    }
    // Of a record that ends too early, or too late, nothing stays.
    let record = [2, 4, 2, 2, b'x', 0];
    assert_eq!(shared.take(&same_order, &record, 0), Ok(true));
    assert_eq!(shared.take(&same_order, &record[..5], 1), Ok(false));
    let longer = [record.as_slice(), &[0]].concat();
    assert_eq!(shared.take(&same_order, &longer, 1), Ok(false));
    assert_eq!(shared.take(&before, &[6, 8], 1), Ok(true));
    let (rows, batch) = shared.finish();
    assert_eq!((rows, batch.unwrap().num_rows()), (vec![0, 1], 2));
    for other in [
        json!({ "name": "id", "type": "long", "aliases": ["key"] }),
        json!({ "name": "id", "type": ["null", "int", "string"] }),
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
    let shared = decoded(
        &versions,
        &[values.to_vec(), values.to_vec()].concat(),
        true,
    );
    let rows: Vec<i64> = shared.rows.keys().copied().collect();
    assert_eq!(rows, [0, 1, 3, 5, 6, 8]);
    assert_eq!(shared.rows[&3], ["also three", "0"]);
    assert!(
        shared.refused[&2].starts_with("malformed avro"),
        "{shared:?}"
    );
    assert!(
        shared.refused[&4].starts_with("malformed avro"),
        "{shared:?}"
    );
}

#[test]
fn numbers_and_blocks_that_say_too_much_are_refused() {
    let id = json!({ "name": "id", "type": "long" });
    let gone = json!({ "name": "gone", "type": { "type": "array", "items": "int" } });
    let versions = [vec![id.clone()], vec![gone, id]];
    let record = |version: u8, rest: &[u8]| [&[0, 0, 0, 0, version], rest].concat();
    let values = [
        record(2, &[1, 2, 4, 0, 8]),
        // More than 64 bits.
        record(1, &[[0xff; 9].as_slice(), &[2]].concat()),
        // One item, in a block of three bytes.
        record(2, &[1, 6, 4, 0, 8]),
    ];
    let shared = decoded(&versions, &values, true);
    assert_eq!(shared, decoded(&versions, &values, false));
    assert_eq!(shared.rows, BTreeMap::from([(0, vec!["4".to_owned()])]));
}

#[test]
fn what_would_be_taken_for_another_value_is_refused() {
    let fields = [
        json!({ "name": "n", "type": ["null", "int"], "default": null }),
        json!({ "name": "is", "type": "boolean", "default": false }),
        json!({ "name": "e", "default": "A", "type": { "type": "enum", "name": "E", "symbols": ["A", "B"], "default": "A" } }),
        json!({ "name": "id", "type": "long", "default": 0 }),
    ];
    let [n, is, e, _] = fields.clone();
    let nullable = json!({ "name": "id", "type": ["null", "int"] });
    let versions = [fields.to_vec(), vec![n], vec![is], vec![e], vec![nullable]];
    let values: [(&[u8], Option<&str>); 10] = [
        (&[2, 2, 1], None),
        (&[2, 4, 2], Some(MALFORMED[0])),
        (&[2, 1, 2], Some(MALFORMED[0])),
        // A branch in more bytes than it takes.
        (&[2, 0x82, 0, 1], None),
        (&[3, 1], None),
        (&[3, 2], Some(MALFORMED[1])),
        (&[4, 2], None),
        (&[4, 4], Some(MALFORMED[2])),
        (&[5, 2, 8], None),
        (&[5, 0], Some(NULL)),
    ];
    let records = values.map(|(value, _)| [&[0, 0, 0, 0], value].concat());
    let shared = decoded(&versions, &records, true);
    for (offset, (_, reason)) in (0..).zip(values) {
        let said = shared.refused.get(&offset).map(String::as_str);
        assert_eq!(said, reason, "{offset}");
    }
    assert_eq!(shared.rows[&3], ["-1", "false", "A", "0"]);
    assert_eq!(shared.rows[&8], ["-", "false", "A", "4"]);
}

#[test]
fn decimals_keep_their_values_where_their_scale_grows() {
    let price = |precision: u8, scale: u8| {
        let kind = json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale });
        vec![json!({ "name": "price", "type": kind })]
    };
    let versions = [
        price(10, 4),
        price(6, 2),
        price(12, 6),
        price(38, 2),
        price(20, 4),
    ];
    let digits = [&[0, 0, 0, 0, 4, 32], [0x4b; 16].as_slice()].concat();
    let records = [
        vec![0, 0, 0, 0, 2, 2, 100],
        vec![0, 0, 0, 0, 3, 2, 100],
        digits,
        vec![0, 0, 0, 0, 5, 2, 100],
    ];
    let shared = decoded(&versions, &records, true);
    let rows = BTreeMap::from([
        (0, vec!["1.0000".to_owned()]),
        (3, vec!["0.0100".to_owned()]),
    ]);
    assert_eq!(shared.rows, rows);
    let other = "field \"price\": decimal(12, 6) is no decimal(10, 4)";
    assert!(shared.refused[&1].contains(other), "{shared:?}");
    assert!(shared.refused[&2].contains("more digits"), "{shared:?}");
}
