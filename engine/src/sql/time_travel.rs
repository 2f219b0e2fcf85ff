//! `t VERSION AS OF 3`, `t TIMESTAMP AS OF '…'` and their spellings with FOR.
//!
//! DataFusion's parser knows these for some dialects and then reads the newest snapshot all the same. Here they
//! become part of the table's name before anything is parsed: `"t#version=3" AS "t"`. No table can have a `#`
//! in its name, so such a name is either read as of that version or refused; there is no way past it.

use super::parse::syntax;
use super::tokens::{is_blank, is_word, word};
use super::{Error, Position};
use chrono::Utc;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use drumline_lake::AsOf;

const VERSION: &str = "#version=";
const TIME: &str = "#time=";

/// The words that begin a clause, and whether a number or a time follows.
const CLAUSES: &[(&str, bool)] = &[
    ("VERSION", true),
    ("SYSTEM_VERSION", true),
    ("TIMESTAMP", false),
    ("SYSTEM_TIME", false),
];

/// Splits a name into the table's own and the version that is asked for.
pub(crate) fn split(name: &str) -> Option<(&str, AsOf)> {
    if let Some((name, version)) = name.rsplit_once(VERSION) {
        return Some((name, AsOf::Version(version.parse().ok()?)));
    }
    let (name, micros) = name.rsplit_once(TIME)?;
    Some((name, AsOf::at_micros(micros.parse().ok()?)))
}

/// A name without the version that is asked for, as people wrote it.
pub(crate) fn without(name: &str) -> &str {
    split(name).map_or(name, |(name, _)| name)
}

/// The tokens with each clause drawn into its table's name.
pub(super) fn rewrite(tokens: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>, Error> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        refuse_marks(token)?;
        match clause(rest)? {
            Some((as_of, behind)) => {
                while out.last().is_some_and(is_blank)
                    || out.last().is_some_and(|last| is_word(last, "FOR"))
                {
                    out.pop();
                }
                mark(&mut out, token, as_of, behind)?;
                rest = behind;
            }
            None => {
                out.push(token.clone());
                rest = after;
            }
        }
    }
    Ok(out)
}

/// A clause at the beginning of the tokens, and what stands behind it.
fn clause(tokens: &[TokenWithSpan]) -> Result<Option<(AsOf, &[TokenWithSpan])>, Error> {
    let Some(first) = tokens.first() else {
        return Ok(None);
    };
    let Some((name, is_version)) = CLAUSES.iter().find(|(name, _)| is_word(first, name)) else {
        return Ok(None);
    };
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| tokens.get(*at).is_some_and(|token| !is_blank(token)))
        .take(5)
        .collect();
    let at = |number: usize| words.get(number).and_then(|at| tokens.get(*at));
    let is = |number: usize, text: &str| at(number).is_some_and(|token| is_word(token, text));
    if !is(1, "AS") || !is(2, "OF") {
        return Ok(None);
    }
    let Some(value) = at(3) else {
        return Ok(None);
    };
    // `SELECT version AS of FROM t`, `SELECT version AS of, a`: an alias.
    let is_value = match &value.token {
        Token::Number(..) | Token::SingleQuotedString(_) | Token::LParen | Token::Minus => true,
        _ => word(value).is_some_and(|word| !word.value.eq_ignore_ascii_case("FROM")),
    };
    if !is_value {
        return Ok(None);
    }
    let behind = |number: usize| {
        let at = words.get(number).copied().unwrap_or_default();
        tokens.get(at + 1..).unwrap_or_default()
    };
    let wrong = |what: &str| Err(syntax(&format!("{name} AS OF takes {what}"), Some(value)));
    if *is_version {
        return match &value.token {
            Token::Number(text, _) => match text.parse() {
                Ok(version) => Ok(Some((AsOf::Version(version), behind(3)))),
                Err(_) => wrong("a version, a whole number from 0 on"),
            },
            Token::SingleQuotedString(text) if text.parse::<u64>().is_ok() => {
                let version = text.parse().unwrap_or_default();
                Ok(Some((AsOf::Version(version), behind(3))))
            }
            _ => wrong("a version, a whole number from 0 on"),
        };
    }
    let (literal, last) = match is(3, "TIMESTAMP") || is(3, "DATE") {
        true => (at(4), 4),
        false => (Some(value), 3),
    };
    let Some(Token::SingleQuotedString(text)) = literal.map(|token| &token.token) else {
        return wrong("a time in quotes, such as '2026-11-21 14:00:00'");
    };
    match string_to_datetime(&Utc, text) {
        Ok(at) => Ok(Some((AsOf::Time(at), behind(last)))),
        Err(_) => wrong(
            "a time in quotes, such as '2026-11-21 14:00:00' (UTC) or '2026-11-21T14:00:00+01:00'",
        ),
    }
}

