use prost::Message;
use prost_reflect::Value;

use super::super::beside::{Beside, Wanted};
use super::super::tests::shown;
use super::super::wire::Unknown;
use super::super::{Decoder, Headers, Record, Tombstones};
use super::*;
use crate::registry::{Language, Schemas};

const COMMON: &str = r#"syntax = "proto3"; package shop;
enum Kind { NONE = 0; BOOK = 1; }
message Money { uint64 units = 1; }"#;
const FIRST: &str = r#"syntax = "proto3"; package shop;
message Order { int32 id = 1; }
message Other { message Inner { string a = 1; } map<string, int32> m = 2; message Second {} }"#;
const SECOND: &str = r#"syntax = "proto3"; package shop;
import "common.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message Order {
  int32 id = 1;
  optional string note = 2;
  Kind kind = 3;
  Money price = 4;
  repeated string tags = 5;
  map<string, uint32> counts = 6;
  google.protobuf.Timestamp at = 7;
  google.protobuf.StringValue wrapped = 8;
  oneof who { string name = 9; int64 number = 10; }
  google.protobuf.Struct extra = 11;
  Order parent = 12;
  bytes data = 13;
}"#;

fn registered(id: i32, text: &str) -> Registered {
    Registered {
        id,
        language: Language::Protobuf,
        text: text.to_owned(),
        references: vec![("common.proto".to_owned(), COMMON.to_owned())],
    }
}

fn decoder() -> (Decoder, MessageDescriptor) {
    let known = [registered(1, FIRST), registered(2, SECOND)];
    let plan = ProtobufPlan::new(&known[1], "", Vec::new()).unwrap();
    let message = plan.message.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let schemas = Schemas::holding(runtime.handle(), &known);
    let framing = Framing::new(schemas, Language::Protobuf, Unknown::DeadLetter);
    let decoder = Decoder::new(
        "t",
        Box::new(Protobuf::new(plan, framing).unwrap()),
        Beside::new(Wanted::default()),
        Tombstones::DeadLetter,
        100_000,
    );
    (decoder, message)
}

fn push(decoder: &mut Decoder, values: &[Vec<u8>]) {
    for (offset, value) in values.iter().enumerate() {
        decoder.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            timestamp: None,
            key: None,
            value: Some(value),
            headers: Headers::default(),
        });
    }
}

fn framed(id: u8, place: &[u8], body: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id], place, body].concat()
}

fn sub(message: &MessageDescriptor, field: &str, set: &[(&str, Value)]) -> Value {
    let field = message.get_field_by_name(field).unwrap();
    let mut value = DynamicMessage::new(field.kind().as_message().unwrap().clone());
    for (name, set) in set {
        value.set_field_by_name(name, set.clone());
    }
    Value::Message(value)
}

