//! `repair_text(varchar) → varchar`: undoes backslash escapes and UTF-8 that was read as Latin-1.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

/// Repairs text that was escaped, and decoded with the wrong character set, on its way here.
///
/// Total: it never fails, and null stays null. Three steps:
///
/// 1. *Escapes.* Where every character is below U+0100, backslash escapes are undone as Python's
///    `unicode-escape` does: `\\ \' \" \a \b \f \n \r \t \v`, a backslash before a line break (both
///    go), `\ooo` (one to three octal digits), `\xhh`, `\uhhhh` (pairs of surrogates join),
///    `\Uhhhhhhhh`. Anything else behind a backslash, and an escape that is cut off, stays as written.
/// 2. *Character set.* If every character is now below U+0100 and the characters, taken as bytes, are
///    valid UTF-8, then they are decoded as that; otherwise the text stays: it was decoded well. This is
///    repeated, since real logs hold text that went through the wrong character set twice.
/// 3. *Quotes.* Double quotes at both ends go.
///
/// | in | out | why |
/// |---|---|---|
/// | `Björk` | `Björk` | one byte 0xF6 is no UTF-8: decoded well already |
/// | `BjÃ¶rk` | `Björk` | UTF-8 read as Latin-1 |
/// | `BjÃ\u{83}Â¶rk` | `Björk` | the same, twice (U+0083 is a control character) |
/// | `Bj\xc3\xb6rk` | `Björk` | the bytes of UTF-8 as escapes |
/// | `Bj\u00f6rk` | `Björk` | the character as an escape |
/// | `"Heroes"` | `Heroes` | quotes at both ends |
/// | `AC\DC` | `AC\DC` | `\D` is no escape |
/// | `東京\n` | `東京\n` | holds characters from U+0100 on: never was Latin-1 |
///
/// Text without backslashes, without quotes at its ends and without characters from U+0080 to U+00FF
/// always stays as it is. A text that *means* `Ã¶` cannot be told from a broken one and is changed.
/// This is the repair of Beat~lytica's consumer,
/// `x.encode('latin-1').decode('unicode-escape').encode('latin-1').decode('utf-8').strip('"')`, with the
/// text kept wherever that raises an error.
pub fn repair_text(text: &str) -> Cow<'_, str> {
    let is_latin1 = |text: &str| text.chars().all(|char| u32::from(char) < 0x100);
    let mut repaired = Cow::Borrowed(text);
    if is_latin1(text) {
        if text.contains('\\') {
            repaired = Cow::Owned(unescape(text));
        }
        // Each round leaves fewer characters, so this ends.
        while !repaired.is_ascii() && is_latin1(&repaired) {
            let bytes: Vec<u8> = repaired
                .chars()
                .filter_map(|char| u8::try_from(u32::from(char)).ok())
                .collect();
            let Ok(decoded) = String::from_utf8(bytes) else {
                break;
            };
            repaired = Cow::Owned(decoded);
        }
    }
    match repaired {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches('"')),
        Cow::Owned(text) if text.starts_with('"') || text.ends_with('"') => {
            Cow::Owned(text.trim_matches('"').to_owned())
        }
        owned => owned,
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        let mut ahead = rest.clone();
        match escape(&mut ahead) {
            Some(Escape::Char(char)) => {
                out.push(char);
                rest = ahead;
            }
            Some(Escape::Nothing) => rest = ahead,
            None => out.push('\\'),
        }
    }
    out
}

enum Escape {
    Char(char),
    Nothing,
}

/// The escape behind a backslash; `None` if there is none, or it is cut off.
fn escape(rest: &mut Chars<'_>) -> Option<Escape> {
    let kind = rest.next()?;
    let char = match kind {
        '\\' | '\'' | '"' => kind,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\n' => return Some(Escape::Nothing),
        '0'..='7' => octal(kind, rest)?,
        'x' => char::from_u32(hex(rest, 2)?)?,
        'u' => utf16(rest)?,
        'U' => char::from_u32(hex(rest, 8)?)?,
        _ => return None,
    };
    Some(Escape::Char(char))
}

fn octal(first: char, rest: &mut Chars<'_>) -> Option<char> {
    let mut value = first.to_digit(8)?;
    for _ in 0..2 {
        let mut ahead: Peekable<_> = rest.clone().peekable();
        let Some(digit) = ahead.peek().and_then(|char| char.to_digit(8)) else {
            break;
        };
        value = value * 8 + digit;
        rest.next();
    }
    char::from_u32(value)
}

