//! `CREATE …`: clauses in any order, which DataFusion's parser refuses or would run in memory.

use super::parse::{end, from_parser, parser, reads_only, syntax};
use super::statement::{Body, CreateExternal, CreateTable, CreateView};
use super::tokens::{Offsets, is_word, lower_first};
use super::{Error, clauses::Clauses, not_yet, time_travel, tokens};
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
    if is("TABLE") {
        return table(tokens, &mut parser, or_replace, &kind);
    }
    if is("VIEW") {
        return view(text, tokens, &mut parser, or_replace, &kind);
    }
    if is("EXTERNAL") {
        let table = parser.next_token();
        if !is_word(&table, "TABLE") {
            return Err(syntax(
                "expected TABLE behind CREATE EXTERNAL",
                Some(&table),
            ));
        }
        return external(tokens, &mut parser, or_replace);
    }
    if or_replace {
        return Err(not_yet::error(
            "CREATE OR REPLACE of anything but a table or a view",
            Some(&kind),
            None,
        ));
    }
    if is("SCHEMA") || is("DATABASE") {
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = parser
            .parse_object_name(false)
            .map_err(|error| from_parser(error, tokens))?;
        let comment = match parser.parse_keyword(Keyword::COMMENT) {
            true => Some(
                parser
                    .parse_literal_string()
                    .map_err(|error| from_parser(error, tokens))?,
            ),
            false => None,
        };
        end(&mut parser)?;
        return Ok(Body::CreateSchema {
            name,
            if_not_exists,
            comment,
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

fn table(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    or_replace: bool,
    at: &TokenWithSpan,
) -> Result<Body, Error> {
    let broken = |error| from_parser(error, tokens);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    if if_not_exists && or_replace {
        return Err(both(at));
    }
    let name = parser.parse_object_name(false).map_err(broken)?;
    let (mut columns, mut constraints) = (Vec::new(), Vec::new());
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
    // With a location alone it is the Delta table that lies there.
    if columns.is_empty() && source.is_none() && clauses.location.is_none() {
        return Err(syntax(
            "CREATE TABLE takes columns, or AS and a query",
            Some(at),
        ));
    }
    if clauses.options.is_some() {
        return Err(syntax(
            "OPTIONS are for external tables; TBLPROPERTIES for others",
            Some(at),
        ));
    }
    let partition_by = clauses.partition_by.unwrap_or_default();
    if let Some((column, _)) = partition_by.iter().find(|(_, kind)| kind.is_some()) {
        return Err(Error::Invalid {
            reason: format!("partition column `{column}` is given a type of its own"),
            position: super::Position::of(column.span.start),
            hint: Some("name it with its type among the columns".to_owned()),
        });
    }
    let partition_by: Vec<Ident> = partition_by.into_iter().map(|(name, _)| name).collect();
    Ok(Body::CreateTable(Box::new(CreateTable {
        name,
        or_replace,
        if_not_exists,
        columns,
        constraints,
        format: clauses.format,
        partition_by,
        location: clauses.location,
        comment: clauses.comment,
        properties: clauses.properties.unwrap_or_default(),
        source,
    })))
}

fn both(at: &TokenWithSpan) -> Error {
    syntax("OR REPLACE and IF NOT EXISTS do not go together", Some(at))
}

/// Columns in parentheses, if they are there.
fn columns(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<Vec<ColumnDef>, Error> {
    let open = parser.peek_token();
    if open.token != Token::LParen {
        return Ok(Vec::new());
    }
    let (columns, constraints) = parser
        .parse_columns()
        .map_err(|error| from_parser(error, tokens))?;
    match constraints.is_empty() {
        true => Ok(columns),
        false => Err(not_yet::error("a table constraint", Some(&open), None)),
    }
}

fn external(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    or_replace: bool,
) -> Result<Body, Error> {
    let broken = |error| from_parser(error, tokens);
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let at = parser.peek_token();
    if if_not_exists && or_replace {
        return Err(both(&at));
    }
    let name = parser.parse_object_name(false).map_err(broken)?;
    let columns = columns(tokens, parser)?;
    let mut clauses = Clauses::default();
    let mut header = false;
    loop {
        if clauses.take(tokens, parser)? {
            continue;
        }
        if !parser.parse_keywords(&[Keyword::WITH, Keyword::HEADER, Keyword::ROW]) {
            break;
        }
        header = true;
    }
    end(parser)?;
    let Some(format) = clauses.format else {
        return Err(syntax(
            "CREATE EXTERNAL TABLE takes STORED AS PARQUET, CSV, JSON or DELTA",
            Some(&at),
        ));
    };
    let Some(location) = clauses.location else {
        return Err(syntax(
            "CREATE EXTERNAL TABLE takes LOCATION '…'",
            Some(&at),
        ));
    };
    let mut options = clauses.options.unwrap_or_default();
    if header {
        options.push(("has_header".to_owned(), "true".to_owned()));
    }
    Ok(Body::CreateExternal(Box::new(CreateExternal {
        name,
        or_replace,
        if_not_exists,
        columns,
        format,
        partition_by: clauses.partition_by.unwrap_or_default(),
        location,
        options,
        comment: clauses.comment,
        properties: clauses.properties.unwrap_or_default(),
    })))
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
    if if_not_exists && or_replace {
        return Err(both(at));
    }
    let name = parser.parse_object_name(false).map_err(broken)?;
    let columns = parser
        .parse_parenthesized_column_list(
            datafusion::sql::sqlparser::parser::IsOptional::Optional,
            false,
        )
        .map_err(broken)?;
    let mut clauses = Clauses::default();
    while clauses.take(tokens, parser)? {}
    let misplaced = [
        (clauses.format.is_some(), "STORED AS"),
        (clauses.partition_by.is_some(), "PARTITIONED BY"),
        (clauses.location.is_some(), "LOCATION"),
        (clauses.options.is_some(), "OPTIONS"),
    ];
    if let Some((_, clause)) = misplaced.into_iter().find(|(is_there, _)| *is_there) {
        return Err(syntax(&format!("a view has no {clause}"), Some(at)));
    }
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
    let again = time_travel::rewrite(&tokens::tokenize(&sql)?)?;
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
        comment: clauses.comment,
        properties: clauses.properties.unwrap_or_default(),
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
