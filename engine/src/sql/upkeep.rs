//! `OPTIMIZE` and `VACUUM`: text to [`Body`].

use super::Error;
use super::parse::{end, from_parser, parser, reads_only, syntax};
use super::statement::{Body, Optimize, Vacuum};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::time::Duration;

const HOUR: u64 = 3600;

/// `OPTIMIZE [TABLE] t [WHERE …] [SORT BY (a, b) | ZORDER BY (a, b)]`.
pub(super) fn optimize(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let _ = parser.parse_keyword(Keyword::TABLE);
    let explain = |error| from_parser(error, tokens);
    let table = parser.parse_object_name(false).map_err(explain)?;
    let condition = match parser.parse_keyword(Keyword::WHERE) {
        true => Some(parser.parse_expr().map_err(explain)?),
        false => None,
    };
    if let Some(condition) = &condition {
        reads_only(condition, at)?;
    }
    let interleaved = takes(&mut parser, "ZORDER");
    if interleaved && !parser.parse_keyword(Keyword::BY) {
        return Err(syntax("ZORDER takes BY and columns", Some(at)));
    }
    let sorts = interleaved || parser.parse_keywords(&[Keyword::SORT, Keyword::BY]);
    let mut sort_by = Vec::new();
    if sorts {
        let in_parens = parser.consume_token(&Token::LParen);
        sort_by = parser
            .parse_comma_separated(|parser| parser.parse_identifier())
            .map_err(explain)?;
        if in_parens {
            parser.expect_token(&Token::RParen).map_err(explain)?;
        }
    }
    end(&mut parser)?;
    Ok(Body::Optimize(Box::new(Optimize {
        table,
        condition,
        sort_by,
        interleaved,
    })))
}

/// `VACUUM [TABLE] [t] [RETAIN n HOURS] [DRY RUN]`.
pub(super) fn vacuum(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let _ = parser.parse_keyword(Keyword::TABLE);
    let next = parser.peek_token();
    let is_option = ["RETAIN", "DRY"].iter().any(|word| is(&next, word));
    let table = match is_option || next.token == Token::EOF {
        true => None,
        false => Some(
            parser
                .parse_object_name(false)
                .map_err(|error| from_parser(error, tokens))?,
        ),
    };
    let mut keep = None;
    if takes(&mut parser, "RETAIN") {
        let number = parser.next_token();
        let Token::Number(number, _) = &number.token else {
            return Err(syntax(
                "RETAIN takes a number of HOURS or DAYS",
                Some(&number),
            ));
        };
        let unit = parser.next_token();
        let seconds = match () {
            () if is(&unit, "HOURS") || is(&unit, "HOUR") => HOUR,
            () if is(&unit, "DAYS") || is(&unit, "DAY") => 24 * HOUR,
            () => {
                return Err(syntax(
                    "RETAIN takes a number of HOURS or DAYS",
                    Some(&unit),
                ));
            }
        };
        let time = number
            .parse::<f64>()
            .ok()
            .map(|number| number * seconds as f64);
        let time = time.and_then(|time| Duration::try_from_secs_f64(time).ok());
        keep = Some(time.ok_or_else(|| syntax("RETAIN takes a time", Some(at)))?);
    }
    let dry_run = takes(&mut parser, "DRY");
    if dry_run && !takes(&mut parser, "RUN") {
        return Err(syntax("VACUUM takes DRY RUN", Some(at)));
    }
    end(&mut parser)?;
    Ok(Body::Vacuum(Vacuum {
        table,
        keep,
        dry_run,
    }))
}

fn is(token: &TokenWithSpan, word: &str) -> bool {
    super::tokens::is_word(token, word)
}

fn takes(parser: &mut Parser<'_>, word: &str) -> bool {
    let found = is(&parser.peek_token(), word);
    if found {
        parser.next_token();
    }
    found
}
