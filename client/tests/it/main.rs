//! The SDK against a small master of its own, and the shipped example against real events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beatlytica;
mod connection;
mod dataframe;
mod fake_master;
mod results;
