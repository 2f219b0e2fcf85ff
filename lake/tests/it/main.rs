//! Lakes on real stores, and on stores that fail where it hurts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod catalogs;
mod changes;
mod commits;
mod delta;
mod faults;
mod foreign;
mod scans;
mod stores;
mod upkeep;
mod writers;
