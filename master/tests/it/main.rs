//! A master in this process, with workers that run real task services, called over its port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod catalog;
mod cluster;
mod definitions;
mod doors;
mod failures;
mod lost_workers;
mod queries;
mod rest;
mod serving;
mod system;
mod upkeep;
mod writes;
