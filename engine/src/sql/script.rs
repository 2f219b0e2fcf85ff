//! One submitted text to its statements.

use super::tokens::{self, Offsets};
use super::{Body, Error, Position, Statement, parse as statement_parser};
use datafusion::common::TableReference;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The most SQL that is read at once, in bytes.
pub const MAX_SQL_BYTES: usize = 4 << 20;

/// How deep expressions, subqueries and chains of operators may nest. A chain `a OR b OR c` nests
/// once per operator, and every walk over the plan goes as deep.
pub const MAX_DEPTH: usize = 340;

/// How deep the parser itself may recurse: parentheses, subqueries, prefix operators. Its frames are
/// large, and the stack of a runtime's thread is 2 MiB.
pub(super) const MAX_NESTING: usize = 100;

/// How deep words that the parser reads twice may nest; see [`retries`].
const MAX_RETRIES: usize = 14;

/// Splits a text at its semicolons and parses every statement.
///
/// # Errors
/// The first mistake, with its place in the whole text. Nothing is looked up, so names are not
/// checked here.
pub fn parse(sql: &str) -> Result<Vec<Statement>, Error> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(Error::TooLong {
            bytes: sql.len(),
            limit: MAX_SQL_BYTES,
        });
    }
    let tokens = tokens::tokenize(sql)?;
    let mut offsets = Offsets::new(sql);
    let mut statements = Vec::new();
    for part in tokens.split(|token| token.token == Token::SemiColon) {
        let Some(part) = trim(part) else { continue };
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            continue;
        };
        check_depth(part)?;
        let offset = offsets.byte(first.span.start);
        let end = offsets.byte(last.span.end);
        let text = sql.get(offset..end).unwrap_or_default();
        let position = Position::of(first.span.start).unwrap_or(Position { line: 1, column: 1 });
        statements.push(Statement {
            text: text.to_owned(),
            offset,
            position,
            ordinal: u32::try_from(statements.len() + 1).unwrap_or(u32::MAX),
            body: statement_parser::statement(text, part)?,
        });
    }
    Ok(statements)
}

/// The one query of a text, in the planner's words: for who plans it otherwise than as a statement of its own, as streams
/// do with what transforms their records.
///
/// # Errors
/// As [`parse`]; and if it is another statement, or more than one.
pub fn parse_query(sql: &str) -> Result<Parsed, Error> {
    let another = |position| Error::Invalid {
        reason: "one query was expected: SELECT …".to_owned(),
        position,
        hint: None,
    };
    let mut statements = parse(sql)?.into_iter();
    match (statements.next(), statements.next()) {
        (Some(first), None) => match first.body {
            Body::Query(query) => Ok(*query),
            _ => Err(another(Some(first.position))),
        },
        (_, second) => Err(another(second.map(|second| second.position))),
    }
}

/// The names of tables that a query reads, `table` or `schema.table`; none if it cannot be read.
pub fn tables_of(sql: &str) -> Vec<String> {
    let name = |reference: TableReference| match reference.schema() {
        Some(schema) => format!("{schema}.{}", reference.table()),
        None => reference.table().to_owned(),
    };
    let found = parse_query(sql)
        .ok()
        .and_then(|query| resolve_table_references(&query, true).ok());
    let (tables, _) = found.unwrap_or_default();
    tables.into_iter().map(name).collect()
}

/// Without blanks and comments at both ends; `None` if nothing is left.
fn trim(part: &[TokenWithSpan]) -> Option<&[TokenWithSpan]> {
    let begin = part.iter().position(|token| !tokens::is_blank(token))?;
    let end = part.iter().rposition(|token| !tokens::is_blank(token))?;
    part.get(begin..=end)
}

