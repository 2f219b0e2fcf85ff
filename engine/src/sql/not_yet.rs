//! Statements and clauses that Drumline will have, and has not yet: refused by name, before anything
//! of the text runs.

use super::tokens::{is_word, word};
use super::{Error, Position};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// First word of a statement, what to call it, and what does the same today.
const STATEMENTS: &[(&str, &str, Option<&str>)] = &[
    ("ALTER", "ALTER", None),
    (
        "ANALYZE",
        "ANALYZE",
        Some("EXPLAIN ANALYZE runs a query and shows its metrics"),
    ),
    (
        "BEGIN",
        "BEGIN",
        Some("every statement is committed by itself"),
    ),
    ("CACHE", "CACHE", None),
    ("CALL", "CALL", None),
    ("COMMENT", "COMMENT", None),
    (
        "COMMIT",
        "COMMIT",
        Some("every statement is committed by itself"),
    ),
    ("DEALLOCATE", "DEALLOCATE", None),
    ("EXECUTE", "EXECUTE", None),
    ("GRANT", "GRANT", None),
    (
        "LOAD",
        "LOAD",
        Some("CREATE EXTERNAL TABLE … STORED AS PARQUET LOCATION '…' reads a folder of Parquet"),
    ),
    ("MSCK", "MSCK REPAIR TABLE", None),
    ("OPTIMIZE", "OPTIMIZE", None),
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
        Some("every statement is committed by itself"),
    ),
    (
        "START",
        "START TRANSACTION",
        Some("every statement is committed by itself"),
    ),
    ("UNCACHE", "UNCACHE", None),
    (
        "USE",
        "USE",
        Some("write the schema before the name, as in schema.name"),
    ),
    ("VACUUM", "VACUUM", None),
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

/// Refuses clauses that may stand anywhere in a query. Time travel among them: some dialects parse
/// it and then read the newest snapshot all the same.
///
/// `words` are the statement's tokens without blanks.
pub(super) fn clauses(words: &[&TokenWithSpan]) -> Result<(), Error> {
    for (at, token) in words.iter().enumerate() {
        let next = |by: usize| words.get(at + by).copied();
        let follows = |by: usize, text: &str| next(by).is_some_and(|token| is_word(token, text));
        let as_of = follows(1, "AS") && follows(2, "OF");
        let value = next(3).is_some_and(|token| match &token.token {
            Token::Number(..) | Token::SingleQuotedString(_) | Token::LParen => true,
            _ => word(token).is_some_and(|word| !word.value.eq_ignore_ascii_case("FROM")),
        });
        if as_of && value {
            for (name, what) in [
                ("VERSION", "VERSION AS OF"),
                ("TIMESTAMP", "TIMESTAMP AS OF"),
                ("SYSTEM_TIME", "FOR SYSTEM_TIME AS OF"),
                ("SYSTEM_VERSION", "FOR SYSTEM_VERSION AS OF"),
            ] {
                if is_word(token, name) {
                    let newest = "without it, a query reads the newest snapshot";
                    return Err(error(what, Some(token), Some(newest)));
                }
            }
        }
    }
    Ok(())
}
