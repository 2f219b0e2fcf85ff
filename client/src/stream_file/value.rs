//! Single values of a stream file.

use toml::de::DeValue;

use super::Environment;

pub(super) const NAME: &str = "letters, digits, _ and -, a letter first";
pub(super) const TABLE_NAME: &str = "table or schema.table, of letters, digits and _";
pub(super) const FOLDER: &str = "a folder below the lake's root, such as events/listens";
pub(super) const BROKERS: &str = "host:port, several with commas between";
pub(super) const DURATION: &str = "a whole number with ms, s, m or h, such as 120s";
pub(super) const SIZE: &str = "a whole number with KB, MB, GB, KiB, MiB or GiB, such as 128MB";
pub(super) const TYPES: &str = "varchar, boolean, tinyint, smallint, integer, bigint, real, double, \
                                decimal(precision, scale), date, timestamp, timestamp with time zone, json, binary";

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || char == '_')
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || char == '_' || char == '-')
}

pub(super) fn is_table_name(text: &str) -> bool {
    text.split('.').count() <= 2 && text.split('.').all(is_identifier)
}

pub(super) fn is_folder(text: &str) -> bool {
    !text.contains("://")
        && text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.starts_with("_drumline")
}

pub(super) fn is_broker_list(text: &str) -> bool {
    text.split(',').map(str::trim).all(|broker| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    })
}

/// Names that some Drumline takes; the cluster has the last word, on lengths for one.
pub(super) fn is_type(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    let base = lower.split('(').next().unwrap_or_default().trim();
    const KNOWN: &[&str] = &[
        "varchar",
        "char",
        "character varying",
        "text",
        "string",
        "boolean",
        "bool",
        "tinyint",
        "smallint",
        "int2",
        "integer",
        "int",
        "int4",
        "bigint",
        "long",
        "int8",
        "real",
        "float",
        "float4",
        "double",
        "double precision",
        "float8",
        "decimal",
        "numeric",
        "date",
        "timestamp",
        "datetime",
        "timestamp without time zone",
        "timestamptz",
        "timestamp with time zone",
        "json",
        "binary",
        "varbinary",
        "bytea",
        "bytes",
    ];
    KNOWN.contains(&base)
}

pub(super) fn millis(text: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    match with_unit(text, &units) {
        Some(0) => Err("must be more than nothing".into()),
        Some(millis) => Ok(millis),
        None => Err(format!("\"{text}\" is not a duration")),
    }
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    match with_unit(text, &units) {
        Some(0) => Err("must be more than nothing".into()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("\"{text}\" is not a size")),
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Puts in environment variables: `${NAME}`, `${NAME:-default}` where it is not set or empty; `$${`
/// stands for a plain `${`. Where workers open `${env:NAME}` and `${file:PATH}`, these stay.
pub(super) fn substitute(
    text: &str,
    environment: Environment<'_>,
    opens_elsewhere: bool,
) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            result.push_str(&rest[..at - 1]);
            result.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        result.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..]
            .split_once('}')
            .ok_or("\"${\" is not closed")?;
        if inside.starts_with("env:") || inside.starts_with("file:") {
            if !opens_elsewhere {
                return Err(format!(
                    "${{{inside}}} is opened by workers, and only in settings of kafka"
                ));
            }
            result.push_str(&rest[at..rest.len() - after.len()]);
            rest = after;
            continue;
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_identifier(name) {
            return Err(format!(
                "\"{name}\" is not the name of an environment variable"
            ));
        }
        let value = environment(name).filter(|value| !value.is_empty() || default.is_none());
        match (value, default) {
            (Some(value), _) => result.push_str(&value),
            (None, Some(default)) => result.push_str(default),
            (None, None) => return Err(format!("the environment variable {name} is not set")),
        }
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// What a value is, in the file's own words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
