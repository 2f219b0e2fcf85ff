//! `CREATE …`: clauses in any order, which DataFusion's parser refuses or would run in memory.

use super::parse::{end, from_parser, parser, reads_only, syntax};
use super::statement::{Body, CreateExternal, CreateTable, CreateView};
use super::tokens::{Offsets, is_word, lower_first};
use super::{Error, Position, not_yet, tokens};
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

pub(super) fn create(
    text: &str,
    tokens: &[TokenWithSpan],
    words: &[&TokenWithSpan],
) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let or_replace = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
    let kind = parser.next_token();
    let is = |name: &str| is_word(&kind, name);
    if is("TABLE") && or_replace {
        let instead = "DROP TABLE IF EXISTS, then CREATE TABLE";
        return Err(not_yet::error(
            "CREATE OR REPLACE TABLE",
            words.get(1).copied(),
            Some(instead),
        ));
    }
    if is("TABLE") {
        return table(tokens, &mut parser, &kind);
    }
    if is("VIEW") {
        return view(text, tokens, &mut parser, or_replace, &kind);
    }
    if or_replace {
        return Err(not_yet::error(
            "CREATE OR REPLACE of anything but a view",
            Some(&kind),
            None,
        ));
    }
    if is("EXTERNAL") {
        let table = parser.next_token();
        if !is_word(&table, "TABLE") {
            return Err(syntax(
                "expected TABLE behind CREATE EXTERNAL",
                Some(&table),
            ));
        }
        return external(tokens, &mut parser);
    }
    if is("SCHEMA") || is("DATABASE") {
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = parser
            .parse_object_name(false)
            .map_err(|error| from_parser(error, tokens))?;
        end(&mut parser)?;
        return Ok(Body::CreateSchema {
            name,
            if_not_exists,
        });
    }
    if is("TEMPORARY") || is("TEMP") {
        return Err(not_yet::error(
            "CREATE TEMPORARY",
            Some(&kind),
            Some("a view or WITH names a query"),
        ));
    }
    if is("MATERIALIZED") {
        return Err(not_yet::error(
            "CREATE MATERIALIZED VIEW",
            Some(&kind),
            Some("CREATE TABLE … AS SELECT …"),
        ));
    }
    if is("FUNCTION") {
        return Err(not_yet::error("CREATE FUNCTION", Some(&kind), None));
    }
    if is("STREAM") {
        return Err(not_yet::error(
            "CREATE STREAM",
            Some(&kind),
            Some("`drumline stream apply FILE` makes streams"),
        ));
    }
    if kind.token == Token::EOF {
        return Err(syntax(
            "expected TABLE, VIEW or SCHEMA behind CREATE",
            words.last().copied(),
        ));
    }
    Err(not_yet::error(
        "CREATE of anything but a table, view or schema",
        Some(&kind),
        None,
    ))
}

/// The clauses a table can have, each at most once.
#[derive(Default)]
struct Clauses {
    format: Option<Ident>,
    partition_by: Option<Vec<Ident>>,
    location: Option<(String, Option<Position>)>,
}

