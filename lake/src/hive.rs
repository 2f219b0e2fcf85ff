//! Hive folder names, `column=value`, and how odd characters travel in them.

use std::fmt::Write;

/// Folder value that stands for null.
pub(crate) const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// `a=1/b=x%2Fy`, with a trailing slash when there are any columns.
pub(crate) fn folders<'a>(values: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut folders = String::new();
    for (column, value) in values {
        escape_into(&mut folders, column);
        folders.push('=');
        match value {
            Some(value) => escape_into(&mut folders, value),
            None => folders.push_str(NULL_VALUE),
        }
        folders.push('/');
    }
    folders
}

/// Bytes that the name of a folder may have in most file systems.
const MOST_BYTES: usize = 255;

/// That a value cannot be the name of a folder, `COLUMN=VALUE`: it would be too long for file systems, also for those that
/// copies of the table are on.
pub fn too_long(column: &str, value: &str) -> Option<String> {
    // Escaped, a byte takes at most three.
    if (column.len() + value.len()) * 3 < MOST_BYTES {
        return None;
    }
    let folder = folders([(column, Some(value))]);
    let bytes = folder.len() - 1;
    (bytes > MOST_BYTES).then(|| {
        let begins: String = value.chars().take(20).collect();
        format!(
            "column '{column}' is a folder of the table, and \"{begins}…\" would be a name of {bytes} bytes; it may have \
             {MOST_BYTES}"
        )
    })
}

/// Escapes what Hive escapes (`FileUtils.escapePathName`), so that other readers undo it.
fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        let escaped = c.is_ascii_control()
            || matches!(
                c,
                '"' | '#'
                    | '%'
                    | '\''
                    | '*'
                    | '/'
                    | ':'
                    | '='
                    | '?'
                    | '\\'
                    | '{'
                    | '}'
                    | '['
                    | ']'
                    | '^'
            );
        if escaped {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

/// Undoes the escaping of one folder value; what is no escape stays as it is.
#[cfg(test)]
fn unescape(text: &str) -> String {
    percent_decode(text)
}

/// Percent-encodes a relative path as Delta logs want it (RFC 2396): all but unreserved bytes, `/` and `=`.
pub(crate) fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes [`percent_encode`]; a `%` that starts no escape stays.
pub(crate) fn percent_decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = path
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_not_padded_and_null_has_its_name() {
        let values = [("month", Some("1")), ("day", Some("2")), ("hour", None)];
        assert_eq!(
            folders(values),
            "month=1/day=2/hour=__HIVE_DEFAULT_PARTITION__/"
        );
    }

    #[test]
    fn a_folder_has_no_longer_a_name_than_file_systems_allow() {
        let said = |value: &str| too_long("k", value);
        assert_eq!(said(&"y".repeat(253)), None);
        let reason = said(&"y".repeat(254)).unwrap();
        assert!(reason.contains("a name of 256 bytes"), "{reason}");
        // Escaped, each of these takes three.
        assert_eq!(said(&"/".repeat(84)), None);
        assert!(said(&"/".repeat(85)).is_some());
    }

    proptest! {
        #[test]
        fn any_value_survives_the_way_through_a_folder_name(value in ".+") {
            let folder = folders([("k", Some(value.as_str()))]);
            let path = Path::parse(format!("root/{folder}file")).unwrap();
            prop_assert_eq!(path.parts_count(), 3);
            let written = path.as_ref().strip_prefix("root/k=").unwrap();
            prop_assert_eq!(unescape(written.strip_suffix("/file").unwrap()), value);
        }

        #[test]
        fn any_path_survives_the_way_through_a_delta_log(path in ".*") {
            prop_assert_eq!(percent_decode(&percent_encode(&path)), path);
        }
    }
}
