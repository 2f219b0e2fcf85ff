//! One fact as it is written down: JSON with a checksum of its own, in the database and as a line.
//!
//! A line begins with the checksum, `{"checksum":"<16 hex digits>",` and goes on as the fact's own JSON after
//! its brace, so that a log shipper reads an object, and the bytes that were summed can be had back.

use super::Fact;

/// How a fact's JSON begins, and where a record is recognised among other bytes.
const HEAD: &[u8] = b"{\"sequence\":";
const LINE_HEAD: &[u8] = b"{\"checksum\":\"";
const DIGITS: usize = 16;
const SUM: usize = size_of::<u64>();

/// FNV-1a (Fowler, Noll, Vo), 64 bits: any one changed byte changes it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A fact's JSON.
pub(super) fn json(fact: &Fact) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(fact)
}

/// As a value of the database.
pub(super) fn to_value(json: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(SUM + json.len());
    value.extend_from_slice(&checksum(json).to_le_bytes());
    value.extend_from_slice(json);
    value
}

/// The JSON of a value; nothing if it is damaged.
pub(super) fn from_value(value: &[u8]) -> Option<&[u8]> {
    let (sum, json) = value.split_first_chunk::<SUM>()?;
    (u64::from_le_bytes(*sum) == checksum(json)).then_some(json)
}

/// As a line, with its end.
pub(super) fn to_line(json: &[u8], lines: &mut Vec<u8>) {
    lines.extend_from_slice(LINE_HEAD);
    lines.extend_from_slice(format!("{:016x}\",", checksum(json)).as_bytes());
    lines.extend_from_slice(json.get(1..).unwrap_or_default());
    lines.push(b'\n');
}

/// The JSON of a line without its end; nothing if it is damaged.
pub(super) fn from_line(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(LINE_HEAD)?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    let sum = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let rest = rest.strip_prefix(b"\",")?;
    let mut json = Vec::with_capacity(rest.len() + 1);
    json.push(b'{');
    json.extend_from_slice(rest);
    (checksum(&json) == sum).then_some(json)
}

/// The sequence number in a fact's JSON.
pub(super) fn sequence(json: &[u8]) -> Option<u64> {
    let digits = json.strip_prefix(HEAD)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Every whole record among the bytes of a damaged database: needs nothing of its structure.
pub(super) fn salvage(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = SUM;
    while let Some(offset) = bytes.get(at..).and_then(find_head) {
        let start = at + offset;
        at = start + HEAD.len();
        let Some(json) = first_object(&bytes[start..]) else {
            continue;
        };
        let sum = bytes[start - SUM..].first_chunk::<SUM>();
        if sum.is_some_and(|sum| u64::from_le_bytes(*sum) == checksum(json))
            && let Some(sequence) = sequence(json)
        {
            found.push((sequence, json.to_vec()));
            at = start + json.len();
        }
    }
    found
}

fn find_head(bytes: &[u8]) -> Option<usize> {
    let mut braces = bytes.iter().enumerate();
    braces
        .find(|(at, byte)| **byte == HEAD[0] && bytes[*at..].starts_with(HEAD))
        .map(|(at, _)| at)
}

/// The JSON object that the bytes begin with.
fn first_object(bytes: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return bytes.get(..=at);
                }
            }
            // JSON as we write it holds no other control characters.
            0..0x20 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = br#"{"sequence":12,"at":5,"event":"stream_deleted","stream":"a {\"b}"}"#;

    #[test]
    fn a_record_comes_back_from_a_value_and_from_a_line() {
        assert_eq!(from_value(&to_value(JSON)), Some(JSON));
        let mut line = vec![];
        to_line(JSON, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert_eq!(from_line(&line).as_deref(), Some(JSON));
        assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
        assert_eq!(sequence(JSON), Some(12));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let value = to_value(JSON);
        let mut line = vec![];
        to_line(JSON, &mut line);
        line.pop();
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(from_value(&damaged), None, "bit {bit}");
        }
        for bit in 0..line.len() * 8 {
            let mut damaged = line.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A hex digit in the other case is the same digit.
            let read = from_line(&damaged);
            assert!(read.is_none() || read.as_deref() == Some(JSON), "bit {bit}");
        }
    }

    #[test]
    fn records_are_found_among_rubbish() {
        let mut bytes = vec![7; 100];
        bytes.extend(to_value(JSON));
        bytes.extend(b"{\"sequence\":1,\x00");
        bytes.extend(to_value(JSON));
        bytes.extend([0; 9]);
        let found = salvage(&bytes);
        assert_eq!(found, vec![(12, JSON.to_vec()), (12, JSON.to_vec())]);
        assert!(salvage(&bytes[..120]).is_empty());
        assert!(salvage(b"{\"seq").is_empty());
    }
}
