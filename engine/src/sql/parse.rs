//! One statement's tokens to a [`Body`].

use super::script::MAX_NESTING;
use super::statement::{Body, Insert};
use super::tokens::{DIALECT, is_blank, is_word, lower_first, word};
use super::{
    Error, Position, alter, ddl, dml, fresh, not_yet, show, spellings, time_travel, upkeep,
};
use datafusion::common::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    self, Query, SetExpr, Statement as Ast, TableObject, Visit, Visitor,
};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;

/// Words a statement can begin with, for suggestions.
const BEGINNINGS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "DELETE", "UPDATE", "MERGE", "TRUNCATE", "COPY",
    "OPTIMIZE", "VACUUM", "CREATE", "DROP", "SET", "RESET", "SHOW", "DESCRIBE", "EXPLAIN", "ALTER",
    "COMMENT",
];

/// Words that continue a statement, for suggestions.
const CLAUSES: &[&str] = &[
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "UNION",
    "INTO",
    "VALUES",
    "STORED",
    "PARTITIONED",
    "LOCATION",
    "TABLE",
    "VIEW",
    "SCHEMA",
    "BETWEEN",
    "DISTINCT",
    "RENAME",
    "COLUMN",
    "CASCADE",
    "COMMENT",
    "TBLPROPERTIES",
    "OPTIONS",
];

/// Parses one statement. `tokens` are those of `text`, with their places in the whole submitted text.
pub(super) fn statement(text: &str, tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let mut body = body(text, tokens)?;
    spellings::known(&mut body)?;
    Ok(body)
}

fn body(text: &str, tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let words: Vec<&TokenWithSpan> = tokens.iter().filter(|token| !is_blank(token)).collect();
    let Some(first) = words.first() else {
        return Err(syntax("a statement was expected", None));
    };
    not_yet::statement(first)?;
    let rewritten = fresh::rewrite(&time_travel::rewrite(tokens)?)?;
    let tokens = rewritten.as_slice();
    let is = |name: &str| is_word(first, name);
    if is("CREATE") {
        return ddl::create(text, tokens, &words);
    }
    if is("DROP") {
        return alter::drop_object(tokens);
    }
    if is("ALTER") {
        return alter::alter(tokens);
    }
    if is("COMMENT") {
        return alter::comment(tokens);
    }
    if is("INSERT") {
        return insert(tokens, first);
    }
    if is("DELETE") {
        return dml::delete(tokens, first);
    }
    if is("UPDATE") {
        return dml::update(tokens, first);
    }
    if is("MERGE") {
        return dml::merge(tokens, first);
    }
    if is("COPY") {
        return dml::copy(tokens, first);
    }
    if is("OPTIMIZE") {
        return upkeep::optimize(tokens, first);
    }
    if is("VACUUM") {
        return upkeep::vacuum(tokens, first);
    }
    if is("TRUNCATE") {
        return dml::truncate(tokens, first);
    }
    if is("SHOW") {
        return show::show(tokens, &words);
    }
    if is("DESCRIBE") || is("DESC") {
        return show::describe(tokens);
    }
    if is("EXPLAIN") {
        return explain(text, tokens, first);
    }
    for (name, word) in [
        ("BEGIN", "BEGIN"),
        ("START", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("END", "END"),
    ] {
        if is(name) {
            return transaction(&words, word);
        }
    }
    if is("SET") || is("RESET") {
        return match parsed(tokens)? {
            Parsed::Reset(datafusion::sql::parser::ResetStatement::Variable(name)) => {
                Ok(Body::Reset(name))
            }
            set => Ok(Body::Set(Box::new(set))),
        };
    }
    if ["SELECT", "WITH", "VALUES", "FROM", "TABLE"]
        .iter()
        .any(|name| is(name))
        || first.token == Token::LParen
    {
        let parsed = parsed(tokens)?;
        return Ok(Body::Query(Box::new(query_only(parsed, first)?)));
    }
    Err(Error::Syntax {
        reason: format!("a statement cannot begin with {}", first.token),
        position: Position::of(first.span.start),
        suggestion: word(first).and_then(|word| nearest(&word.value, BEGINNINGS)),
    })
}

/// A parser over one statement's tokens.
pub(super) fn parser(tokens: &[TokenWithSpan]) -> Parser<'static> {
    Parser::new(&DIALECT)
        .with_tokens_with_locations(tokens.to_vec())
        .with_recursion_limit(MAX_NESTING)
}

/// Whatever DataFusion's parser makes of the tokens, all of them.
pub(super) fn parsed(tokens: &[TokenWithSpan]) -> Result<Parsed, Error> {
    let mut parser: DFParser<'_> = DFParserBuilder::new(tokens.to_vec())
        .with_dialect(&DIALECT)
        .with_recursion_limit(MAX_NESTING)
        .build()
        .map_err(|error| parser_error(error, tokens))?;
    let statement = parser
        .parse_statement()
        .map_err(|error| parser_error(error, tokens))?;
    end(&mut parser.parser)?;
    Ok(statement)
}

