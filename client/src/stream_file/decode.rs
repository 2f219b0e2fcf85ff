//! How values become columns, and where their schemas are.

use drumline_proto::v1;

use super::section::Section;
use crate::Result;

const FORMATS: &[&str] = &["json", "csv", "raw", "avro", "protobuf", "json_schema"];
const KEYS: &[&str] = &[
    "format",
    "envelope",
    "tombstones",
    "delimiter",
    "quote",
    "null",
    "columns",
    "subject",
    "message",
    "unknown_schema",
    "evolve",
];
const REGISTRY_KEYS: &[&str] = &[
    "url",
    "username",
    "password_env",
    "password_file",
    "token_env",
    "token_file",
];

/// `decode = "csv"`, or a table of `format` and its options.
pub(super) fn decode(topic: &Section<'_>) -> Result<Option<v1::Decode>> {
    if topic.is_text("decode") {
        let format = topic.choice("decode", FORMATS)?;
        return Ok(format.map(|format| v1::Decode {
            format: format.to_owned(),
            ..Default::default()
        }));
    }
    let Some(section) = topic.section("decode")? else {
        return Ok(None);
    };
    section.only(KEYS)?;
    let choice = |key: &str, of: &'static [&'static str]| {
        let chosen = section.choice(key, of)?;
        Ok::<_, crate::Error>(chosen.unwrap_or_default().to_owned())
    };
    let text = |key: &str| Ok::<_, crate::Error>(section.string(key)?.unwrap_or_default());
    Ok(Some(v1::Decode {
        format: section
            .choice("format", FORMATS)?
            .unwrap_or("json")
            .to_owned(),
        envelope: choice("envelope", &["debezium"])?,
        tombstones: choice("tombstones", &["dead_letter", "skip", "row"])?,
        delimiter: section.verbatim("delimiter")?,
        quote: section.verbatim("quote")?,
        null_text: section.verbatim("null")?,
        columns: section.strings("columns")?,
        subject: text("subject")?,
        unknown_schema: choice("unknown_schema", &["wait", "dead_letter"])?,
        message: text("message")?,
        evolve: section.boolean("evolve")?.unwrap_or(false),
        ..Default::default()
    }))
}

/// Whether the format has no columns but those that are declared.
pub(super) fn needs_schema(decode: Option<&v1::Decode>) -> bool {
    let format = decode.map_or("json", |decode| decode.format.as_str());
    !decode.is_some_and(|decode| decode.evolve) && !matches!(format, "raw" | "avro" | "protobuf")
}

/// `[registry]`. Secrets are named here and read where the workers run, so that none is kept or shown.
pub(super) fn registry(stream: &Section<'_>) -> Result<Option<v1::SchemaRegistry>> {
    let Some(section) = stream.section("registry")? else {
        return Ok(None);
    };
    for secret in ["password", "token"] {
        if section.has(secret) {
            let accepted = format!(
                "{secret}_env = \"VARIABLE\", {secret}_file = \"path\", read by each worker"
            );
            let reason = "is a secret, which a stream's definition does not hold".to_owned();
            return Err(section.wrong(secret, reason, Some(&accepted)));
        }
    }
    section.only(REGISTRY_KEYS)?;
    let text = |key: &str| Ok::<_, crate::Error>(section.string(key)?.unwrap_or_default());
    Ok(Some(v1::SchemaRegistry {
        url: section
            .string("url")?
            .ok_or_else(|| section.missing("url"))?,
        username: text("username")?,
        password_env: text("password_env")?,
        password_file: text("password_file")?,
        token_env: text("token_env")?,
        token_file: text("token_file")?,
    }))
}
