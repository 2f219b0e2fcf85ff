//! From a text to statements: splitting, positions, the statements Drumline knows.
//!
//! Everything here is synchronous and looks at text alone: no table is looked up (that is
//! `planner`'s) and nothing runs. A text is read whole before its first statement runs, so a
//! mistake in the last statement stops a script before it has written anything.
//!
//! DataFusion's parser is used for queries and expressions only. Which statements exist is decided
//! here, by an allow-list: whatever is not in `Body` answers [`Error::NotYet`] or
//! [`Error::Syntax`] and can never reach DataFusion's own `CREATE TABLE`, `COPY` or `DELETE`, which
//! would run on the master, in memory, past the lake's commits.
//!
//! Read next: `script.rs` (text to statements), `statement.rs` (what a statement can be), `parse.rs`
//! (one statement), `ddl.rs` and `alter.rs` (what DataFusion's parser refuses), `spellings.rs`
//! (what its planner has other words for), `show.rs`, `time_travel.rs`, `fresh.rs`,
//! `error.rs`.

mod alter;
mod clauses;
mod ddl;
mod distinct;
mod dml;
mod error;
mod exact;
mod fresh;
mod locate;
mod not_yet;
mod parse;
mod script;
mod show;
mod spellings;
mod statement;
#[cfg(test)]
mod tests;
mod time_travel;
mod tokens;
mod upkeep;

pub use error::{Error, Position};
pub(crate) use exact::exact;
pub(crate) use fresh::split as split_fresh;
pub(crate) use locate::{Names, candidates, explain};
pub use script::{MAX_DEPTH, MAX_SQL_BYTES, parse, parse_query, tables_of};
pub(crate) use spellings::BAG;
pub use statement::Statement;
pub(crate) use statement::{
    Alter, Body, ColumnChange, CommentOn, Copy, CreateExternal, CreateTable, CreateView, Delete,
    Insert, Merge, MergeAction, MergeClause, MergeWhen, ObjectType, Optimize, Show, Update, Vacuum,
};
pub(crate) use time_travel::split as split_as_of;

/// A name as people wrote it: without the version, or the rest of its stream, that is asked for.
pub(crate) fn as_written(name: &str) -> &str {
    split_fresh(name).unwrap_or_else(|| time_travel::without(name))
}
