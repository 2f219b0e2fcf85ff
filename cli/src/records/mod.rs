//! The master's records on the command line: fetched over REST, shown as columns, CSV or JSON, once or as
//! they change.
//!
//! `client.rs` asks the master, `column.rs` says what a column shows of a record, `table.rs` makes text of
//! rows and fits it to the terminal, `show.rs` puts these together for `drumline apps`, `jobs`, `stages`,
//! `tasks` and `workers`, `watch.rs` does it again whenever something has changed.

mod client;
mod column;
mod show;
mod table;
mod watch;

pub(crate) use client::Client;
pub(crate) use column::{Column, Unit, bytes, took};
pub(crate) use show::{Asked, Kind, Part, Which, run};
