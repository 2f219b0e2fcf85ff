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
