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

/// A number of bytes, as people write it: `64MiB`, `1.5GB`, `512m`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: give e.g. 64MiB, 1.5GB or 4GiB");
    let trimmed = text.trim();
    let end = trimmed
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "ti" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * factor;
    // Beyond it numbers of bytes are not exact any more, and no machine has as many.
    match bytes < (1_u64 << 53) as f64 {
        true => Ok(bytes as u64),
        false => Err(format!("{text} is too much")),
    }
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
        assert_eq!(size("1.5g"), Ok(1_500_000_000));
        assert_eq!(size("512 MB"), Ok(512_000_000));
        assert_eq!(size("7"), Ok(7));
        assert!(size("1 parsec").unwrap_err().contains("GiB"));
        for wrong in ["", "-1GB", "1e3", "lots", "1.2.3KB", "99999999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