/// Draws a clause into the name that ends `out`.
fn mark(
    out: &mut Vec<TokenWithSpan>,
    clause: &TokenWithSpan,
    as_of: AsOf,
    behind: &[TokenWithSpan],
) -> Result<(), Error> {
    let misplaced = || {
        syntax(
            "AS OF stands directly behind a table's name, before its alias",
            Some(clause),
        )
    };
    let name = out.pop().ok_or_else(misplaced)?;
    let Token::Word(Word {
        value, quote_style, ..
    }) = &name.token
    else {
        return Err(misplaced());
    };
    // What stands before `a.b.c`: only where a table's name can begin.
    let mut words = out.iter().rev().filter(|token| !is_blank(token));
    let mut before = words.next();
    while before.is_some_and(|token| token.token == Token::Period) {
        let part = words.next();
        if !part.is_some_and(|token| matches!(token.token, Token::Word(_))) {
            return Err(misplaced());
        }
        before = words.next();
    }
    if !can_begin(before) {
        return Err(misplaced());
    }
    let table = match quote_style {
        Some(_) => value.clone(),
        None => value.to_lowercase(),
    };
    let marked = match as_of {
        AsOf::Version(version) => format!("{table}{VERSION}{version}"),
        AsOf::Time(at) => format!("{table}{TIME}{}", at.timestamp_micros()),
    };
    let alias = name.clone();
    out.push(TokenWithSpan {
        token: quoted(marked),
        ..name
    });
    if !begins_alias(behind) {
        let space = Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space);
        for token in [
            space.clone(),
            Token::make_keyword("AS"),
            space,
            quoted(table),
        ] {
            out.push(TokenWithSpan {
                token,
                ..alias.clone()
            });
        }
    }
    Ok(())
}

/// Whether a table's name can begin behind a token.
pub(super) fn can_begin(before: Option<&TokenWithSpan>) -> bool {
    before.is_some_and(|token| match &token.token {
        Token::Comma | Token::LParen => true,
        _ => is_word(token, "FROM") || is_word(token, "JOIN"),
    })
}

/// As the parser decides: AS, or a word that nothing else begins with.
pub(super) fn begins_alias(behind: &[TokenWithSpan]) -> bool {
    let Some(next) = behind.iter().find(|token| !is_blank(token)) else {
        return false;
    };
    match &next.token {
        Token::Word(word) => {
            word.quote_style.is_some()
                || word.keyword == Keyword::AS
                || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

pub(super) fn quoted(name: String) -> Token {
    Token::Word(Word {
        value: name,
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    })
}

/// Nobody but [`mark`] writes such names.
fn refuse_marks(token: &TokenWithSpan) -> Result<(), Error> {
    match &token.token {
        Token::Word(word) if split(&word.value).is_some() => Err(Error::Invalid {
            reason: format!("{} is no name", Ident::with_quote('"', &word.value)),
            position: Position::of(token.span.start),
            hint: Some("VERSION AS OF behind a table's name reads an earlier version".to_owned()),
        }),
        _ => Ok(()),
    }
}
