//! Statements and clauses that Drumline will have, and has not yet: refused by name, before anything
//! of the text runs.

use super::tokens::is_word;
use super::{Error, Position};
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

/// First word of a statement, what to call it, and what does the same today.
const STATEMENTS: &[(&str, &str, Option<&str>)] = &[
    (
        "ANALYZE",
        "ANALYZE",
        Some("EXPLAIN ANALYZE runs a query and shows its metrics"),
    ),
    ("CACHE", "CACHE", None),
    ("CALL", "CALL", None),
    ("DEALLOCATE", "DEALLOCATE", None),
    ("EXECUTE", "EXECUTE", None),
    ("GRANT", "GRANT", None),
    (
        "LOAD",
        "LOAD",
        Some("CREATE EXTERNAL TABLE … STORED AS PARQUET LOCATION '…' reads a folder of Parquet"),
    ),
    ("MSCK", "MSCK REPAIR TABLE", None),
    ("PREPARE", "PREPARE", None),
    (
        "REFRESH",
        "REFRESH",
        Some("every statement reads the newest snapshot"),
    ),
    ("REPLACE", "REPLACE", None),
    ("RESTORE", "RESTORE", None),
    ("REVOKE", "REVOKE", None),
    (
        "ROLLBACK",
        "ROLLBACK",
        Some("every statement was committed by itself, and stays"),
    ),
    (
        "SAVEPOINT",
        "SAVEPOINT",
        Some("every statement is committed by itself"),
    ),
    ("UNCACHE", "UNCACHE", None),
    (
        "USE",
        "USE",
        Some("write the schema before the name, as in schema.name"),
    ),
];

pub(super) fn error(
    what: &'static str,
    at: Option<&TokenWithSpan>,
    instead: Option<&'static str>,
) -> Error {
    Error::NotYet {
        what,
        position: at.and_then(|token| Position::of(token.span.start)),
        instead,
    }
}

/// Refuses a statement by its first word.
pub(super) fn statement(first: &TokenWithSpan) -> Result<(), Error> {
    match STATEMENTS.iter().find(|(name, ..)| is_word(first, name)) {
        Some((_, what, instead)) => Err(error(what, Some(first), *instead)),
        None => Ok(()),
    }
}
