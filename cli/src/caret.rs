//! Where in a text an error is: the line, with a caret under the column.

/// Columns of source text that are shown at most; a longer line is cut around the caret.
const WIDTH: usize = 120;

/// Shows `line` and `column` (1-based, in characters) of `text`. Empty where the text has no such line.
pub(crate) fn render(text: &str, source: Option<&str>, line: u32, column: u32) -> String {
    let Some(content) = (line as usize)
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index))
    else {
        return String::new();
    };
    let characters: Vec<char> = content.chars().collect();
    let at = (column as usize).saturating_sub(1).min(characters.len());
    let from = if characters.len() <= WIDTH {
        0
    } else {
        at.saturating_sub(WIDTH / 2)
    };
    let to = (from + WIDTH).min(characters.len());
    let (before, after) = (
        if from > 0 { "…" } else { "" },
        if to < characters.len() { "…" } else { "" },
    );

    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let shown: String = characters[from..to].iter().collect();
    // Tabs stay tabs, so that the caret stands under its character whatever a tab's width is.
    let pad: String = before
        .chars()
        .map(|_| ' ')
        .chain(
            characters[from..at]
                .iter()
                .map(|&c| if c == '\t' { '\t' } else { ' ' }),
        )
        .collect();
    let place = source
        .map(|source| format!("{gutter}--> {source}:{line}:{column}\n"))
        .unwrap_or_default();
    format!("{place}{gutter} |\n{number} | {before}{shown}{after}\n{gutter} | {pad}^\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_column() {
        insta::assert_snapshot!(render("SELECT\n  artst\nFROM listen_events", None, 2, 3), @r"
          |
        2 |   artst
          |   ^
        ");
    }

    #[test]
    fn a_file_is_named_with_its_position() {
        insta::assert_snapshot!(render("SELEC 1", Some("daily.sql"), 1, 1), @r"
         --> daily.sql:1:1
          |
        1 | SELEC 1
          | ^
        ");
    }

    #[test]
    fn tabs_are_repeated_under_the_text() {
        assert!(render("\tx", None, 1, 2).ends_with(" | \t^\n"));
    }

    #[test]
    fn a_column_counts_characters_not_bytes() {
        assert!(render("'é' x", None, 1, 5).ends_with("|     ^\n"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = render(&text, None, 1, 501);
        let lines: Vec<&str> = shown.lines().collect();
        let column = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().nth(column), Some('X'));
        assert!(lines[1].chars().count() < WIDTH + 10);
    }

    #[test]
    fn a_position_outside_the_text_shows_nothing_or_the_end() {
        assert_eq!(render("SELECT", None, 9, 1), "");
        assert_eq!(render("SELECT", None, 0, 0), "");
        assert!(render("SELECT", None, 1, 99).ends_with("|       ^\n"));
    }
}
