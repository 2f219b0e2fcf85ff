//! The test parts are tested too: a stand-in that is wrong would prove nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stores;
