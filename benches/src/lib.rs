//! Measurements: Drumline beside what it is compared with, in the same run, on the same files.
//!
//! Answers are checked whenever they are measured; a fast wrong answer is a failure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod tpch;
