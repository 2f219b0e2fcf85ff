//! `SHOW …` and `DESCRIBE …`.

use super::parse::{end, from_parser, parser, syntax};
use super::statement::{Body, Show};
use super::tokens::is_word;
use super::{Error, not_yet};
use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

fn name(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<ObjectName, Error> {
    parser
        .parse_object_name(false)
        .map_err(|error| from_parser(error, tokens))
}

/// `FROM name` or `IN name`, if it is there.
fn from(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<Option<ObjectName>, Error> {
    match parser.parse_one_of_keywords(&[Keyword::FROM, Keyword::IN]) {
        Some(_) => name(tokens, parser).map(Some),
        None => Ok(None),
    }
}

/// `LIKE 'pattern'`, or only the pattern, if it is there.
fn like(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<Option<String>, Error> {
    let has_word = parser.parse_one_of_keywords(&[Keyword::LIKE, Keyword::ILIKE]);
    let is_text = matches!(parser.peek_token().token, Token::SingleQuotedString(_));
    match has_word.is_some() || is_text {
        true => parser
            .parse_literal_string()
            .map(Some)
            .map_err(|error| from_parser(error, tokens)),
        false => Ok(None),
    }
}

pub(super) fn describe(tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let word = parser.peek_token();
    // A word is a table's name where nothing follows it.
    let has_more = !matches!(parser.peek_nth_token(1).token, Token::EOF | Token::Period);
    let show = if has_more && is_word(&word, "HISTORY") {
        parser.next_token();
        let table = name(tokens, &mut parser)?;
        let limit = match parser.parse_keyword(Keyword::LIMIT) {
            true => Some(
                parser
                    .parse_literal_uint()
                    .map_err(|error| from_parser(error, tokens))?,
            ),
            false => None,
        };
        Show::History { table, limit }
    } else if has_more && (is_word(&word, "SCHEMA") || is_word(&word, "DATABASE")) {
        parser.next_token();
        let _ = parser.parse_keyword(Keyword::EXTENDED);
        Show::Schema {
            schema: name(tokens, &mut parser)?,
        }
    } else {
        if has_more {
            let _ = parser.parse_keyword(Keyword::TABLE) || parser.parse_keyword(Keyword::VIEW);
        }
        let has_more = !matches!(parser.peek_nth_token(1).token, Token::EOF | Token::Period);
        let extended = has_more
            && (parser.parse_keyword(Keyword::EXTENDED)
                || parser.parse_keyword(Keyword::FORMATTED));
        let table = name(tokens, &mut parser)?;
        match extended {
            true => Show::Details { table },
            false => Show::Columns { table, like: None },
        }
    };
    end(&mut parser)?;
    Ok(Body::Show(show))
}

pub(super) fn show(tokens: &[TokenWithSpan], words: &[&TokenWithSpan]) -> Result<Body, Error> {
    let Some(second) = words.get(1).copied() else {
        return Err(syntax(
            "SHOW takes TABLES, COLUMNS, SCHEMAS, ALL or a setting",
            words.first().copied(),
        ));
    };
    let is = |name: &str| is_word(second, name);
    let mut parser = parser(tokens);
    parser.next_token();
    let show = if is("TABLES") || is("VIEWS") {
        parser.next_token();
        let schema = from(tokens, &mut parser)?;
        Show::Tables {
            schema,
            like: like(tokens, &mut parser)?,
            views_only: is("VIEWS"),
        }
    } else if is("COLUMNS") {
        parser.next_token();
        let Some(table) = from(tokens, &mut parser)? else {
            return Err(syntax(
                "expected FROM and a table behind SHOW COLUMNS",
                Some(&parser.peek_token()),
            ));
        };
        Show::Columns {
            table,
            like: like(tokens, &mut parser)?,
        }
    } else if is("SCHEMAS") || is("DATABASES") {
        parser.next_token();
        Show::Schemas {
            like: like(tokens, &mut parser)?,
        }
    } else if is("CREATE") {
        parser.next_token();
        let kind = parser.next_token();
        if !is_word(&kind, "TABLE") && !is_word(&kind, "VIEW") {
            return Err(syntax("SHOW CREATE takes TABLE or VIEW", Some(&kind)));
        }
        Show::Create {
            table: name(tokens, &mut parser)?,
        }
    } else if is("TBLPROPERTIES") {
        parser.next_token();
        let table = name(tokens, &mut parser)?;
        let only = match parser.peek_token().token {
            Token::LParen => super::clauses::property_names(&mut parser)?,
            _ => Vec::new(),
        };
        Show::Properties { table, only }
    } else if is("ALL") {
        parser.next_token();
        Show::Settings { prefix: None }
    } else if is("FUNCTIONS") || is("STREAMS") || is("PARTITIONS") {
        return Err(not_yet::error("this kind of SHOW", Some(second), None));
    } else {
        let name = name(tokens, &mut parser)?;
        Show::Settings {
            prefix: Some(name.to_string().to_lowercase()),
        }
    };
    end(&mut parser)?;
    Ok(Body::Show(show))
}
