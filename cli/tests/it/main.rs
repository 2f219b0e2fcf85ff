//! The real binary, as a user or a script meets it. Whole clusters are tested in `testkit`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod drumline;

mod cluster;
mod doors;
mod events;
mod usage;
