//! Clauses that follow the name of what is made, in any order, and lists of properties.

use super::parse::{from_parser, syntax};
use super::tokens::is_word;
use super::{Error, Position};
use datafusion::sql::sqlparser::ast::{DataType, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The clauses a table can have, each at most once.
#[derive(Default)]
pub(super) struct Clauses {
    pub(super) format: Option<Ident>,
    /// Each with its type, where one is written.
    pub(super) partition_by: Option<Vec<(Ident, Option<DataType>)>>,
    pub(super) location: Option<(String, Option<Position>)>,
    pub(super) comment: Option<String>,
    pub(super) properties: Option<Vec<(String, String)>>,
    /// Of an external table's format.
    pub(super) options: Option<Vec<(String, String)>>,
}

impl Clauses {
    /// Takes one clause; `false` if the next token begins none.
    pub(super) fn take(
        &mut self,
        tokens: &[TokenWithSpan],
        parser: &mut Parser<'_>,
    ) -> Result<bool, Error> {
        let at = parser.peek_token();
        let broken = |error| from_parser(error, tokens);
        let set = |name: &str, is_twice: bool| match is_twice {
            true => Err(syntax(&format!("{name} is given twice"), Some(&at))),
            false => Ok(true),
        };
        // Spark and dbt write `USING delta`.
        let is_format = parser.parse_keywords(&[Keyword::STORED, Keyword::AS])
            || parser.parse_keyword(Keyword::USING);
        if is_format {
            let format = parser.parse_identifier().map_err(broken)?;
            return set("STORED AS", self.format.replace(format).is_some());
        }
        if parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
            let columns = partition_columns(tokens, parser)?;
            return set(
                "PARTITIONED BY",
                self.partition_by.replace(columns).is_some(),
            );
        }
        if parser.parse_keyword(Keyword::LOCATION) {
            let place = Position::of(parser.peek_token().span.start);
            let location = parser.parse_literal_string().map_err(broken)?;
            return set(
                "LOCATION",
                self.location.replace((location, place)).is_some(),
            );
        }
        if parser.parse_keyword(Keyword::COMMENT) {
            let _ = parser.consume_token(&Token::Eq);
            let comment = parser.parse_literal_string().map_err(broken)?;
            return set("COMMENT", self.comment.replace(comment).is_some());
        }
        if parser.parse_keyword(Keyword::TBLPROPERTIES) {
            let properties = properties(parser)?;
            return set(
                "TBLPROPERTIES",
                self.properties.replace(properties).is_some(),
            );
        }
        if parser.parse_keyword(Keyword::OPTIONS) {
            let options = properties(parser)?;
            return set("OPTIONS", self.options.replace(options).is_some());
        }
        Ok(false)
    }
}

fn partition_columns(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
) -> Result<Vec<(Ident, Option<DataType>)>, Error> {
    let broken = |error| from_parser(error, tokens);
    parser.expect_token(&Token::LParen).map_err(broken)?;
    let mut columns = Vec::new();
    loop {
        let name = parser.parse_identifier().map_err(broken)?;
        let next = parser.peek_token().token;
        let kind = match next {
            Token::Comma | Token::RParen => None,
            _ => Some(parser.parse_data_type().map_err(broken)?),
        };
        columns.push((name, kind));
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen).map_err(broken)?;
            return Ok(columns);
        }
    }
}

/// `('name' = 'value', a.b = 1, c true)`: names and values as text.
pub(super) fn properties(parser: &mut Parser<'_>) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    let mut names = std::collections::HashSet::new();
    list(parser, |parser| {
        let at = parser.peek_token();
        let name = property_name(parser)?;
        let _ = parser.consume_token(&Token::Eq);
        let value = property_value(parser)?;
        if !names.insert(name.clone()) {
            return Err(syntax(&format!("'{name}' is given twice"), Some(&at)));
        }
        found.push((name, value));
        Ok(())
    })?;
    Ok(found)
}

/// `('name', a.b)`.
pub(super) fn property_names(parser: &mut Parser<'_>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    list(parser, |parser| {
        found.push(property_name(parser)?);
        Ok(())
    })?;
    Ok(found)
}

fn list(
    parser: &mut Parser<'_>,
    mut item: impl FnMut(&mut Parser<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let open = parser.next_token();
    if open.token != Token::LParen {
        return Err(syntax("expected a list in parentheses", Some(&open)));
    }
    loop {
        item(parser)?;
        let next = parser.next_token();
        match next.token {
            Token::Comma => {}
            Token::RParen => return Ok(()),
            _ => {
                return Err(syntax(
                    "expected , or ) in a list of properties",
                    Some(&next),
                ));
            }
        }
    }
}

fn property_name(parser: &mut Parser<'_>) -> Result<String, Error> {
    let first = parser.next_token();
    let mut name = match &first.token {
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
            return Ok(text.clone());
        }
        Token::Word(word) => word.value.clone(),
        _ => return Err(syntax("expected the name of a property", Some(&first))),
    };
    while parser.consume_token(&Token::Period) {
        let next = parser.next_token();
        let Token::Word(word) = &next.token else {
            return Err(syntax("expected the name of a property", Some(&next)));
        };
        name = format!("{name}.{}", word.value);
    }
    Ok(name)
}

fn property_value(parser: &mut Parser<'_>) -> Result<String, Error> {
    let next = parser.next_token();
    match &next.token {
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => Ok(text.clone()),
        Token::EscapedStringLiteral(text) => Ok(text.clone()),
        Token::Number(text, _) => Ok(text.clone()),
        Token::Minus => match parser.next_token().token {
            Token::Number(text, _) => Ok(format!("-{text}")),
            _ => Err(syntax("expected a property's value", Some(&next))),
        },
        _ if is_word(&next, "TRUE") => Ok("true".to_owned()),
        _ if is_word(&next, "FALSE") => Ok("false".to_owned()),
        Token::Word(word) => Ok(word.value.clone()),
        _ => Err(syntax("expected a property's value", Some(&next))),
    }
}
