//! `INSERT OVERWRITE`, `DELETE`, `UPDATE`, `MERGE INTO`, `TRUNCATE` and `COPY`: text to [`Body`], clause by clause.
//!
//! What the parser takes and nobody would carry out (`RETURNING`, `LIMIT`, several targets) is refused by
//! name: a clause that is not kept must not be taken.

use super::parse::{from_parser, parsed, parser, reads_only, syntax};
use super::statement::{
    Body, Copy, Delete, Merge, MergeAction, MergeClause, MergeWhen, Set, Update,
};
use super::tokens::is_word;
use super::{Error, Position, not_yet};
use datafusion::sql::parser::{CopyToSource, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, Expr, FromTable, Ident, ObjectName, Statement as Ast, TableFactor,
    TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// A target's name and what the statement calls it.
type Target = (ObjectName, Option<Ident>);

pub(super) fn delete(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let Ast::Delete(delete) = statement(tokens, at)? else {
        return Err(syntax("DELETE takes FROM and a table", Some(at)));
    };
    let refused = [
        (delete.returning.is_some(), "DELETE … RETURNING"),
        (delete.output.is_some(), "DELETE … OUTPUT"),
        (!delete.order_by.is_empty(), "DELETE … ORDER BY"),
        (delete.limit.is_some(), "DELETE … LIMIT"),
        (
            !delete.tables.is_empty(),
            "DELETE from several tables at once",
        ),
    ];
    refuse(&refused, at)?;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = delete.from;
    let (table, alias) = match <[_; 1]>::try_from(from) {
        Ok([one]) => target(one, at)?,
        Err(_) => {
            return Err(not_yet::error(
                "DELETE from several tables at once",
                Some(at),
                Some("name the others behind USING"),
            ));
        }
    };
    if let Some(condition) = &delete.selection {
        reads_only(condition, at)?;
    }
    let using = delete.using.unwrap_or_default();
    reads_only(&using, at)?;
    Ok(Body::Delete(Box::new(Delete {
        table,
        alias,
        using,
        condition: delete.selection,
    })))
}

pub(super) fn update(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let Ast::Update(update) = statement(tokens, at)? else {
        return Err(syntax("UPDATE takes a table and SET", Some(at)));
    };
    let refused = [
        (update.returning.is_some(), "UPDATE … RETURNING"),
        (update.output.is_some(), "UPDATE … OUTPUT"),
        (!update.order_by.is_empty(), "UPDATE … ORDER BY"),
        (update.limit.is_some(), "UPDATE … LIMIT"),
        (update.or.is_some(), "UPDATE OR"),
    ];
    refuse(&refused, at)?;
    let from = match update.from {
        None => Vec::new(),
        Some(ast::UpdateTableFromKind::AfterSet(from)) => from,
        Some(ast::UpdateTableFromKind::BeforeSet(_)) => {
            return Err(not_yet::error(
                "UPDATE with FROM before SET",
                Some(at),
                Some("write FROM behind SET"),
            ));
        }
    };
    let (table, alias) = target(update.table, at)?;
    reads_only(&from, at)?;
    reads_only(&update.assignments, at)?;
    if let Some(condition) = &update.selection {
        reads_only(condition, at)?;
    }
    Ok(Body::Update(Box::new(Update {
        set: assignments(update.assignments, at)?,
        table,
        alias,
        from,
        condition: update.selection,
    })))
}

pub(super) fn truncate(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let _ = parser.parse_keyword(datafusion::sql::sqlparser::keywords::Keyword::TABLE);
    let table = parser
        .parse_object_name(false)
        .map_err(|error| from_parser(error, tokens))?;
    if parser.peek_token().token != Token::EOF {
        return Err(not_yet::error(
            "TRUNCATE with more than one table",
            Some(at),
            None,
        ));
    }
    Ok(Body::Delete(Box::new(Delete {
        table,
        alias: None,
        using: Vec::new(),
        condition: None,
    })))
}

pub(super) fn merge(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let tokens = &with_stars(tokens)[..];
    let Ast::Merge(merge) = statement(tokens, at)? else {
        return Err(syntax("MERGE takes INTO, a table and USING", Some(at)));
    };
    refuse(&[(merge.output.is_some(), "MERGE … RETURNING")], at)?;
    let one = TableWithJoins {
        relation: merge.table,
        joins: Vec::new(),
    };
    let (table, alias) = target(one, at)?;
    reads_only(&merge.source, at)?;
    reads_only(merge.on.as_ref(), at)?;
    reads_only(&merge.clauses, at)?;
    if merge.clauses.is_empty() {
        return Err(syntax("MERGE takes WHEN [NOT] MATCHED THEN …", Some(at)));
    }
    let mut clauses = Vec::with_capacity(merge.clauses.len());
    for clause in merge.clauses {
        let when = match clause.clause_kind {
            ast::MergeClauseKind::Matched => MergeWhen::Matched,
            ast::MergeClauseKind::NotMatched | ast::MergeClauseKind::NotMatchedByTarget => {
                MergeWhen::NotMatched
            }
            ast::MergeClauseKind::NotMatchedBySource => MergeWhen::NotMatchedBySource,
        };
        clauses.push(MergeClause {
            when,
            condition: clause.predicate,
            action: merge_action(clause.action, at)?,
            position: Position::of(clause.when_token.0.span.start),
        });
    }
    Ok(Body::Merge(Box::new(Merge {
        table,
        alias,
        source: merge.source,
        on: *merge.on,
        clauses,
    })))
}

fn merge_action(action: ast::MergeAction, at: &TokenWithSpan) -> Result<MergeAction, Error> {
    match action {
        ast::MergeAction::Delete { .. } => Ok(MergeAction::Delete),
        ast::MergeAction::Update(update) => {
            let refused = [
                (update.update_predicate.is_some(), "UPDATE … WHERE in MERGE"),
                (update.delete_predicate.is_some(), "DELETE WHERE in MERGE"),
            ];
            refuse(&refused, at)?;
            match update.assignments.as_slice() {
                [only] if is_star(&only.target) => Ok(MergeAction::UpdateAll),
                _ => Ok(MergeAction::Update(assignments(update.assignments, at)?)),
            }
        }
        ast::MergeAction::Insert(insert) => {
            refuse(
                &[(insert.insert_predicate.is_some(), "INSERT … WHERE in MERGE")],
                at,
            )?;
            let mut columns = Vec::with_capacity(insert.columns.len());
            for column in &insert.columns {
                columns.push(last(column, at)?);
            }
            match insert.kind {
                ast::MergeInsertKind::Row if columns.is_empty() => Ok(MergeAction::InsertAll),
                ast::MergeInsertKind::Row => {
                    Err(not_yet::error("INSERT (…) ROW in MERGE", Some(at), None))
                }
                ast::MergeInsertKind::Values(values) => {
                    let mut rows = values.rows.into_iter();
                    let (Some(row), None) = (rows.next(), rows.next()) else {
                        return Err(syntax("INSERT in MERGE takes one row of VALUES", Some(at)));
                    };
                    Ok(MergeAction::Insert {
                        columns,
                        values: row.content,
                    })
                }
            }
        }
    }
}

pub(super) fn copy(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Body, Error> {
    let Parsed::CopyTo(copy) = parsed(tokens)? else {
        return Err(syntax("COPY takes a table or (a query), and TO", Some(at)));
    };
    let source = match copy.source {
        CopyToSource::Query(query) => query,
        CopyToSource::Relation(name) => {
            let tokens = super::tokens::tokenize(&format!("SELECT * FROM {name}"))?;
            let mut parser = parser(&tokens);
            let query = parser.parse_query();
            query.map_err(|error| from_parser(error, &tokens))?
        }
    };
    reads_only(source.as_ref(), at)?;
    let options = copy.options.into_iter().map(|(name, value)| {
        let value = match value {
            ast::Value::SingleQuotedString(text) => text,
            other => other.to_string(),
        };
        (name.to_lowercase(), value)
    });
    Ok(Body::Copy(Box::new(Copy {
        source: Box::new(Parsed::Statement(Box::new(Ast::Query(source)))),
        location: copy.target,
        stored_as: copy.stored_as,
        partition_by: copy.partitioned_by,
        options: options.collect(),
    })))
}

/// `UPDATE SET *` and `INSERT *`, which the parser does not know, in words that it does.
fn with_stars(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut before: Option<TokenWithSpan> = None;
    for token in tokens {
        let like = |token_kind: Token| TokenWithSpan {
            token: token_kind,
            span: token.span,
        };
        let follows = |name| before.as_ref().is_some_and(|before| is_word(before, name));
        let is_star = token.token == Token::Mul;
        if is_star && follows("INSERT") {
            out.push(like(Token::make_keyword("ROW")));
        } else if is_star && follows("SET") {
            out.push(like(star_name()));
            out.push(like(Token::Eq));
            out.push(like(Token::make_keyword("NULL")));
        } else {
            out.push(token.clone());
        }
        if !super::tokens::is_blank(token) {
            before = Some(token.clone());
        }
    }
    out
}

/// No column's name: those hold no line breaks.
const STAR: &str = "*\n";

fn star_name() -> Token {
    Token::Word(Word {
        value: STAR.to_owned(),
        quote_style: Some('"'),
        keyword: datafusion::sql::sqlparser::keywords::Keyword::NoKeyword,
    })
}

fn is_star(target: &AssignmentTarget) -> bool {
    match target {
        AssignmentTarget::ColumnName(name) => {
            let mut parts = name.0.iter().filter_map(|part| part.as_ident());
            parts.any(|ident| ident.value == STAR)
        }
        AssignmentTarget::Tuple(_) => false,
    }
}

fn statement(tokens: &[TokenWithSpan], at: &TokenWithSpan) -> Result<Ast, Error> {
    match parsed(tokens)? {
        Parsed::Statement(statement) => Ok(*statement),
        _ => Err(not_yet::error("this statement", Some(at), None)),
    }
}

fn target(from: TableWithJoins, at: &TokenWithSpan) -> Result<Target, Error> {
    let refuse = |what| Err(not_yet::error(what, Some(at), None));
    if !from.joins.is_empty() {
        return refuse("a join as what is changed");
    }
    let TableFactor::Table {
        name,
        alias,
        args: None,
        version: None,
        sample: None,
        ..
    } = from.relation
    else {
        return refuse("changing anything but a table");
    };
    match alias {
        Some(alias) if !alias.columns.is_empty() => refuse("new names for a target's columns"),
        alias => Ok((name, alias.map(|alias| alias.name))),
    }
}

fn assignments(given: Vec<ast::Assignment>, at: &TokenWithSpan) -> Result<Vec<Set>, Error> {
    let mut set = Vec::with_capacity(given.len());
    for assignment in given {
        let AssignmentTarget::ColumnName(name) = assignment.target else {
            return Err(not_yet::error(
                "SET (a, b) = …",
                Some(at),
                Some("set each column by itself"),
            ));
        };
        set.push(Set {
            column: last(&name, at)?,
            value: assignment.value,
        });
    }
    Ok(set)
}

/// The column that a name, with or without its table before it, means.
fn last(name: &ObjectName, at: &TokenWithSpan) -> Result<Ident, Error> {
    match name.0.last().and_then(|part| part.as_ident()) {
        Some(ident) => Ok(ident.clone()),
        None => Err(syntax("expected a column", Some(at))),
    }
}

/// `PARTITION (a = 1, b)`: columns, some with the value that all rows have.
pub(super) fn partition(
    given: Vec<Expr>,
    at: &TokenWithSpan,
) -> Result<Vec<(Ident, Option<Expr>)>, Error> {
    let mut columns = Vec::with_capacity(given.len());
    for expression in given {
        columns.push(match expression {
            Expr::Identifier(column) => (column, None),
            Expr::BinaryOp {
                left,
                op: ast::BinaryOperator::Eq,
                right,
            } => match *left {
                Expr::Identifier(column) => {
                    reads_only(right.as_ref(), at)?;
                    (column, Some(*right))
                }
                _ => {
                    return Err(syntax(
                        "PARTITION takes columns, as in (a = 1, b)",
                        Some(at),
                    ));
                }
            },
            _ => {
                return Err(syntax(
                    "PARTITION takes columns, as in (a = 1, b)",
                    Some(at),
                ));
            }
        });
    }
    Ok(columns)
}

fn refuse(given: &[(bool, &'static str)], at: &TokenWithSpan) -> Result<(), Error> {
    match given.iter().find(|(is_given, _)| *is_given) {
        Some((_, what)) => Err(Error::NotYet {
            what,
            position: Position::of(at.span.start),
            instead: None,
        }),
        None => Ok(()),
    }
}