#[test]
fn messages_become_rows() {
    let (mut decoder, descriptor) = decoder();
    let mut message = DynamicMessage::new(descriptor.clone());
    let text = |text: &str| Value::String(text.to_owned());
    message.set_field_by_name("id", Value::I32(7));
    message.set_field_by_name("kind", Value::EnumNumber(1));
    message.set_field_by_name(
        "price",
        sub(&descriptor, "price", &[("units", Value::U64(u64::MAX))]),
    );
    message.set_field_by_name("tags", Value::List(vec![text("x"), text("y")]));
    let counts = HashMap::from([(
        prost_reflect::MapKey::String("k".to_owned()),
        Value::U32(u32::MAX),
    )]);
    message.set_field_by_name("counts", Value::Map(counts));
    let moment = [("seconds", Value::I64(1)), ("nanos", Value::I32(5_000_000))];
    message.set_field_by_name("at", sub(&descriptor, "at", &moment));
    message.set_field_by_name(
        "wrapped",
        sub(&descriptor, "wrapped", &[("value", text("w"))]),
    );
    message.set_field_by_name("number", Value::I64(9));
    let mut parent = DynamicMessage::new(descriptor.clone());
    parent.set_field_by_name("id", Value::I32(6));
    message.set_field_by_name("parent", Value::Message(parent));
    message.set_field_by_name("data", Value::Bytes(vec![1, 2].into()));
    let whole = framed(2, &[0], &message.encode_to_vec());
    let empty = framed(2, &[2, 0], &[]);
    push(&mut decoder, &[whole, empty]);
    let batch = decoder.finish().unwrap();
    let names: Vec<String> = batch
        .rows
        .schema()
        .fields()
        .iter()
        .map(|it| it.name().clone())
        .collect();
    let (columns, dead) = shown(batch);
    assert!(dead.is_empty(), "{dead:?}");
    let row = |at: usize| -> Vec<(&str, &str)> {
        let values = columns.iter().map(|column| column[at].as_str());
        names.iter().map(String::as_str).zip(values).collect()
    };
    assert_eq!(
        row(0),
        [
            ("id", "7"),
            ("note", "-"),
            ("kind", "BOOK"),
            ("price", "{units: 18446744073709551615}"),
            ("tags", "[x, y]"),
            ("counts", "{k: 4294967295}"),
            ("at", "1970-01-01T00:00:01.005Z"),
            ("wrapped", "w"),
            ("name", "-"),
            ("number", "9"),
            ("extra", "-"),
            ("parent", "0806"),
            ("data", "0102"),
        ]
    );
    let empty: Vec<&str> = row(1).iter().map(|(_, value)| *value).collect();
    assert_eq!(
        empty,
        [
            "0", "-", "NONE", "-", "[]", "{}", "-", "-", "-", "-", "-", "-", ""
        ]
    );
}

#[test]
fn older_versions_and_bad_records_stand_among_others() {
    let (mut decoder, descriptor) = decoder();
    let mut order = DynamicMessage::new(descriptor.clone());
    order.set_field_by_name("id", Value::I32(1));
    order.set_field_by_name(
        "at",
        sub(&descriptor, "at", &[("seconds", Value::I64(i64::MAX))]),
    );
    push(
        &mut decoder,
        &[
            framed(1, &[0], &[8, 5]),
            framed(2, &[0], &[8, 6]),
            // Another message of its schema: Other.Inner, at 1 and 0.
            framed(1, &[4, 2, 0], &[]),
            // Cut off within a field.
            framed(2, &[0], &[18, 9, 65]),
            framed(2, &[0], &order.encode_to_vec()),
            framed(2, &[0x80], &[]),
            framed(1, &[2, 8], &[]),
            framed(3, &[0], &[8, 1]),
        ],
    );
    let (columns, dead) = shown(decoder.finish().unwrap());
    assert_eq!(columns[0], ["5", "6"]);
    assert_eq!(dead.len(), 6, "{dead:?}");
    assert_eq!(dead[0], "the message is shop.Other.Inner, not shop.Order");
    assert!(dead[1].starts_with("malformed protobuf: "), "{dead:?}");
    assert!(
        dead[2].starts_with("field \"at\": the moment is beyond"),
        "{dead:?}"
    );
    assert!(dead[3].contains("cut off"), "{dead:?}");
    assert_eq!(dead[4], "schema 1 has no message at [4]");
    assert_eq!(dead[5], "schema 3 is not registered");
}

#[test]
fn nested_messages_are_counted_without_the_entries_of_maps() {
    let messages = compile::Messages::of(&registered(1, FIRST)).unwrap();
    assert_eq!(messages.name(&[1, 0]), Some("shop.Other.Inner"));
    assert_eq!(messages.name(&[1, 1]), Some("shop.Other.Second"));
}

#[test]
fn what_does_not_compile_or_is_not_there_is_named() {
    let (key, reason) = ProtobufPlan::new(&registered(4, "message {"), "", Vec::new()).unwrap_err();
    assert_eq!(key, "decode.format");
    assert!(reason.starts_with("schema 4 cannot be used: "), "{reason}");
    let (key, reason) =
        ProtobufPlan::new(&registered(1, FIRST), "shop.Ordr", Vec::new()).unwrap_err();
    assert_eq!(key, "decode.message");
    assert_eq!(
        reason,
        "message shop.Ordr is not in schema 1; it has shop.Order, shop.Other"
    );
}
