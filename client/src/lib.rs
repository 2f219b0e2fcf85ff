//! The SDK: connect to a master, run SQL and DataFrame programs, watch applications, define streams.
//!
//! ```no_run
//! # async fn example() -> Result<(), drumline_client::Error> {
//! let client = drumline_client::Client::connect("http://127.0.0.1:7077").await?;
//! let batches = client.collect_sql("SELECT count(*) FROM listen_events").await?;
//! # Ok(()) }
//! ```
//!
//! This crate sees the wire contracts and DataFusion's expressions, never the engine: a DataFrame
//! here only *names* tables and travels as a logical plan; the master binds it to what the tables
//! hold ([`plan`]). Rows come as one Arrow Flight stream per statement.
//!
//! Read next: `connection.rs`, `application.rs`, `plan.rs`; `stream_file.rs` for the file that
//! `drumline stream apply` takes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod application;
mod connection;
mod dataframe;
mod error;
pub mod plan;
mod rows;
mod run;
pub mod stream_file;
mod streams;
mod tokens;
mod verify;

pub use application::{Application, Contact, Events, Submission};
pub use connection::{Client, Options};
pub use drumline_proto::v1 as proto;
pub use error::{Error, Failure, Kind, Position, Result};
pub use rows::Rows;
pub use run::{Outcome, Run};
pub use streams::{Applied, Streams};
pub use tokens::{NewToken, Tokens};