impl Clauses {
    /// Takes one clause; `false` if the next token begins none.
    fn take(&mut self, tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<bool, Error> {
        let at = parser.peek_token();
        let twice = |name| Err(syntax(&format!("{name} is given twice"), Some(&at)));
        let broken = |error| from_parser(error, tokens);
        if parser.parse_keywords(&[Keyword::STORED, Keyword::AS]) {
            if self
                .format
                .replace(parser.parse_identifier().map_err(broken)?)
                .is_some()
            {
                return twice("STORED AS");
            }
        } else if parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
            let columns = parser
                .parse_parenthesized_column_list(
                    datafusion::sql::sqlparser::parser::IsOptional::Mandatory,
                    false,
                )
                .map_err(broken)?;
            if self.partition_by.replace(columns).is_some() {
                return twice("PARTITIONED BY");
            }
        } else if parser.parse_keyword(Keyword::LOCATION) {
            let place = Position::of(parser.peek_token().span.start);
            let location = parser.parse_literal_string().map_err(broken)?;
            if self.location.replace((location, place)).is_some() {
                return twice("LOCATION");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn table(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    at: &TokenWithSpan,
) -> Result<Body, Error> {
    let broken = |error| from_parser(error, tokens);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parser.parse_object_name(false).map_err(broken)?;
    let mut columns: Vec<ColumnDef> = Vec::new();
    let mut constraints = Vec::new();
    if parser.peek_token().token == Token::LParen {
        (columns, constraints) = parser.parse_columns().map_err(broken)?;
        for column in &columns {
            reads_only(&column.options, at)?;
        }
        reads_only(&constraints, at)?;
    }
    let mut clauses = Clauses::default();
    let mut source = None;
    loop {
        if clauses.take(tokens, parser)? {
            continue;
        }
        if parser.parse_keyword(Keyword::AS) {
            let query = parser.parse_query().map_err(broken)?;
            reads_only(&query, at)?;
            source = Some(query);
        }
        break;
    }
    // Clauses may stand behind a parenthesised query too.
    while clauses.take(tokens, parser)? {}
    end(parser)?;
    if columns.is_empty() && source.is_none() {
        return Err(syntax(
            "CREATE TABLE takes columns, or AS and a query",
            Some(at),
        ));
    }
    Ok(Body::CreateTable(Box::new(CreateTable {
        name,
        if_not_exists,
        columns,
        constraints,
        format: clauses.format,
        partition_by: clauses.partition_by.unwrap_or_default(),
        location: clauses.location,
        source,
    })))
}

fn external(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<Body, Error> {
    let broken = |error| from_parser(error, tokens);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let at = parser.peek_token();
    let name = parser.parse_object_name(false).map_err(broken)?;
    if parser.peek_token().token == Token::LParen {
        let instead = "leave the columns away: they are read from the files";
        return Err(not_yet::error(
            "CREATE EXTERNAL TABLE with columns",
            Some(&parser.peek_token()),
            Some(instead),
        ));
    }
    let mut clauses = Clauses::default();
    while clauses.take(tokens, parser)? {}
    end(parser)?;
    match &clauses.format {
        Some(format) if format.value.eq_ignore_ascii_case("parquet") => {}
        _ => {
            let what = "CREATE EXTERNAL TABLE of anything but STORED AS PARQUET";
            return Err(not_yet::error(what, Some(&at), None));
        }
    }
    if clauses.partition_by.is_some() {
        let instead = "leave PARTITIONED BY away: folders named column=value are found";
        return Err(not_yet::error(
            "CREATE EXTERNAL TABLE … PARTITIONED BY",
            Some(&at),
            Some(instead),
        ));
    }
    let Some(location) = clauses.location else {
        return Err(syntax(
            "CREATE EXTERNAL TABLE takes LOCATION '…'",
            Some(&at),
        ));
    };
    Ok(Body::CreateExternal(CreateExternal {
        name,
        if_not_exists,
        location,
    }))
}

fn view(
    text: &str,
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    or_replace: bool,
    at: &TokenWithSpan,
) -> Result<Body, Error> {
    let broken = |error| from_parser(error, tokens);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parser.parse_object_name(false).map_err(broken)?;
    let columns = parser
        .parse_parenthesized_column_list(
            datafusion::sql::sqlparser::parser::IsOptional::Optional,
            false,
        )
        .map_err(broken)?;
    parser.expect_keyword(Keyword::AS).map_err(broken)?;
    let begin = parser.peek_token();
    let query = parser.parse_query().map_err(broken)?;
    end(parser)?;
    reads_only(&query, at)?;
    let sql = query_text(text, tokens, &begin);
    let sql = if columns.is_empty() {
        sql
    } else {
        let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
        format!(
            "SELECT * FROM (\n{sql}\n) AS named ({})",
            columns.join(", ")
        )
    };
    // What is kept must be readable again.
    let again = tokens::tokenize(&sql)?;
    let mut parser = super::parse::parser(&again);
    parser
        .parse_query()
        .map_err(|error| syntax(&lower_first(&error.to_string()), Some(&begin)))?;
    Ok(Body::CreateView(CreateView {
        name,
        or_replace,
        if_not_exists,
        sql,
        query,
    }))
}

/// The statement's text from a token on.
fn query_text(text: &str, tokens: &[TokenWithSpan], begin: &TokenWithSpan) -> String {
    let Some(first) = tokens.first() else {
        return String::new();
    };
    let mut offsets = Offsets::starting_at(text, first.span.start);
    let byte = offsets.byte(begin.span.start);
    text.get(byte..).unwrap_or_default().to_owned()
}
