//! How a table wants its files, by its properties: `target_file_size`, `compression`, `sort_by`.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_COMPRESSION_LEVEL, DEFAULT_TARGET_FILE_SIZE};
use crate::{Error, Result};

const TARGET_FILE_SIZE: &str = "target_file_size";
/// The same, as Delta's other writers name it.
const DELTA_TARGET_FILE_SIZE: &str = "delta.targetFileSize";
const COMPRESSION: &str = "compression";
const SORT_BY: &str = "sort_by";

/// How Parquet is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Zstandard.
    #[default]
    Zstd,
    /// Snappy.
    Snappy,
    /// LZ4 in Parquet's own framing.
    Lz4,
    /// Not at all.
    None,
}

/// A column by which rows are sorted; nulls come last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortColumn {
    /// Its name.
    pub column: String,
    /// Largest first.
    pub descending: bool,
}

/// What a table's properties say of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// A file is closed when it reaches this size in bytes.
    pub target_file_size: u64,
    /// How Parquet is compressed.
    pub codec: Codec,
    /// Level, for a codec that has levels.
    pub compression_level: i32,
    /// Columns by which the rows of a file are sorted.
    pub sort_by: Vec<SortColumn>,
}

impl WriteOptions {
    /// The same, for a table of these columns.
    pub(crate) fn checked(
        table: &str,
        properties: &BTreeMap<String, String>,
        schema: &Schema,
    ) -> Result<Self> {
        let options = Self::of(table, properties)?;
        let mut sorted = options.sort_by.iter();
        match sorted.find(|by| schema.index_of(&by.column).is_err()) {
            None => Ok(options),
            Some(by) => Err(Error::Property {
                table: table.to_owned(),
                property: SORT_BY.to_owned(),
                value: by.column.clone(),
                accepted: "columns of the table",
            }),
        }
    }

    /// Reads a table's properties; those of other names are nobody's business here.
    ///
    /// # Errors
    /// A value that cannot be understood, by name.
    pub fn of(table: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let wrong = |property: &str, value: &str, accepted: &'static str| Error::Property {
            table: table.to_owned(),
            property: property.to_owned(),
            value: value.to_owned(),
            accepted,
        };
        let mut options = Self {
            target_file_size: DEFAULT_TARGET_FILE_SIZE,
            codec: Codec::default(),
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            sort_by: Vec::new(),
        };
        for name in [DELTA_TARGET_FILE_SIZE, TARGET_FILE_SIZE] {
            if let Some(value) = properties.get(name) {
                options.target_file_size = bytes(value)
                    .ok_or_else(|| wrong(name, value, "a size from 1 MB on, such as '64 MB'"))?;
            }
        }
        if let Some(value) = properties.get(COMPRESSION) {
            let accepted = "zstd, zstd(1) to zstd(22), snappy, lz4 or none";
            (options.codec, options.compression_level) =
                codec(value).ok_or_else(|| wrong(COMPRESSION, value, accepted))?;
        }
        if let Some(value) = properties.get(SORT_BY) {
            options.sort_by = sort(value)
                .ok_or_else(|| wrong(SORT_BY, value, "columns, such as 'user_id, at DESC'"))?;
        }
        Ok(options)
    }
}

/// `134217728`, `128 MB`, `128mb`, `1 GiB`: units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes >= 1 << 20).then_some(bytes)
}

fn codec(text: &str) -> Option<(Codec, i32)> {
    let text = text.trim().to_lowercase();
    let level = DEFAULT_COMPRESSION_LEVEL;
    Some(match text.as_str() {
        "zstd" => (Codec::Zstd, level),
        "snappy" => (Codec::Snappy, level),
        "lz4" | "lz4_raw" => (Codec::Lz4, level),
        "none" | "uncompressed" => (Codec::None, level),
        other => {
            let level = other.strip_prefix("zstd(")?.strip_suffix(')')?;
            let level = level.trim().parse().ok()?;
            (1..=22).contains(&level).then_some((Codec::Zstd, level))?
        }
    })
}

fn sort(text: &str) -> Option<Vec<SortColumn>> {
    text.split(',')
        .map(|part| {
            let mut words = part.split_whitespace();
            let column = words.next()?.trim_matches('"').to_owned();
            let descending = match words.next().map(str::to_lowercase).as_deref() {
                None | Some("asc") => false,
                Some("desc") => true,
                Some(_) => return None,
            };
            match (words.next(), column.is_empty()) {
                (None, false) => Some(SortColumn { column, descending }),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(property: &str, value: &str) -> Result<WriteOptions> {
        let properties = BTreeMap::from([(property.to_owned(), value.to_owned())]);
        WriteOptions::of("t", &properties)
    }

    #[test]
    fn properties_say_how_files_are() {
        let size = |value| of("target_file_size", value).unwrap().target_file_size;
        assert_eq!(
            (size("64 MB"), size("1GiB"), size("2097152")),
            (64 << 20, 1 << 30, 2 << 20)
        );
        let codec = |value| {
            let options = of("compression", value).unwrap();
            (options.codec, options.compression_level)
        };
        assert_eq!(codec("zstd(9)"), (Codec::Zstd, 9));
        assert_eq!(codec("SNAPPY").0, Codec::Snappy);
        let sorted = of("sort_by", "user_id, at DESC").unwrap().sort_by;
        let named: Vec<_> = sorted
            .iter()
            .map(|by| (by.column.as_str(), by.descending))
            .collect();
        assert_eq!(named, [("user_id", false), ("at", true)]);
    }

    #[test]
    fn what_cannot_be_understood_is_named_with_what_can() {
        for (property, value) in [
            ("target_file_size", "10"),
            ("target_file_size", "many"),
            ("delta.targetFileSize", "1 light year"),
            ("compression", "zip"),
            ("compression", "zstd(99)"),
            ("sort_by", "a b"),
            ("sort_by", ""),
        ] {
            let error = of(property, value).unwrap_err().to_string();
            assert!(
                error.contains(property) && error.contains("such as") | error.contains("zstd"),
                "{error}"
            );
        }
    }
}
