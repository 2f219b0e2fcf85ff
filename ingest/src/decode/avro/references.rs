//! Schemas that refer to others by name, as one text: Avro has no imports. And names that are written in full, apart
//! from their namespace: `arrow-avro` finds no type again whose `name` has dots.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::registry::Registered;

/// The schema with each type it refers to written out where it is first used.
pub(super) fn inlined(registered: &Registered) -> Result<String, String> {
    let parse = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| format!("it is no json: {error}"))
    };
    let mut known = HashMap::new();
    for (name, text) in &registered.references {
        let definition = parse(text)?;
        let own = definition.get("name").and_then(Value::as_str);
        let own = own.map(|own| full_name(own, &namespace_of(&definition, "")));
        known.insert(own.unwrap_or_else(|| name.clone()), definition);
    }
    let own = parse(&registered.text)?;
    let (mut schema, mut seen) = (own.clone(), HashSet::new());
    write_out(&mut schema, "", &known, &mut seen);
    Ok(match schema == own {
        true => registered.text.clone(),
        false => schema.to_string(),
    })
}

pub(super) fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

/// The namespace that a definition's fields are in.
pub(super) fn namespace_of(definition: &Value, enclosing: &str) -> String {
    let name = definition.get("name").and_then(Value::as_str);
    if let Some((namespace, _)) = name.and_then(|name| name.rsplit_once('.')) {
        return namespace.to_owned();
    }
    let own = definition.get("namespace").and_then(Value::as_str);
    own.unwrap_or(enclosing).to_owned()
}

fn set_name(definition: &mut Value, namespace: &str, name: &str) {
    if let Value::Object(object) = definition {
        object.insert("namespace".to_owned(), namespace.into());
        object.insert("name".to_owned(), name.into());
    }
}

fn write_out(
    schema: &mut Value,
    namespace: &str,
    known: &HashMap<String, Value>,
    seen: &mut HashSet<String>,
) {
    match schema {
        Value::String(name) => {
            let full = full_name(name, namespace);
            let full = if known.contains_key(&full) {
                full
            } else {
                name.clone()
            };
            let Some(definition) = known.get(&full) else {
                return;
            };
            if !seen.contains(&full) {
                let mut definition = definition.clone();
                // Its own namespace, wherever it is written out.
                let (space, simple) = full.rsplit_once('.').unwrap_or(("", &full));
                set_name(&mut definition, space, simple);
                write_out(&mut definition, "", known, seen);
                *schema = definition;
            } else {
                *name = full;
            }
        }
        Value::Array(branches) => {
            for branch in branches {
                write_out(branch, namespace, known, seen);
            }
        }
        Value::Object(_) => {
            let kind = schema
                .get("type")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let own = match (&kind, schema.get("name").and_then(Value::as_str)) {
                (Some(_), Some(name)) => {
                    let own = namespace_of(schema, namespace);
                    let (full, is_full) = (full_name(name, &own), name.contains('.'));
                    if let (true, Some((space, simple))) = (is_full, full.rsplit_once('.')) {
                        set_name(schema, space, simple);
                    }
                    seen.insert(full);
                    own
                }
                _ => namespace.to_owned(),
            };
            match kind.as_deref() {
                Some("record" | "error") => {
                    let fields = schema.get_mut("fields").and_then(Value::as_array_mut);
                    for field in fields.into_iter().flatten() {
                        if let Some(within) = field.get_mut("type") {
                            write_out(within, &own, known, seen);
                        }
                    }
                }
                Some("array") => {
                    if let Some(items) = schema.get_mut("items") {
                        write_out(items, &own, known, seen);
                    }
                }
                Some("map") => {
                    if let Some(values) = schema.get_mut("values") {
                        write_out(values, &own, known, seen);
                    }
                }
                Some("enum" | "fixed") => {}
                _ => {
                    if let Some(within) = schema.get_mut("type") {
                        write_out(within, &own, known, seen);
                    }
                }
            }
        }
        _ => {}
    }
}