/// Bounds the depth of the tree the parser will build, from the tokens: dropping a tree that is too
/// deep would already overflow the stack, so it must not be built.
fn check_depth(part: &[TokenWithSpan]) -> Result<(), Error> {
    let mut levels = vec![Level {
        is_outermost: true,
        ..Level::default()
    }];
    let mut depth = 0usize;
    let mut retried = 0usize;
    let mut previous = None;
    for token in part.iter().filter(|token| !tokens::is_blank(token)) {
        let behind = previous.replace(token);
        let is_inner = levels.len() > 1;
        let Some(level) = levels.last_mut() else {
            break;
        };
        let before = level.depth();
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                let retries = behind.map_or(0, retries);
                levels.push(Level {
                    retries,
                    ..Level::default()
                });
                depth += 1;
                retried += retries;
            }
            Token::Word(word) if word.keyword == Keyword::CASE => {
                levels.push(Level {
                    is_case: true,
                    ..Level::default()
                });
                depth += 1;
            }
            Token::Word(word) if word.keyword == Keyword::END && level.is_case => {
                depth -= before + 1;
                levels.pop();
            }
            // Branches stand beside each other.
            Token::Word(word)
                if level.is_case
                    && matches!(word.keyword, Keyword::WHEN | Keyword::THEN | Keyword::ELSE) =>
            {
                (level.joined, level.operators) = (0, 0);
                depth -= before;
            }
            Token::RParen | Token::RBracket | Token::RBrace if is_inner => {
                // A CASE without its END: the parser will say so.
                while let Some(open) = levels.pop_if(|level| level.is_case) {
                    depth -= open.depth() + 1;
                }
                let Some(level) = levels.last_mut().filter(|level| !level.is_outermost) else {
                    continue;
                };
                let before = level.depth();
                retried -= level.retries;
                depth -= before + 1;
                levels.pop();
                // A subscript nests what stands before it.
                if let (Token::RBracket, Some(outer)) = (&token.token, levels.last_mut()) {
                    outer.operators += 1;
                    depth += 1;
                }
            }
            other => {
                match other {
                    Token::Comma => (level.joined, level.operators) = (0, 0),
                    _ if joins(other) => {
                        level.joined += 1;
                        level.operators = 0;
                    }
                    _ if nests(other) => level.operators += 1,
                    _ => continue,
                }
                depth = depth + level.depth() - before;
            }
        }
        if depth > MAX_DEPTH || retried > MAX_RETRIES {
            let limit = if depth > MAX_DEPTH {
                MAX_DEPTH
            } else {
                MAX_RETRIES
            };
            return Err(Error::TooDeep {
                limit,
                position: Position::of(token.span.start),
            });
        }
    }
    Ok(())
}

/// What stands between two parentheses, or in a CASE, since the last comma or branch.
#[derive(Default)]
struct Level {
    /// Words such as OR: each nests everything before it once.
    joined: usize,
    /// Operators since the last of these: only what they belong to is nested.
    operators: usize,
    /// What the word before the opening parenthesis costs.
    retries: usize,
    is_case: bool,
    is_outermost: bool,
}

impl Level {
    fn depth(&self) -> usize {
        self.joined + self.operators
    }
}

/// How often the parser reads a parenthesis again, after this word, when there is a mistake in it: as the
/// word's own syntax, then as a plain call. Nested n deep, one mistake costs 2 to the n; so such words
/// may not nest as deep as others.
fn retries(token: &TokenWithSpan) -> usize {
    let Some(word) = tokens::word(token) else {
        return 0;
    };
    match word.keyword {
        Keyword::POSITION => 2,
        Keyword::CAST
        | Keyword::TRY_CAST
        | Keyword::SAFE_CAST
        | Keyword::CONVERT
        | Keyword::TRY_CONVERT
        | Keyword::EXTRACT
        | Keyword::CEIL
        | Keyword::FLOOR
        | Keyword::SUBSTR
        | Keyword::SUBSTRING
        | Keyword::OVERLAY
        | Keyword::TRIM
        | Keyword::NOT
        | Keyword::CIRCLE
        | Keyword::BOX
        | Keyword::PATH
        | Keyword::LINE
        | Keyword::LSEG
        | Keyword::POINT
        | Keyword::POLYGON => 1,
        _ => 0,
    }
}

/// Whether a token binds so loosely that operators before it are closed.
fn joins(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
        ),
        _ => false,
    }
}

/// Whether a token can put what stands before or after it one level deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::IN
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::DIV
                | Keyword::OVERLAPS
        ),
        Token::Whitespace(_)
        | Token::EOF
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Period
        | Token::Placeholder(_) => false,
        _ => true,
    }
}
