//! `ALTER`, `DROP` and `COMMENT ON`: statements that change what names stand for.
//!
//! | statement | does |
//! |---|---|
//! | `ALTER TABLE a RENAME TO b, c RENAME TO d` | any number of names, one after the other, in one step |
//! | `ALTER TABLE a SWAP WITH b, …` | names change places, in one step |
//! | `ALTER SCHEMA a RENAME TO b`, `ALTER SCHEMA a SWAP WITH b` | with all that is in them |
//! | `ALTER TABLE t ADD COLUMN c INT`, `DROP COLUMN c`, `RENAME COLUMN c TO d` | |
//! | `ALTER TABLE t ALTER COLUMN c SET NOT NULL`, `DROP NOT NULL`, `TYPE …`, `COMMENT '…'` | |
//! | `ALTER TABLE t ADD CONSTRAINT c CHECK (…)`, `DROP CONSTRAINT c` | |
//! | `ALTER TABLE t SET TBLPROPERTIES (…)`, `UNSET` | |
//! | `COMMENT ON TABLE t IS '…'` | also COLUMN, VIEW, SCHEMA; NULL takes it away |

use super::clauses::{properties, property_names};
use super::parse::{end, from_parser, parser, reads_only, syntax};
use super::statement::{Alter, Body, ColumnChange, CommentOn, NameChange, ObjectType};
use super::tokens::is_word;
use super::{Error, not_yet};
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident, ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

const IF_EXISTS: &[Keyword] = &[Keyword::IF, Keyword::EXISTS];
const IF_NOT_EXISTS: &[Keyword] = &[Keyword::IF, Keyword::NOT, Keyword::EXISTS];

