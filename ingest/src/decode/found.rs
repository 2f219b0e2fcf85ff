//! Fields of JSON records that are no columns yet, or do not fit their columns, and which columns they need.

use std::collections::{BTreeMap, HashSet};

use arrow::datatypes::DataType;

use super::json::{self, Names, Slot};
use super::value;
use crate::schema::Declared;

/// Columns that a topic may have: a field named by an id is a mistake, and not a thousand columns.
const COLUMNS: usize = 1_000;
/// Names that rows have of their own.
const RESERVED: [&str; 10] = [
    "_topic",
    "_partition",
    "_offset",
    "_key",
    "_headers",
    "_timestamp",
    "_op",
    "_ts_ms",
    "_position",
    "_source",
];

/// SQL types by name.
pub(crate) type Found = BTreeMap<String, &'static str>;

/// Looks for fields that need a column, or a wider one.
#[derive(Debug)]
pub(super) struct Finder {
    names: Names,
    /// By the place of their names; none: nothing is done about what does not fit.
    types: Vec<Option<DataType>>,
    // In small letters: tables do not tell names apart by their letters' case.
    known: HashSet<String>,
    scratch: String,
}

impl Finder {
    /// Fields that are left out are looked at no more.
    pub(super) fn new(fields: &[Declared], left_out: &[String]) -> Self {
        let names = fields.iter().map(|field| field.name.clone());
        let unknown = left_out
            .iter()
            .filter(|name| fields.iter().all(|field| field.name != **name));
        let types = fields.iter().map(|field| {
            let is_plain = !field.is_json() && !left_out.contains(&field.name);
            is_plain.then(|| field.data_type.clone())
        });
        let reserved = RESERVED.iter().map(|name| (*name).to_owned());
        let known = fields
            .iter()
            .map(|field| &field.name)
            .chain(left_out)
            .map(|name| name.to_ascii_lowercase());
        Self {
            names: Names::new(names.chain(unknown.clone().cloned())),
            types: types.chain(unknown.map(|_| None)).collect(),
            known: known.chain(reserved).collect(),
            scratch: String::new(),
        }
    }

    /// What one value needs. A null says nothing of its type, and what is no object is told elsewhere.
    pub(super) fn look(&mut self, value: &[u8]) -> Found {
        let mut found = Found::new();
        let Ok(text) = std::str::from_utf8(value) else {
            return found;
        };
        let Self {
            names,
            types,
            known,
            scratch,
        } = self;
        let scanned = json::members(text, scratch, |ordinal, key, slot| {
            if let Some(at) = names.find(ordinal, key) {
                let wider = types.get(at).and_then(Option::as_ref);
                let wider = wider.and_then(|own| wider_column(own, slot, text));
                if let Some(sql_type) = wider {
                    unite(&mut found, Found::from([(key.to_owned(), sql_type)]));
                }
                return;
            }
            if types.len() + found.len() >= COLUMNS || !is_name(key) {
                return;
            }
            if let Some(sql_type) = sql_type(slot, text)
                && !known.contains(&key.to_ascii_lowercase())
            {
                // Of two keys that are equal the last one counts.
                if let Some(before) = found.get_mut(key) {
                    *before = sql_type;
                } else if !found.keys().any(|it| it.eq_ignore_ascii_case(key)) {
                    found.insert(key.to_owned(), sql_type);
                }
            }
        });
        match scanned {
            Ok(()) => found,
            Err(_) => Found::new(),
        }
    }
}

/// Whether a table can have a column of that name.
fn is_name(key: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !" ,;{}()=\"`/".contains(c);
    !key.is_empty() && key.len() <= 255 && key.chars().all(is_plain)
}

fn sql_type(slot: Slot, text: &str) -> Option<&'static str> {
    Some(match slot {
        Slot::Missing | Slot::Null => return None,
        Slot::Bool(_) => "boolean",
        Slot::Number(range) => match range.of(text).parse::<i64>() {
            Ok(whole) => whole_type(whole),
            Err(_) => value::float(range.of(text)).map(|_| "double")?,
        },
        Slot::Plain(_) | Slot::Unescaped(_) => "varchar",
        Slot::Object(_) | Slot::Array(_) => "json",
    })
}

fn whole_type(value: i64) -> &'static str {
    match i32::try_from(value) {
        Ok(_) => "integer",
        Err(_) => "bigint",
    }
}

/// The wider type that a value needs which its column cannot hold; only one that holds all that the column does.
fn wider_column(own: &DataType, slot: Slot, text: &str) -> Option<&'static str> {
    let Slot::Number(range) = slot else {
        return None;
    };
    let number = range.of(text);
    let (low, high): (i64, i64) = match own {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Float32 => {
            let is_beyond = value::float(number)?.abs() > f64::from(f32::MAX);
            return is_beyond.then_some("double");
        }
        _ => return None,
    };
    match value::integer(number) {
        Some(whole) if (low..=high).contains(&whole) => None,
        Some(whole) => Some(whole_type(whole)),
        None => value::float(number).map(|_| "double"),
    }
}

