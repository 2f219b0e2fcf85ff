//! Text typed so far: where a statement ends. Semicolons inside strings, quoted names and comments
//! do not end one.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    Quote(char),
    Line,
    /// Block comments nest, as in PostgreSQL.
    Block(u32),
}

/// The text ends a statement: the last thing in it, besides blanks and comments, is a semicolon.
pub(crate) fn is_complete(text: &str) -> bool {
    let mut inside = Inside::Code;
    let mut ended = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        inside = match (inside, character, next) {
            (Inside::Code, '-', Some('-')) => Inside::Line,
            (Inside::Code, '/', Some('*')) => {
                characters.next();
                Inside::Block(1)
            }
            (Inside::Code, '\'' | '"' | '`', _) => {
                ended = false;
                Inside::Quote(character)
            }
            (Inside::Code, ';', _) => {
                ended = true;
                Inside::Code
            }
            (Inside::Code, other, _) => {
                ended = ended && other.is_whitespace();
                Inside::Code
            }
            // A doubled quote closes and opens again, which comes to the same.
            (Inside::Quote(quote), other, _) if other == quote => Inside::Code,
            (Inside::Line, '\n', _) => Inside::Code,
            (Inside::Block(depth), '*', Some('/')) => {
                characters.next();
                if depth == 1 {
                    Inside::Code
                } else {
                    Inside::Block(depth - 1)
                }
            }
            (Inside::Block(depth), '/', Some('*')) => {
                characters.next();
                Inside::Block(depth + 1)
            }
            (same, _, _) => same,
        };
    }
    ended && matches!(inside, Inside::Code | Inside::Line)
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn a_semicolon_ends_a_statement() {
        assert!(is_complete("SELECT 1;"));
        assert!(is_complete("SELECT 1;  \n"));
        assert!(is_complete("SELECT 1; SELECT 2;"));
        assert!(is_complete("SELECT 1; -- done"));
        assert!(is_complete("SELECT 1; /* done */"));
    }

    #[test]
    fn without_one_the_statement_goes_on() {
        assert!(!is_complete(""));
        assert!(!is_complete("SELECT 1"));
        assert!(!is_complete("SELECT 1; SELECT 2"));
        assert!(!is_complete("-- SELECT 1;"));
    }

    #[test]
    fn quoted_and_commented_semicolons_do_not_count() {
        assert!(!is_complete("SELECT ';"));
        assert!(!is_complete("SELECT 'it''s;"));
        assert!(!is_complete("SELECT \"a;"));
        assert!(!is_complete("SELECT 1 /* ; "));
        assert!(!is_complete("SELECT 1 /* /* */ ;"));
        assert!(!is_complete("SELECT 1 -- ;"));
        assert!(is_complete("SELECT ';';"));
    }
}