fn name(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<ObjectName, Error> {
    parser
        .parse_object_name(false)
        .map_err(|error| from_parser(error, tokens))
}

/// TABLE, VIEW or SCHEMA.
fn object_type(token: &TokenWithSpan) -> Option<ObjectType> {
    let types = [
        ("TABLE", ObjectType::Table),
        ("VIEW", ObjectType::View),
        ("SCHEMA", ObjectType::Schema),
        ("DATABASE", ObjectType::Schema),
    ];
    types
        .into_iter()
        .find(|(name, _)| is_word(token, name))
        .map(|(_, object)| object)
}

pub(super) fn drop_object(tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    let drop = parser.next_token();
    let kind = parser.next_token();
    let external = is_word(&kind, "EXTERNAL");
    let kind = if external { parser.next_token() } else { kind };
    if kind.token == Token::EOF {
        return Err(syntax(
            "DROP takes TABLE, VIEW or SCHEMA and a name",
            Some(&drop),
        ));
    }
    let Some(object) = object_type(&kind) else {
        return Err(not_yet::error(
            "DROP of anything but a table, view or schema",
            Some(&kind),
            None,
        ));
    };
    let if_exists = parser.parse_keywords(IF_EXISTS);
    let mut names = vec![name(tokens, &mut parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(name(tokens, &mut parser)?);
    }
    let cascade = parser.parse_keyword(Keyword::CASCADE);
    let _ = !cascade && parser.parse_keyword(Keyword::RESTRICT);
    // Files of a dropped table are always deleted.
    let _ = parser.parse_keyword(Keyword::PURGE);
    end(&mut parser)?;
    Ok(Body::Drop {
        object,
        names,
        if_exists,
        cascade,
    })
}

pub(super) fn alter(tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    let alter = parser.next_token();
    let kind = parser.next_token();
    if kind.token == Token::EOF {
        return Err(syntax(
            "ALTER takes TABLE, VIEW or SCHEMA and a name",
            Some(&alter),
        ));
    }
    let Some(object) = object_type(&kind) else {
        return Err(not_yet::error(
            "ALTER of anything but a table, view or schema",
            Some(&kind),
            None,
        ));
    };
    let if_exists = parser.parse_keywords(IF_EXISTS);
    let first = name(tokens, &mut parser)?;
    let at = parser.peek_token();
    let is_table = object == ObjectType::Table;
    let next = parser.peek_nth_token(1);
    if is_table && is_word(&at, "ALTER") {
        return alter_column(tokens, &mut parser, first, if_exists);
    }
    let names_constraint = ["CONSTRAINT", "CHECK"]
        .iter()
        .any(|word| is_word(&next, word));
    let alter = if is_table && is_word(&at, "RENAME") && is_word(&next, "COLUMN") {
        parser.next_token();
        parser.next_token();
        let from = identifier(tokens, &mut parser)?;
        let to = parser.next_token();
        if !is_word(&to, "TO") {
            return Err(syntax("expected TO behind the column", Some(&to)));
        }
        let to = identifier(tokens, &mut parser)?;
        columns(first, if_exists, ColumnChange::Rename { from, to })
    } else if is_table && is_word(&at, "DROP") {
        let change = drop_columns(tokens, &mut parser)?;
        columns(first, if_exists, change)
    } else if is_table && is_word(&at, "ADD") && names_constraint {
        let change = add_check(tokens, &mut parser, &first)?;
        columns(first, if_exists, change)
    } else if is_word(&at, "RENAME") || is_word(&at, "SWAP") {
        name_changes(tokens, &mut parser, object, first, if_exists)?
    } else if is_word(&at, "ADD") && is_table {
        add_columns(tokens, &mut parser, first, if_exists)?
    } else if is_word(&at, "SET") && object != ObjectType::Schema {
        parser.next_token();
        let word = parser.next_token();
        if !is_word(&word, "TBLPROPERTIES") && !is_word(&word, "PROPERTIES") {
            return Err(not_yet::error(
                "ALTER … SET of anything but TBLPROPERTIES",
                Some(&word),
                None,
            ));
        }
        Alter::Properties {
            object,
            name: first,
            if_exists,
            set: properties(&mut parser)?,
            unset: Vec::new(),
            unset_if_exists: false,
        }
    } else if is_word(&at, "UNSET") && object != ObjectType::Schema {
        parser.next_token();
        let word = parser.next_token();
        if !is_word(&word, "TBLPROPERTIES") && !is_word(&word, "PROPERTIES") {
            return Err(syntax("expected TBLPROPERTIES behind UNSET", Some(&word)));
        }
        let unset_if_exists = parser.parse_keywords(IF_EXISTS);
        Alter::Properties {
            object,
            name: first,
            if_exists,
            set: Vec::new(),
            unset: property_names(&mut parser)?,
            unset_if_exists,
        }
    } else {
        return Err(unknown_action(object, &at));
    };
    end(&mut parser)?;
    Ok(Body::Alter(alter))
}

fn identifier(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<Ident, Error> {
    let found = parser.parse_identifier();
    found.map_err(|error| from_parser(error, tokens))
}

fn columns(table: ObjectName, if_exists: bool, change: ColumnChange) -> Alter {
    Alter::Columns {
        table,
        if_exists,
        change,
    }
}

/// `ALTER [COLUMN] a SET NOT NULL | DROP NOT NULL | [SET DATA] TYPE … | COMMENT '…'`.
fn alter_column(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    table: ObjectName,
    if_exists: bool,
) -> Result<Body, Error> {
    parser.next_token();
    let _ = parser.parse_keyword(Keyword::COLUMN);
    let column = identifier(tokens, parser)?;
    let at = parser.peek_token();
    let change = if parser.parse_keywords(&[Keyword::SET, Keyword::NOT, Keyword::NULL]) {
        ColumnChange::NotNull {
            column,
            demanded: true,
        }
    } else if parser.parse_keywords(&[Keyword::DROP, Keyword::NOT, Keyword::NULL]) {
        ColumnChange::NotNull {
            column,
            demanded: false,
        }
    } else if parser.parse_keywords(&[Keyword::SET, Keyword::DATA, Keyword::TYPE])
        || parser.parse_keyword(Keyword::TYPE)
    {
        let data_type = parser.parse_data_type();
        ColumnChange::Type {
            column: Box::new(ColumnDef {
                name: column,
                data_type: data_type.map_err(|error| from_parser(error, tokens))?,
                options: Vec::new(),
            }),
        }
    } else if parser.parse_keyword(Keyword::COMMENT) {
        let text = match parser.parse_keyword(Keyword::NULL) {
            true => None,
            false => {
                let text = parser.parse_literal_string();
                Some(text.map_err(|error| from_parser(error, tokens))?)
            }
        };
        end(parser)?;
        let mut name = table;
        name.0.push(ObjectNamePart::Identifier(column));
        return Ok(Body::Comment {
            on: CommentOn::Column,
            name,
            text,
            if_exists,
        });
    } else {
        return Err(syntax(
            "expected SET NOT NULL, DROP NOT NULL, TYPE or COMMENT behind the column",
            Some(&at),
        ));
    };
    end(parser)?;
    Ok(Body::Alter(columns(table, if_exists, change)))
}

/// `DROP COLUMN a, DROP COLUMN b`, `DROP COLUMNS (a, b)`, `DROP CONSTRAINT c`.
fn drop_columns(tokens: &[TokenWithSpan], parser: &mut Parser<'_>) -> Result<ColumnChange, Error> {
    parser.next_token();
    let at = parser.peek_token();
    if is_word(&at, "CONSTRAINT") {
        parser.next_token();
        let if_exists = parser.parse_keywords(IF_EXISTS);
        let name = identifier(tokens, parser)?;
        return Ok(ColumnChange::DropCheck { name, if_exists });
    }
    if !is_word(&at, "COLUMN") && !is_word(&at, "COLUMNS") {
        return Err(syntax(
            "expected COLUMN or CONSTRAINT behind DROP",
            Some(&at),
        ));
    }
    parser.next_token();
    let if_exists = parser.parse_keywords(IF_EXISTS);
    let in_parens = parser.consume_token(&Token::LParen);
    let mut columns = vec![identifier(tokens, parser)?];
    while parser.consume_token(&Token::Comma) {
        if !in_parens && is_word(&parser.peek_token(), "DROP") {
            parser.next_token();
            let _ = parser.parse_keyword(Keyword::COLUMN);
        }
        columns.push(identifier(tokens, parser)?);
    }
    if in_parens {
        let closed = parser.expect_token(&Token::RParen);
        closed.map_err(|error| from_parser(error, tokens))?;
    }
    Ok(ColumnChange::Drop { columns, if_exists })
}

/// `ADD CONSTRAINT c CHECK (…)`, `ADD CHECK (…)`.
fn add_check(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    table: &ObjectName,
) -> Result<ColumnChange, Error> {
    parser.next_token();
    let name = match parser.parse_keyword(Keyword::CONSTRAINT) {
        true => identifier(tokens, parser)?,
        false => {
            let last = table.0.last().and_then(|part| part.as_ident());
            Ident::new(format!(
                "{}_check",
                last.map_or("table", |last| last.value.as_str())
            ))
        }
    };
    let at = parser.peek_token();
    if !parser.parse_keyword(Keyword::CHECK) {
        return Err(not_yet::error(
            "a constraint other than CHECK",
            Some(&at),
            None,
        ));
    }
    let broken = |error| from_parser(error, tokens);
    parser.expect_token(&Token::LParen).map_err(broken)?;
    let condition = parser.parse_expr().map_err(broken)?;
    parser.expect_token(&Token::RParen).map_err(broken)?;
    reads_only(&condition, &at)?;
    Ok(ColumnChange::AddCheck {
        name,
        condition: Box::new(condition),
    })
}

fn unknown_action(object: ObjectType, at: &TokenWithSpan) -> Error {
    if at.token == Token::EOF {
        return syntax("expected what to do, such as RENAME TO", Some(at));
    }
    let refused = [
        ("CHANGE", "ALTER TABLE … CHANGE COLUMN"),
        ("REPLACE", "ALTER TABLE … REPLACE COLUMNS"),
        ("OWNER", "ALTER … OWNER"),
        ("RECOVER", "ALTER TABLE … RECOVER PARTITIONS"),
    ];
    match refused.iter().find(|(name, _)| is_word(at, name)) {
        Some((_, what)) if object == ObjectType::Table => not_yet::error(what, Some(at), None),
        _ => syntax(
            match object {
                ObjectType::Table => {
                    "expected RENAME TO, RENAME COLUMN, SWAP WITH, ADD, DROP or ALTER COLUMN, ADD or DROP CONSTRAINT, SET TBLPROPERTIES or UNSET TBLPROPERTIES"
                }
                ObjectType::View => {
                    "expected RENAME TO, SWAP WITH, SET TBLPROPERTIES or UNSET TBLPROPERTIES"
                }
                ObjectType::Schema => "expected RENAME TO or SWAP WITH",
            },
            Some(at),
        ),
    }
}

/// `RENAME TO b`, `SWAP WITH b`, and after a comma the next pair.
fn name_changes(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    object: ObjectType,
    first: ObjectName,
    if_exists: bool,
) -> Result<Alter, Error> {
    let mut changes = Vec::new();
    let mut from = first;
    loop {
        let word = parser.next_token();
        let swap = is_word(&word, "SWAP");
        if is_word(&word, "RENAME") {
            let next = parser.next_token();
            if is_word(&next, "COLUMN") {
                return Err(not_yet::error(
                    "ALTER TABLE … RENAME COLUMN",
                    Some(&next),
                    None,
                ));
            }
            if !is_word(&next, "TO") {
                return Err(syntax("expected TO behind RENAME", Some(&next)));
            }
        } else if swap {
            let next = parser.next_token();
            if !is_word(&next, "WITH") {
                return Err(syntax("expected WITH behind SWAP", Some(&next)));
            }
        } else {
            return Err(syntax("expected RENAME TO or SWAP WITH", Some(&word)));
        }
        let to = name(tokens, parser)?;
        changes.push(NameChange { from, to, swap });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
        from = name(tokens, parser)?;
    }
    Ok(Alter::Names {
        object,
        changes,
        if_exists,
    })
}

/// `ADD COLUMN a INT`, `ADD COLUMN a INT, ADD COLUMN b INT`, `ADD COLUMNS (a INT, b INT)`.
fn add_columns(
    tokens: &[TokenWithSpan],
    parser: &mut Parser<'_>,
    table: ObjectName,
    if_exists: bool,
) -> Result<Alter, Error> {
    let broken = |error| from_parser(error, tokens);
    let mut columns = Vec::new();
    let mut if_not_exists = false;
    loop {
        parser.next_token();
        let word = parser.peek_token();
        if is_word(&word, "CONSTRAINT") || is_word(&word, "CHECK") || is_word(&word, "PRIMARY") {
            return Err(not_yet::error(
                "ALTER TABLE … ADD CONSTRAINT",
                Some(&word),
                None,
            ));
        }
        let _ = parser.parse_keyword(Keyword::COLUMN) || parser.parse_keyword(Keyword::COLUMNS);
        if_not_exists |= parser.parse_keywords(IF_NOT_EXISTS);
        if parser.peek_token().token == Token::LParen {
            let open = parser.peek_token();
            let (found, constraints) = parser.parse_columns().map_err(broken)?;
            if !constraints.is_empty() {
                return Err(not_yet::error("a table constraint", Some(&open), None));
            }
            columns.extend(found);
        } else {
            columns.push(parser.parse_column_def().map_err(broken)?);
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
        let next = parser.peek_token();
        if !is_word(&next, "ADD") {
            return Err(syntax("expected ADD COLUMN behind the comma", Some(&next)));
        }
    }
    if columns.is_empty() {
        return Err(syntax(
            "ADD COLUMNS takes columns",
            Some(&parser.peek_token()),
        ));
    }
    Ok(Alter::AddColumns {
        table,
        columns,
        if_exists,
        if_not_exists,
    })
}

pub(super) fn comment(tokens: &[TokenWithSpan]) -> Result<Body, Error> {
    let mut parser = parser(tokens);
    parser.next_token();
    let if_exists = parser.parse_keywords(IF_EXISTS);
    let on = parser.next_token();
    if !is_word(&on, "ON") {
        return Err(syntax("expected ON behind COMMENT", Some(&on)));
    }
    let kind = parser.next_token();
    let on = if is_word(&kind, "COLUMN") {
        CommentOn::Column
    } else if let Some(object) = object_type(&kind) {
        CommentOn::Object(object)
    } else {
        return Err(syntax(
            "COMMENT ON takes TABLE, VIEW, COLUMN or SCHEMA",
            Some(&kind),
        ));
    };
    let name = name(tokens, &mut parser)?;
    let is = parser.next_token();
    if !is_word(&is, "IS") {
        return Err(syntax("expected IS and the text", Some(&is)));
    }
    let text = match parser.parse_keyword(Keyword::NULL) {
        true => None,
        // PostgreSQL and dbt write long ones between dollars.
        false => match parser.peek_token().token {
            Token::DollarQuotedString(text) => {
                parser.next_token();
                Some(text.value)
            }
            _ => Some(
                parser
                    .parse_literal_string()
                    .map_err(|error| from_parser(error, tokens))?,
            ),
        },
    };
    end(&mut parser)?;
    Ok(Body::Comment {
        on,
        name,
        text,
        if_exists,
    })
}
