//! This process, as the system counts it.

/// Memory and processor time of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Processor time in user and system mode, all threads together.
    pub cpu_seconds: f64,
}

impl Process {
    /// Reads it from `/proc`; nothing where there is none.
    pub fn read() -> Option<Self> {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        // The second field is a name in parentheses, which may hold spaces; user and system time are the
        // 14th and 15th, in ticks, of which Linux counts a hundred a second wherever we run.
        let after_name = stat.rsplit(')').next()?;
        let mut ticks = after_name.split_whitespace().skip(11);
        let user: f64 = ticks.next()?.parse().ok()?;
        let system: f64 = ticks.next()?.parse().ok()?;
        Some(Self {
            resident_bytes: pages * PAGE,
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
        })
    }
}

const PAGE: u64 = 4096;
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_grows_older() {
        let before = Process::read().unwrap();
        assert!(before.resident_bytes > 1 << 20, "{before:?}");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::time::Instant::now() < until {
            if Process::read().unwrap().cpu_seconds > before.cpu_seconds {
                return;
            }
        }
        panic!("ten seconds of work took no processor time");
    }
}
