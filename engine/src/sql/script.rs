//! One submitted text to its statements.

use super::tokens::{self, Offsets};
use super::{Error, Position, Statement, parse as statement_parser};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The most SQL that is read at once, in bytes.
pub const MAX_SQL_BYTES: usize = 4 << 20;

/// How deep expressions, subqueries and chains of operators may nest. A chain `a OR b OR c` nests
/// once per operator, and every walk over the plan goes as deep.
pub const MAX_DEPTH: usize = 1_000;

/// How deep the parser itself may recurse: parentheses, subqueries, prefix operators. Its frames are
/// large, and the stack of a runtime's thread is 2 MiB.
pub(super) const MAX_NESTING: usize = 100;

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

/// Without blanks and comments at both ends; `None` if nothing is left.
fn trim(part: &[TokenWithSpan]) -> Option<&[TokenWithSpan]> {
    let begin = part.iter().position(|token| !tokens::is_blank(token))?;
    let end = part.iter().rposition(|token| !tokens::is_blank(token))?;
    part.get(begin..=end)
}

/// Bounds the depth of the tree the parser will build, from the tokens: dropping a tree that is too
/// deep would already overflow the stack, so it must not be built.
fn check_depth(part: &[TokenWithSpan]) -> Result<(), Error> {
    // Operators since the last comma, for each open parenthesis.
    let mut open = vec![0usize];
    let mut depth = 0usize;
    for token in part {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(1);
                depth += 1;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if open.len() > 1 {
                    depth -= open.pop().unwrap_or(0);
                }
                // A subscript nests what stands before it.
                if let (Token::RBracket, Some(operators)) = (&token.token, open.last_mut()) {
                    *operators += 1;
                    depth += 1;
                }
            }
            Token::Comma => {
                if let Some(operators) = open.last_mut() {
                    depth -= *operators;
                    *operators = 0;
                }
            }
            other if nests(other) => {
                if let Some(operators) = open.last_mut() {
                    *operators += 1;
                    depth += 1;
                }
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep {
                limit: MAX_DEPTH,
                position: Position::of(token.span.start),
            });
        }
    }
    Ok(())
}

/// Whether a token can put what stands before or after it one level deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::CASE
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::JOIN
                | Keyword::IN
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::XOR
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
