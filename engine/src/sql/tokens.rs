//! The text as tokens with places: what splitting, hashing and looking for a name work on.

use super::{Error, Position};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

/// The dialect of every text: DataFusion's default.
pub(super) const DIALECT: GenericDialect = GenericDialect {};

/// All tokens, blanks and comments too.
pub(super) fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, Error> {
    Tokenizer::new(&DIALECT, sql)
        .tokenize_with_location()
        .map_err(|error| Error::Syntax {
            reason: lower_first(&error.message),
            position: Position::of(error.location),
            suggestion: None,
        })
}

pub(super) fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_) | Token::EOF)
}

/// The word a token is, when it is one that is not quoted.
pub(super) fn word(token: &TokenWithSpan) -> Option<&Word> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word),
        _ => None,
    }
}

pub(super) fn is_word(token: &TokenWithSpan, text: &str) -> bool {
    word(token).is_some_and(|word| word.value.eq_ignore_ascii_case(text))
}

/// FNV-1a (64 bit, <http://www.isthe.com/chongo/tech/comp/fnv/>) of the tokens that are not blank,
/// each followed by a zero byte. A text that is not SQL hashes as its bytes.
pub(super) fn hash(sql: &str) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    match tokenize(sql) {
        Ok(tokens) => {
            for token in tokens.iter().filter(|token| !is_blank(token)) {
                feed(token.token.to_string().as_bytes());
                feed(&[0]);
            }
        }
        Err(_) => feed(sql.as_bytes()),
    }
    state
}

/// Turns places of one text into byte offsets, in one pass: places are asked for in their order.
pub(super) struct Offsets<'a> {
    text: &'a str,
    byte: usize,
    at: Location,
}

impl<'a> Offsets<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self::starting_at(text, Location { line: 1, column: 1 })
    }

    /// For a text that is itself part of a larger one.
    pub(super) fn starting_at(text: &'a str, at: Location) -> Self {
        Self { text, byte: 0, at }
    }

    /// Byte of a place; the end of the text for a place behind it.
    pub(super) fn byte(&mut self, place: Location) -> usize {
        let rest = self.text.get(self.byte..).unwrap_or_default();
        for char in rest.chars() {
            if (self.at.line, self.at.column) >= (place.line, place.column) {
                break;
            }
            self.byte += char.len_utf8();
            if char == '\n' {
                self.at = Location {
                    line: self.at.line + 1,
                    column: 1,
                };
            } else {
                self.at.column += 1;
            }
        }
        self.byte
    }
}

/// Messages begin with a small letter, unless the first word is in capitals.
pub(super) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => first
            .to_lowercase()
            .chain(std::iter::once(second))
            .chain(chars)
            .collect(),
        _ => message.to_owned(),
    }
}