/// Takes over what another record needs: a type that holds both.
pub(crate) fn unite(all: &mut Found, more: Found) {
    for (name, sql_type) in more {
        let taken = all
            .keys()
            .any(|known| known.eq_ignore_ascii_case(&name) && *known != name);
        if taken {
            continue;
        }
        all.entry(name)
            .and_modify(|known| *known = both(known, sql_type))
            .or_insert(sql_type);
    }
}

/// Whole numbers widen to fractions, numbers to text (as they are written); whatever else differs is
/// kept as JSON.
fn both(one: &'static str, other: &'static str) -> &'static str {
    match (one, other) {
        (one, other) if one == other => one,
        ("integer", "bigint") | ("bigint", "integer") => "bigint",
        ("integer" | "bigint", "double") | ("double", "integer" | "bigint") => "double",
        ("integer" | "bigint" | "double", "varchar")
        | ("varchar", "integer" | "bigint" | "double") => "varchar",
        _ => "json",
    }
}

/// In words.
pub(crate) fn listed(found: &Found) -> String {
    let fields: Vec<String> = found
        .iter()
        .map(|(name, sql_type)| format!("{name} ({sql_type})"))
        .collect();
    fields.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, sql_type: &str, data_type: DataType) -> Declared {
        Declared {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            data_type,
            required: false,
        }
    }

    fn finder() -> Finder {
        let fields = [
            field("id", "bigint", DataType::Int64),
            field("n", "integer", DataType::Int32),
            field("s", "smallint", DataType::Int16),
            field("r", "real", DataType::Float32),
            field("stuck", "integer", DataType::Int32),
        ];
        Finder::new(&fields, &["stuck".to_owned(), "gone".to_owned()])
    }

    fn found(value: &str) -> Vec<(String, &'static str)> {
        finder().look(value.as_bytes()).into_iter().collect()
    }

    fn named(expected: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        let expected = expected.iter();
        expected
            .map(|(name, sql_type)| ((*name).to_owned(), *sql_type))
            .collect()
    }

    #[test]
    fn new_fields_have_the_types_of_their_values() {
        let value = r#"{"id":1,"a":1,"b":1.5,"c":"x","d":true,"e":null,"f":{"g":1},"h":[1],"i":9e9,
            "j":3000000000,"ID":1,"_offset":1,"":1,"A":2,"two words":1,"gone":1,"Gone":2,"k":1,"k":"x"}"#;
        let expected = [
            ("a", "integer"),
            ("b", "double"),
            ("c", "varchar"),
            ("d", "boolean"),
            ("f", "json"),
            ("h", "json"),
            ("i", "double"),
            ("j", "bigint"),
            ("k", "varchar"),
        ];
        assert_eq!(found(value), named(&expected));
        for none in [r#"{"a":1"#, r#"[{"a":1}]"#, r#"{"a":1e999}"#, "null"] {
            assert_eq!(found(none), [], "{none}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_ask_for_a_column_that_holds_them_and_all_before() {
        for (value, expected) in [
            (r#"{"n":2147483647,"s":5.0,"r":1.5}"#, &[][..]),
            (r#"{"n":2147483648}"#, &[("n", "bigint")]),
            (r#"{"n":1.5}"#, &[("n", "double")]),
            (r#"{"s":40000}"#, &[("s", "integer")]),
            (r#"{"s":-3000000000}"#, &[("s", "bigint")]),
            (r#"{"r":1e200}"#, &[("r", "double")]),
            // No type holds all of these.
            (
                r#"{"id":1.5,"n":"x","s":true,"stuck":1.5,"id":99999999999999999999}"#,
                &[],
            ),
        ] {
            assert_eq!(found(value), named(expected), "{value}");
        }
    }

    #[test]
    fn records_that_differ_get_a_type_for_both() {
        for (one, other, both) in [
            ("1", "2", "integer"),
            ("1", "3000000000", "bigint"),
            ("1", "2.5", "double"),
            ("2.5", "\"x\"", "varchar"),
            ("true", "1", "json"),
            ("\"x\"", "[1]", "json"),
        ] {
            let mut all = Found::new();
            for value in [one, other] {
                unite(
                    &mut all,
                    finder().look(format!("{{\"a\":{value}}}").as_bytes()),
                );
            }
            assert_eq!(all["a"], both, "{one} {other}");
        }
    }

    #[test]
    fn a_thousand_columns_are_enough() {
        let members: Vec<String> = (0..2_000).map(|n| format!("\"f{n}\":1")).collect();
        let value = format!("{{{}}}", members.join(","));
        // Five are declared, and one is left out.
        assert_eq!(finder().look(value.as_bytes()).len(), COLUMNS - 6);
    }
}
