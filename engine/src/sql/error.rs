//! What can be wrong with a statement, always with the place where it is.

use datafusion::common::Span;
use datafusion::sql::sqlparser::tokenizer::Location;
use drumline_lake::ErrorKind;
use std::fmt;

/// A place in the submitted text: line and column, both from 1, columns counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Position {
    /// `None` for the parser's "nowhere" (line 0), which it uses past the end of the text.
    pub(crate) fn of(location: Location) -> Option<Self> {
        let line = u32::try_from(location.line).ok()?;
        let column = u32::try_from(location.column).ok()?;
        (line > 0).then_some(Self { line, column })
    }

    pub(crate) fn of_span(span: &Span) -> Option<Self> {
        Self::of(Location {
            line: span.start.line,
            column: span.start.column,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A statement that cannot be planned as it is written.
///
/// Messages do not repeat the position: whoever shows them has it from [`Error::position`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no SQL.
    #[error("{reason}")]
    Syntax {
        /// What was expected and found.
        reason: String,
        /// Where.
        position: Option<Position>,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The text is larger than [`crate::sql::MAX_SQL_BYTES`].
    #[error("the SQL text has {bytes} bytes, the most that is read at once is {limit}")]
    TooLong {
        /// Size of the text.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Expressions or subqueries are nested deeper than [`crate::sql::MAX_DEPTH`].
    #[error("the statement is nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Where the limit was passed, or where the statement begins.
        position: Option<Position>,
    },
    /// A statement or clause that Drumline will have, and has not yet.
    #[error("{what} is not supported yet")]
    NotYet {
        /// The statement or clause, in capitals as it is written.
        what: &'static str,
        /// Where it stands.
        position: Option<Position>,
        /// What does the same today.
        instead: Option<&'static str>,
    },
    /// A name that nothing has.
    #[error("{kind} `{name}` does not exist")]
    Unknown {
        /// `table`, `column`, `function`, `schema`, `setting`.
        kind: &'static str,
        /// As it was written.
        name: String,
        /// Where it was written.
        position: Option<Position>,
        /// Up to three names that do exist and look like it, nearest first.
        candidates: Vec<String>,
    },
    /// A statement that is SQL, and does not fit the tables or types it names.
    #[error("{reason}")]
    Invalid {
        /// What does not fit.
        reason: String,
        /// Where, when that is known.
        position: Option<Position>,
        /// The next step.
        hint: Option<String>,
    },
    /// A view's own text no longer fits the tables below it.
    #[error("view `{view}` cannot be read: {source}")]
    View {
        /// Name of the view.
        view: String,
        /// What is wrong inside; its position is within the view's text.
        source: Box<Error>,
    },
    /// The planner broke.
    #[error("the planner failed: {reason}")]
    Planner {
        /// DataFusion's words.
        reason: String,
    },
}

impl Error {
    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Planner { .. } => ErrorKind::Bug,
            Self::View { source, .. } => source.kind(),
            _ => ErrorKind::User,
        }
    }

    /// Where in the submitted text, when that is known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Syntax { position, .. }
            | Self::TooDeep { position, .. }
            | Self::NotYet { position, .. }
            | Self::Unknown { position, .. }
            | Self::Invalid { position, .. } => *position,
            Self::TooLong { .. } | Self::View { .. } | Self::Planner { .. } => None,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { suggestion, .. } => suggestion
                .as_ref()
                .map(|word| format!("did you mean {word}?")),
            Self::TooLong { .. } => Some("split the script into several".to_owned()),
            Self::TooDeep { .. } => Some(
                "name inner parts in a WITH clause or a view, or use IN (…) for long chains of OR"
                    .to_owned(),
            ),
            Self::NotYet { instead, .. } => instead.map(str::to_owned),
            Self::Unknown {
                kind, candidates, ..
            } => match candidates.as_slice() {
                [] if *kind == "table" => Some("SHOW TABLES lists what there is".to_owned()),
                [] => None,
                [one] => Some(format!("did you mean `{one}`?")),
                many => {
                    let names: Vec<_> = many.iter().map(|name| format!("`{name}`")).collect();
                    Some(format!("did you mean one of {}?", names.join(", ")))
                }
            },
            Self::Invalid { hint, .. } => hint.clone(),
            Self::View { source, .. } => source
                .hint()
                .or_else(|| Some("CREATE OR REPLACE VIEW gives it a new text".to_owned())),
            Self::Planner { .. } => None,
        }
    }
}
