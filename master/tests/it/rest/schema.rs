//! Checks values against schemas of an OpenAPI document: types, required fields, and no field besides.

use serde_json::Value;

/// What is wrong with `value`; nothing if the schema describes it whole.
pub fn wrong(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        return match target {
            Some(target) => wrong(document, target, value, place),
            None => vec![format!("{place}: {reference} is not in the document")],
        };
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(options) = schema[choice].as_array() {
            let tried: Vec<Vec<String>> = options
                .iter()
                .map(|option| wrong(document, option, value, place))
                .collect();
            return match tried.iter().any(Vec::is_empty) {
                true => vec![],
                false => tried.concat(),
            };
        }
    }
    let mut found = vec![];
    if !types(schema).iter().any(|name| is(name, value)) {
        found.push(format!("{place}: {value} is no {:?}", types(schema)));
    }
    if let Some(named) = schema["enum"].as_array()
        && !named.contains(value)
    {
        found.push(format!("{place}: {value} is none of {named:?}"));
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            found.extend(wrong(document, &schema["items"], item, &place));
        }
    }
    if let (Some(fields), Some(described)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            let place = format!("{place}.{name}");
            match described.get(name) {
                Some(schema) => found.extend(wrong(document, schema, field, &place)),
                None => found.push(format!("{place} is not described")),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("{place}.{name} is missing"));
            }
        }
    }
    found
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let document = serde_json::json!({"components": {"schemas": {"A": {
        "type": "object", "required": ["n"],
        "properties": {"n": {"type": "integer"}, "s": {"type": ["string", "null"]}},
    }}}});
    let schema = serde_json::json!({"$ref": "#/components/schemas/A"});
    let count = |value: Value| wrong(&document, &schema, &value, "").len();
    assert_eq!(count(serde_json::json!({"n": 1, "s": null})), 0);
    assert_eq!(count(serde_json::json!({"n": "1"})), 1);
    assert_eq!(count(serde_json::json!({"s": "x"})), 1);
    assert_eq!(count(serde_json::json!({"n": 1, "more": 1})), 1);
    assert_eq!(count(serde_json::json!([])), 1);
}
