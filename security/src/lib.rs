//! Who may come in: roles, tokens, certificates, and the one layer that every call passes.
//!
//! [`Gate`] is that layer. It knows each path of a process by its table of [`Doors`] and refuses what is
//! not in it; who calls it learns from a bearer token, a session cookie, or the certificate of the
//! connection ([`Peer`]). A master keeps [`Tokens`] and checks them itself; its workers know it and each
//! other by certificates, or on one machine by the [`Passes`] that it hands them when they join.
//! [`authority`] makes certificates, [`Certificates`] loads them and loads them again when they change,
//! [`incoming`] and [`Connector`] are the two ends of a connection.
//!
//! Must never: see what flows through the doors (no SQL, no plans, no rows), log or show a secret, or let
//! something pass because nobody thought of it.
//!
//! Read next: `gate.rs`, `doors.rs`, `tokens.rs`, `passes.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audit;
pub mod authority;
mod certificates;
mod connector;
mod doors;
mod error;
mod exposure;
mod gate;
mod identity;
mod lease;
mod listener;
pub mod local;
mod pace;
mod passes;
mod places;
mod private;
mod refusal;
mod role;
mod seal;
mod secret;
mod sessions;
mod stream;
mod token;
mod tokens;

pub use certificates::{Certificates, install_crypto};
pub use connector::{Connector, Trust, endpoint};
pub use doors::{Door, Doors};
pub use error::{Error, Kind, Result};
pub use exposure::{Exposure, check_exposure};
pub use gate::{Gate, Gated, Keys, NoTokens};
pub use identity::{CertificateIdentity, Identity, Peer, Via};
pub use lease::Lease;
pub use listener::{ClientCertificates, Incoming, incoming};
pub use pace::Pace;
pub use passes::Passes;
pub use refusal::Refusal;
pub use role::{Access, Role};
pub use seal::{Seal, SealError};
pub use sessions::session_cookie;
pub use stream::Connection;
pub use token::Token;
pub use tokens::{TokenInfo, TokenState, Tokens};
