//! What Drumline is tested with: real parts, started and stopped by tests.
//!
//! [`gcs`] stands in for Google Cloud Storage and can be made to fail; [`conformance`] is what
//! every object store of ours must do. For tests only: nothing that ships depends on this crate.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod conformance;
pub mod gcs;
