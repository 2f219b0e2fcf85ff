//! `fresh(t)`: a table with what its stream has not written yet.
//!
//! As with earlier versions (`time_travel.rs`), it becomes part of the table's name before anything is parsed:
//! `"t#fresh" AS "t"`.

use super::parse::syntax;
use super::time_travel::{begins_alias, can_begin, quoted};
use super::tokens::{is_blank, is_word};
use super::{Error, Position};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

const MARK: &str = "#fresh";

/// The table's own name, if what was asked for is all of it up to now.
pub(crate) fn split(name: &str) -> Option<&str> {
    name.strip_suffix(MARK)
}

/// The tokens with each call drawn into its table's name.
pub(super) fn rewrite(tokens: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>, Error> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        refuse_mark(token)?;
        let is_call = is_word(token, "FRESH")
            && after
                .iter()
                .find(|token| !is_blank(token))
                .is_some_and(|next| next.token == Token::LParen)
            && can_begin(out.iter().rev().find(|token| !is_blank(token)));
        if !is_call {
            out.push(token.clone());
            rest = after;
            continue;
        }
        let (mut parts, behind) = argument(token, after)?;
        let table = parts.pop().unwrap_or_default();
        let at = |token_of: Token| TokenWithSpan {
            token: token_of,
            ..token.clone()
        };
        for part in parts {
            out.push(at(quoted(part)));
            out.push(at(Token::Period));
        }
        out.push(at(quoted(format!("{table}{MARK}"))));
        if !begins_alias(behind) {
            let space = Token::Whitespace(Whitespace::Space);
            for token in [
                space.clone(),
                Token::make_keyword("AS"),
                space,
                quoted(table),
            ] {
                out.push(at(token));
            }
        }
        rest = behind;
    }
    Ok(out)
}

/// The one argument of a call: a name, or a text that is one; and what stands behind the call.
fn argument<'a>(
    call: &TokenWithSpan,
    tokens: &'a [TokenWithSpan],
) -> Result<(Vec<String>, &'a [TokenWithSpan]), Error> {
    let wrong = |at: &TokenWithSpan| {
        syntax(
            "fresh takes the name of a table, such as fresh(listen_events) or fresh('raw.listen_events')",
            Some(at),
        )
    };
    let close = tokens
        .iter()
        .position(|token| token.token == Token::RParen)
        .ok_or_else(|| wrong(call))?;
    let (inside, behind) = tokens.split_at(close);
    let behind = behind.get(1..).unwrap_or_default();
    let mut inside = inside.iter().filter(|token| !is_blank(token)).skip(1);
    let mut parts = Vec::new();
    loop {
        let name = inside.next().ok_or_else(|| wrong(call))?;
        match &name.token {
            Token::SingleQuotedString(text) if parts.is_empty() => {
                parts.extend(text.split('.').map(str::to_lowercase));
            }
            Token::Word(word) if word.quote_style.is_some() => parts.push(word.value.clone()),
            Token::Word(word) => parts.push(word.value.to_lowercase()),
            _ => return Err(wrong(name)),
        }
        match inside.next() {
            None => break,
            Some(next) if next.token == Token::Period => {}
            Some(next) => return Err(wrong(next)),
        }
    }
    match parts.iter().any(String::is_empty) || parts.len() > 3 {
        true => Err(wrong(call)),
        false => Ok((parts, behind)),
    }
}

/// Nobody but [`rewrite`] writes such names.
fn refuse_mark(token: &TokenWithSpan) -> Result<(), Error> {
    match &token.token {
        Token::Word(word) if split(&word.value).is_some() => Err(Error::Invalid {
            reason: format!("{} is no name", Ident::with_quote('"', &word.value)),
            position: Position::of(token.span.start),
            hint: Some(
                "fresh(t) reads a table with what its stream has not written yet".to_owned(),
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokenize;
    use super::*;

    fn check(sql: &str, expected: &str) {
        let found = match rewrite(&tokenize(sql).unwrap()) {
            Ok(tokens) => tokens.iter().map(|token| token.token.to_string()).collect(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn a_call_becomes_a_marked_name() {
        check(
            "SELECT * FROM fresh(t)",
            r#"SELECT * FROM "t#fresh" AS "t""#,
        );
        check(
            "SELECT * FROM fresh('Raw.Events') AS e, Fresh ( raw . \"T\" ) f",
            r#"SELECT * FROM "raw"."events#fresh" AS e, "raw"."T#fresh" f"#,
        );
        check(
            "SELECT 1 FROM a JOIN fresh(lake.raw.t) USING (x)",
            r#"SELECT 1 FROM a JOIN "lake"."raw"."t#fresh" AS "t" USING (x)"#,
        );
    }

    #[test]
    fn other_uses_of_the_word_stay() {
        for sql in [
            "SELECT fresh FROM fresh",
            "SELECT fresh.a FROM fresh WHERE x IN (1)",
            "SELECT a AS fresh",
        ] {
            check(sql, sql);
        }
    }

    #[test]
    fn anything_but_a_name_is_refused() {
        let refused = "fresh takes the name of a table, such as fresh(listen_events) or \
                       fresh('raw.listen_events')";
        for argument in ["", "1", "SELECT 1", "a b", "'a..b'", "a, b", "a.b.c.d"] {
            let found = rewrite(&tokenize(&format!("SELECT 1 FROM fresh({argument})")).unwrap());
            let error = found.unwrap_err().to_string();
            assert!(error.contains(refused), "{argument}: {error}");
        }
        let error = rewrite(&tokenize("SELECT 1 FROM \"t#fresh\"").unwrap()).unwrap_err();
        assert!(error.to_string().contains("is no name"), "{error}");
    }
}
