//! How many connections a process holds: in all, and of one address. Sockets are files, and there are only so many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Above what any cluster needs that was seen, and below what a process may open.
const MOST: usize = 8192;
const LEAST: usize = 64;

/// Connections that are held.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    all: usize,
    of_one: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too_many_connections")]
    All,
    #[error("too_many_connections_of_one_address")]
    OfOne,
}

/// A place that is taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    address: IpAddr,
    held: Arc<Mutex<Held>>,
}

impl Places {
    pub(crate) fn new(all: usize, of_one: usize) -> Self {
        Self {
            all,
            of_one,
            held: Arc::default(),
        }
    }

    /// Half of the files that this process may open; half of that for one address, so that none shuts out all others.
    pub(crate) fn of_this_process() -> Self {
        let all = (open_files().unwrap_or(1024) / 2).clamp(LEAST, MOST);
        Self::new(all, all / 2)
    }

    pub(crate) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let mut held = lock(&self.held);
        if held.all >= self.all {
            return Err(Full::All);
        }
        let of_one = held.by_address.entry(address).or_default();
        if *of_one >= self.of_one {
            return Err(Full::OfOne);
        }
        *of_one += 1;
        held.all += 1;
        Ok(Place {
            address,
            held: Arc::clone(&self.held),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.all -= 1;
        if let Some(of_one) = held.by_address.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

// Both counts change together, so a poisoned lock is still good.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The soft limit of open files, where the system tells (proc_pid_limits(5)).
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_all_places_and_all_are_given_back() {
        let places = Places::new(3, 2);
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let mut taken = vec![
            places.take(address(1)).unwrap(),
            places.take(address(1)).unwrap(),
        ];
        assert_eq!(places.take(address(1)).unwrap_err(), Full::OfOne);
        taken.push(places.take(address(2)).unwrap());
        assert_eq!(places.take(address(3)).unwrap_err(), Full::All);
        taken.clear();
        assert!(places.take(address(1)).is_ok());
        assert!(lock(&places.held).by_address.is_empty());
    }

    #[test]
    fn this_process_may_hold_some() {
        let places = Places::of_this_process();
        assert!((LEAST..=MOST).contains(&places.all) && places.of_one < places.all);
    }
}
