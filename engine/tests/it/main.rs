//! The engine on real sockets: a master's engine and two workers in this process, each worker behind a
//! listener of its own, compared with one session that runs everything in place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alter;
mod changes;
mod client_plans;
mod cluster;
mod conformance;
mod doors;
mod faults;
mod jobs;
mod lake;
mod queries;
mod statements;
mod subqueries;
mod topics;
mod unordered;
mod upkeep;
mod writes;