/// Refuses what is left behind a whole statement.
pub(super) fn end(parser: &mut Parser<'_>) -> Result<(), Error> {
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(());
    }
    Err(Error::Syntax {
        reason: format!("expected the end of the statement, found {}", next.token),
        position: Position::of(next.span.start),
        suggestion: word(&next).and_then(|word| nearest(&word.value, CLAUSES)),
    })
}

/// A query that reads and does nothing else.
fn query_only(parsed: Parsed, at: &TokenWithSpan) -> Result<Parsed, Error> {
    match &parsed {
        Parsed::Statement(statement) => match statement.as_ref() {
            Ast::Query(query) => reads_only(query, at)?,
            _ => return Err(not_yet::error("this statement", Some(at), None)),
        },
        _ => return Err(not_yet::error("this statement", Some(at), None)),
    }
    Ok(parsed)
}

/// Refuses writes inside of a query or expression (`WITH … INSERT`, `SELECT INTO`) and time travel.
pub(super) fn reads_only(part: &impl Visit, at: &TokenWithSpan) -> Result<(), Error> {
    struct Reads;
    impl Visitor for Reads {
        type Break = &'static str;
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
            if !query.locks.is_empty() {
                return ControlFlow::Break("FOR UPDATE");
            }
            body(&query.body)
        }
        fn pre_visit_table_factor(
            &mut self,
            factor: &ast::TableFactor,
        ) -> ControlFlow<Self::Break> {
            // DataFusion's planner passes over all of these.
            match factor {
                ast::TableFactor::Table {
                    version: Some(_), ..
                } => ControlFlow::Break("AS OF in this place"),
                ast::TableFactor::Table {
                    sample: Some(_), ..
                } => ControlFlow::Break("TABLESAMPLE"),
                ast::TableFactor::Table {
                    json_path: Some(_), ..
                } => ControlFlow::Break("a path behind a table's name"),
                ast::TableFactor::Table {
                    with_ordinality: true,
                    ..
                } => ControlFlow::Break("WITH ORDINALITY"),
                ast::TableFactor::Table { partitions, .. } if !partitions.is_empty() => {
                    ControlFlow::Break("PARTITION behind a table's name")
                }
                ast::TableFactor::Table {
                    with_hints,
                    index_hints,
                    ..
                } if !with_hints.is_empty() || !index_hints.is_empty() => {
                    ControlFlow::Break("hints behind a table's name")
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    fn body(set: &SetExpr) -> ControlFlow<&'static str> {
        match set {
            SetExpr::Insert(_) => ControlFlow::Break("INSERT inside of a query"),
            SetExpr::Update(_) => ControlFlow::Break("UPDATE inside of a query"),
            SetExpr::Delete(_) => ControlFlow::Break("DELETE inside of a query"),
            SetExpr::Merge(_) => ControlFlow::Break("MERGE inside of a query"),
            SetExpr::Select(select) if select.into.is_some() => ControlFlow::Break("SELECT INTO"),
            SetExpr::SetOperation { left, right, .. } => {
                body(left)?;
                body(right)
            }
            _ => ControlFlow::Continue(()),
        }
    }
    match part.visit(&mut Reads) {
        ControlFlow::Break(what) => Err(not_yet::error(what, Some(at), None)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn insert(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let refuse = |what| Err(not_yet::error(what, Some(at), None));
    let Parsed::Statement(statement) = parsed(tokens)? else {
        return refuse("this kind of INSERT");
    };
    let Ast::Insert(insert) = *statement else {
        return refuse("this kind of INSERT");
    };
    if insert.replace_into {
        return refuse("REPLACE INTO");
    }
    if insert.on.is_some() || insert.or.is_some() || insert.ignore {
        return refuse("INSERT … ON CONFLICT");
    }
    if insert.returning.is_some() || insert.output.is_some() {
        return refuse("INSERT … RETURNING");
    }
    if !insert.after_columns.is_empty() {
        return refuse("INSERT … PARTITION (…) (…)");
    }
    let plain = insert.assignments.is_empty()
        && insert.table_alias.is_none()
        && insert.priority.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none();
    let (TableObject::TableName(table), Some(source), true) = (insert.table, insert.source, plain)
    else {
        return refuse("this kind of INSERT");
    };
    reads_only(&source, at)?;
    let mut columns = Vec::with_capacity(insert.columns.len());
    for column in insert.columns {
        match column.0.as_slice() {
            [part] => match part.as_ident() {
                Some(ident) => columns.push(ident.clone()),
                None => return refuse("this kind of INSERT"),
            },
            _ => return refuse("INSERT into part of a column"),
        }
    }
    Ok(Body::Insert(Box::new(Insert {
        table,
        columns,
        source,
        overwrite: insert.overwrite,
        partition: dml::partition(insert.partitioned.unwrap_or_default(), at)?,
    })))
}

/// `BEGIN [TRANSACTION | WORK]` and its like, with nothing behind that would be expected to have an effect.
fn transaction(words: &[&TokenWithSpan], word: &'static str) -> Result<Body, Error> {
    let more = words.iter().skip(1).find(|token| {
        !["TRANSACTION", "WORK"]
            .iter()
            .any(|known| is_word(token, known))
    });
    match more {
        None => Ok(Body::Transaction(word)),
        Some(more) => Err(syntax(
            &format!("{word} takes nothing behind it, found {}", more.token),
            Some(more),
        )),
    }
}

/// Statements that write, and can be explained.
const WRITES: &[&str] = &[
    "INSERT", "DELETE", "UPDATE", "MERGE", "TRUNCATE", "COPY", "OPTIMIZE", "CREATE",
];

/// `EXPLAIN` of a statement that writes; none for a query.
fn explain_write(
    text: &str,
    tokens: &[TokenWithSpan],
    at: &TokenWithSpan,
) -> Result<Option<Body>, Error> {
    let words = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !is_blank(token));
    let mut words = words
        .skip(1)
        .skip_while(|(_, token)| is_word(token, "VERBOSE"));
    let mut next = words.next();
    let is_run = next.is_some_and(|(_, token)| is_word(token, "ANALYZE"));
    if is_run {
        next = words.find(|(_, token)| !is_word(token, "VERBOSE"));
    }
    let Some((begin, first)) = next else {
        return Ok(None);
    };
    if !WRITES.iter().any(|name| is_word(first, name)) {
        return Ok(None);
    }
    if is_run {
        return Err(not_yet::error(
            "EXPLAIN ANALYZE of a statement that writes",
            Some(at),
            Some(
                "EXPLAIN shows its plan; run it, and `drumline jobs` and the page show what each operator did",
            ),
        ));
    }
    let rest = tokens.get(begin..).unwrap_or_default();
    Ok(Some(Body::ExplainWrite(Box::new(body(text, rest)?))))
}

fn explain(text: &str, tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    if let Some(body) = explain_write(text, tokens, at)? {
        return Ok(body);
    }
    let Parsed::Explain(explain) = parsed(tokens)? else {
        return Err(syntax("EXPLAIN takes a query", Some(at)));
    };
    if explain
        .options
        .format
        .as_ref()
        .is_some_and(|format| !format.to_string().eq_ignore_ascii_case("indent"))
    {
        return Err(not_yet::error("EXPLAIN FORMAT", Some(at), None));
    }
    match explain.statement.as_ref() {
        Parsed::Statement(statement) => match statement.as_ref() {
            Ast::Query(query) => reads_only(query, at)?,
            _ => {
                return Err(not_yet::error(
                    "EXPLAIN of anything but a query",
                    Some(at),
                    None,
                ));
            }
        },
        _ => {
            return Err(not_yet::error(
                "EXPLAIN of anything but a query",
                Some(at),
                None,
            ));
        }
    }
    Ok(Body::Explain {
        analyze: explain.options.analyze,
        verbose: explain.options.verbose,
        query: explain.statement,
    })
}

pub(super) fn syntax(reason: &str, at: Option<&TokenWithSpan>) -> Error {
    Error::Syntax {
        reason: reason.to_owned(),
        position: at.and_then(|token| Position::of(token.span.start)),
        suggestion: None,
    }
}

pub(super) fn parser_error(error: DataFusionError, tokens: &[TokenWithSpan]) -> Error {
    match error {
        DataFusionError::SQL(error, _) => from_parser(*error, tokens),
        DataFusionError::Diagnostic(_, inner) => parser_error(*inner, tokens),
        other => syntax(&lower_first(&other.message()), tokens.first()),
    }
}

/// The parser's own words; its place, which it writes behind them, comes out as a [`Position`].
pub(super) fn from_parser(error: ParserError, tokens: &[TokenWithSpan]) -> Error {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            let position = tokens
                .first()
                .and_then(|token| Position::of(token.span.start));
            return Error::TooDeep {
                limit: MAX_NESTING,
                position,
            };
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let (reason, position) = match message.rsplit_once(" at Line: ") {
        Some((reason, place)) => (reason, place_of(place)),
        None => (message.as_str(), None),
    };
    let end = || tokens.last().and_then(|token| Position::of(token.span.end));
    let position = position.or_else(end);
    let found = tokens
        .iter()
        .find(|token| Position::of(token.span.start) == position);
    Error::Syntax {
        reason: lower_first(&reason.replacen("Expected: ", "expected ", 1).replacen(
            ", found: ",
            ", found ",
            1,
        ))
        .replace("found EOF", "found the end of the statement"),
        position,
        suggestion: found
            .and_then(word)
            .and_then(|word| nearest(&word.value, CLAUSES)),
    }
}

fn place_of(text: &str) -> Option<Position> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Position {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
    })
}

/// The one keyword a word was probably meant to be; none if it is one already.
fn nearest(written: &str, words: &[&str]) -> Option<String> {
    let written = written.to_uppercase();
    let best = words
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&written, word), *word))
        .min()?;
    (best.0 > 0 && best.0 <= 2 && written.len() > 2).then(|| best.1.to_owned())
}
