//! Listening events to work with: real Eventsim logs turned into the three topics of a music
//! service ([`Replay`]), and a seeded generator of the same shapes ([`Generator`]).
//!
//! Everything here is pure: bytes in, JSON lines out. Sending them anywhere is the caller's job.
//! Example data is part of the program ([`example`]), so a demo runs from any folder.
//!
//! Read next: `replay.rs` for the field-by-field mapping, `generate.rs` for the listeners' model.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod example;
mod generate;
mod replay;
mod topics;

pub use generate::{Generated, Generator, Options};
pub use replay::{Error, Replay};
pub use topics::{Event, Topic};
