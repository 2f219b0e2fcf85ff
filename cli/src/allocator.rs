//! The allocator, jemalloc, and how soon it gives freed pages back to the system.
//!
//! A page that was given back and is taken again is cleared by the kernel first: with half a second
//! (`.cargo/config.toml`) a stream at full speed spends a tenth of its processor time so. A process far below the
//! limit it is held to therefore keeps what it frees for longer.

use std::thread;
use std::time::Duration;

use tikv_jemalloc_ctl::{Access, AsName, arenas};

use crate::memory::resident;

/// glibc keeps freed memory for each thread's arena: a worker under load took half as much again as it used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How often a process looks at itself.
const EVERY: Duration = Duration::from_millis(250);

/// Milliseconds until unused pages are given back, where memory is short, and where it is not.
const SCARCE: isize = 500;
const PLENTY: isize = 10_000;

/// Below this part of its limit a process has plenty; from the second on it has not.
const LOW: f64 = 0.25;
const HIGH: f64 = 0.35;

/// Watches this process, which should stay within so many bytes, for as long as it lives.
pub(crate) fn watch(limit: Option<u64>) {
    // Who set the allocator up knows better.
    let Some(limit) = limit.filter(|_| std::env::var_os("MALLOC_CONF").is_none()) else {
        return;
    };
    let watch = move || {
        let mut decay = SCARCE;
        while let Some(resident) = resident() {
            let now = decay_at(resident, limit, decay);
            if now != decay {
                decay = now;
                give_back_after(decay);
            }
            thread::sleep(EVERY);
        }
    };
    let watching = thread::Builder::new().name("allocator".to_owned());
    if let Err(error) = watching.spawn(watch) {
        tracing::debug!(%error, "freed memory is given back early");
    }
}

fn decay_at(resident: u64, limit: u64, before: isize) -> isize {
    let part = resident as f64 / limit as f64;
    match before {
        _ if part < LOW => PLENTY,
        _ if part >= HIGH => SCARCE,
        before => before,
    }
}

/// For all arenas, those that come later too, but for the one of allocations so large that it keeps nothing. There is
/// nothing to do about one that refuses.
fn give_back_after(milliseconds: isize) {
    let _: Result<_, _> = "arenas.dirty_decay_ms\0".name().write(milliseconds);
    for arena in 0..arenas::narenas::read().unwrap_or(0) {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        let before: Result<isize, _> = name.name().read();
        if before.is_ok_and(|before| before != 0) {
            let _: Result<_, _> = name.name().write(milliseconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_kept_for_longer_far_below_the_limit_only() {
        assert_eq!(decay_at(24, 100, SCARCE), PLENTY);
        assert_eq!(decay_at(30, 100, SCARCE), SCARCE);
        assert_eq!(decay_at(30, 100, PLENTY), PLENTY);
        assert_eq!(decay_at(35, 100, PLENTY), SCARCE);
        assert_eq!(decay_at(900, 100, PLENTY), SCARCE);
    }

    #[test]
    fn jemalloc_takes_it() {
        let read = || -> isize { b"arena.0.dirty_decay_ms\0".name().read().unwrap() };
        for decay in [PLENTY, SCARCE] {
            give_back_after(decay);
            assert_eq!(read(), decay);
        }
    }
}
