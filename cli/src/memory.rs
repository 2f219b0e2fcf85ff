//! How much memory a process may use: as people write it (`4GiB`, `512MB`, `60%`), and what the machine has.

use std::path::Path;

use crate::amount;
use crate::failure::{Failure, Result};

/// What a master or worker gives to jobs and streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Memory {
    Bytes(u64),
    /// Of what this process may use: the machine's memory, or less in a container.
    Percent(f64),
}

/// Less than any query needs: almost always a forgotten unit.
const LEAST: u64 = 16 << 20;

impl Memory {
    /// In bytes; `None` where only a share is known, and not of what.
    pub(crate) fn bytes(self) -> Result<Option<u64>> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => match available() {
                Some(available) => (available as f64 * percent / 100.0) as u64,
                None => return Ok(None),
            },
        };
        if bytes < LEAST {
            return Err(Failure::usage(format!(
                "{bytes} bytes of memory are too few to run anything"
            ))
            .hint("give at least 16MiB, e.g. --memory 2GiB or --memory 50%"));
        }
        Ok(Some(bytes))
    }
}

/// For clap.
pub(crate) fn parse(text: &str) -> std::result::Result<Memory, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return amount::size(text).map(Memory::Bytes);
    };
    match percent.trim().parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Memory::Percent(percent)),
        _ => Err(format!("`{text}` is no share: give 1% to 100%")),
    }
}

/// The machine's memory, or what a container leaves of it.
fn available() -> Option<u64> {
    let machine = kib_line(&read("/proc/meminfo")?, "MemTotal:")?;
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    // A group without a limit says `max`, or a number beyond any machine.
    let limit = limits
        .into_iter()
        .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

/// What this process takes of the machine's memory, where the system tells.
pub(crate) fn resident() -> Option<u64> {
    kib_line(&read("/proc/self/status")?, "VmRSS:")
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("4GiB", Memory::Bytes(4 << 30)),
            ("512MB", Memory::Bytes(512_000_000)),
            ("1.5g", Memory::Bytes(1_500_000_000)),
            ("1000", Memory::Bytes(1000)),
            ("60%", Memory::Percent(60.0)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "lots", "4 apples", "0%", "120%", "-3GB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_forgotten_unit_is_noticed() {
        assert!(Memory::Bytes(4).bytes().is_err());
        assert_eq!(Memory::Bytes(LEAST).bytes().unwrap(), Some(LEAST));
    }

    #[test]
    fn a_share_is_one_of_this_machine() {
        let whole = Memory::Percent(100.0).bytes().unwrap().unwrap();
        let half = Memory::Percent(50.0).bytes().unwrap().unwrap();
        assert!(whole.abs_diff(half * 2) <= 2);
        assert_eq!(
            kib_line("MemTotal:   16 kB\nMemFree: 1 kB", "MemTotal:"),
            Some(16384)
        );
    }
}
