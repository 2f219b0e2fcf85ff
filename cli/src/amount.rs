//! Lengths of time and sizes as people write them: `30d`, `12h`, `256MiB`.

use std::time::Duration;

/// A number and a unit: `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("write a number and a unit: 90s, 45m, 12h or 30d".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no whole number"))?;
    let seconds = number.checked_mul(seconds);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text} is too long"))
}

/// A number of bytes, with `KiB`, `MiB`, `GiB` or `TiB` where wanted.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("write a number and a unit: 64MiB, 1GiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no whole number"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} is too much"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_or_refused_with_an_example() {
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("90 s"), Ok(Duration::from_secs(90)));
        assert!(duration("30").unwrap_err().contains("30d"));
        assert!(duration("-1h").is_err());
        assert!(duration("99999999999999999d").is_err());
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("7"), Ok(7));
        assert!(size("1 parsec").unwrap_err().contains("GiB"));
        assert!(size("99999999999TiB").is_err());
    }
}