fn hex(rest: &mut Chars<'_>, digits: usize) -> Option<u32> {
    let mut value: u32 = 0;
    for _ in 0..digits {
        value = value.checked_mul(16)? + rest.next()?.to_digit(16)?;
    }
    Some(value)
}

/// `hhhh`, or a pair of surrogates `hhhh\uhhhh`.
fn utf16(rest: &mut Chars<'_>) -> Option<char> {
    let high = u16::try_from(hex(rest, 4)?).ok()?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(u32::from(high));
    }
    (rest.next()? == '\\' && rest.next()? == 'u').then_some(())?;
    let low = u16::try_from(hex(rest, 4)?).ok()?;
    char::decode_utf16([high, low]).next()?.ok()
}

/// [`repair_text`] in SQL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RepairText {
    signature: Signature,
}

impl RepairText {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::string(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for RepairText {
    fn name(&self) -> &str {
        "repair_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(texts) = arrays.first() else {
            return datafusion::common::exec_err!("repair_text takes one text");
        };
        let repaired = repair_all(texts)?;
        if is_scalar {
            let value = datafusion::common::ScalarValue::try_from_array(&repaired, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(repaired))
    }
}

fn repair_all(texts: &ArrayRef) -> Result<ArrayRef> {
    let plain = match texts.data_type() {
        DataType::Utf8 => Arc::clone(texts),
        _ => cast(texts, &DataType::Utf8)?,
    };
    let plain = plain.as_string::<i32>();
    let repaired: StringArray = plain.iter().map(|text| text.map(repair_text)).collect();
    debug_assert_eq!(repaired.len(), plain.len());
    Ok(Arc::new(repaired))
}

#[cfg(test)]
mod tests {
    use super::repair_text;
    use proptest::prelude::*;

    #[test]
    fn examples_of_the_documentation() {
        for (text, repaired) in [
            ("Björk", "Björk"),
            ("BjÃ¶rk", "Björk"),
            ("BjÃ\u{83}Â¶rk", "Björk"),
            (r"Bj\xc3\xb6rk", "Björk"),
            (r"Bj\303\266rk", "Björk"),
            (r"Bj\u00f6rk", "Björk"),
            (r"Bj\u00c3\u00b6rk", "Björk"),
            ("\"Heroes\"", "Heroes"),
            (r#"\"Heroes\""#, "Heroes"),
            (r"AC\DC", r"AC\DC"),
            (r"東京\n", r"東京\n"),
            (r"\ud83d\ude00", "😀"),
            (r"\ud83d", r"\ud83d"),
            (r"cut \x4", r"cut \x4"),
            (r"tail \", r"tail \"),
            (r"a\tb", "a\tb"),
            ("", ""),
            ("\"", ""),
        ] {
            assert_eq!(repair_text(text), repaired, "of {text:?}");
        }
    }

    /// How the text was broken: its UTF-8 bytes read as Latin-1, backslashes escaped.
    fn broken(text: &str) -> String {
        text.replace('\\', r"\\").bytes().map(char::from).collect()
    }

    fn escaped(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    /// Whether the text, as it is meant, already looks as if it were broken.
    fn looks_broken(text: &str) -> bool {
        let bytes: Option<Vec<u8>> = text
            .chars()
            .map(|char| u8::try_from(u32::from(char)).ok())
            .collect();
        !text.is_ascii() && bytes.is_some_and(|bytes| String::from_utf8(bytes).is_ok())
    }

    proptest! {
        #[test]
        fn never_fails(text in ".*") {
            repair_text(&text);
        }

        #[test]
        fn undoes_what_broke_the_text(text in r#"[^"]*"#) {
            prop_assume!(!looks_broken(&text));
            let from_broken = broken(&text);
            prop_assert_eq!(repair_text(&from_broken), text.as_str());
            let from_escaped = escaped(&text);
            prop_assert_eq!(repair_text(&from_escaped), text.as_str());
        }

        #[test]
        fn leaves_plain_ascii_alone(text in r#"[ !#-\[\]-~]*"#) {
            prop_assert_eq!(repair_text(&text), text.as_str());
        }

        #[test]
        fn leaves_text_beyond_latin1_alone(before in r#"[^"]*"#, after in r#"[^"]*"#) {
            let text = format!("{before}ō{after}");
            prop_assert_eq!(repair_text(&text), text.as_str());
        }
    }
}
