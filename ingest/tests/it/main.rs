//! Whole pipelines: Kafka inside this process, a lake in a temporary folder, and a master played by
//! the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bed;
mod memory;
mod pipeline;
mod probe;
mod replays;
