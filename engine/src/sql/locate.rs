//! From a planner's error to one with a place and candidates.

use super::tokens::{self, lower_first};
use super::{Error, Position};
use datafusion::common::{DataFusionError, SchemaError, Span};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

/// Names a mistyped one could have meant.
pub(crate) struct Names<'a> {
    pub tables: &'a [String],
    pub functions: &'a [String],
}

/// Up to three names near a mistyped one, nearest first. A name that ends in the mistyped one (another
/// schema's table) counts as near.
pub(crate) fn candidates<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let bare = lower.rsplit('.').next().unwrap_or_default();
            let distance = strsim::damerau_levenshtein(&name, &lower)
                .min(strsim::damerau_levenshtein(&name, bare));
            (distance <= limit).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Words a planner's error as one of ours. `text` begins at `begin` in the submitted text.
pub(crate) fn explain(
    error: &DataFusionError,
    text: &str,
    begin: Position,
    names: &Names<'_>,
) -> Error {
    let span = span_of(error);
    let root = error.find_root();
    let find = |name: &str| {
        span.as_ref()
            .and_then(Position::of_span)
            .or_else(|| place_of(name, text, begin))
    };
    match root {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound {
                field,
                valid_fields,
            } => {
                let name = field.flat_name();
                let known: Vec<String> = valid_fields
                    .iter()
                    .map(|field| field.name.clone())
                    .collect();
                let position = place_of(&field.name, text, begin);
                Error::Unknown {
                    kind: "column",
                    position: span.as_ref().and_then(Position::of_span).or(position),
                    candidates: candidates(&field.name, known.iter().map(String::as_str)),
                    name,
                }
            }
            SchemaError::AmbiguousReference { field } => Error::Invalid {
                reason: format!("column `{}` is in several of the tables", field.name),
                position: find(&field.name),
                hint: Some("write the table before it, as in table.column".to_owned()),
            },
            other => invalid(&other.to_string(), span.as_ref()),
        },
        DataFusionError::Internal(reason) => Error::Planner {
            reason: reason.clone(),
        },
        other => {
            let message = other.message();
            if let Some(name) = between(&message, "table '", "' not found") {
                let name = shortened(name);
                Error::Unknown {
                    kind: "table",
                    position: find(name.rsplit('.').next().unwrap_or_default()),
                    candidates: candidates(&name, names.tables.iter().map(String::as_str)),
                    name,
                }
            } else if let Some(name) = between(&message, "Invalid function '", "'") {
                Error::Unknown {
                    kind: "function",
                    position: find(name),
                    candidates: candidates(name, names.functions.iter().map(String::as_str)),
                    name: name.to_owned(),
                }
            } else {
                invalid(&message, span.as_ref())
            }
        }
    }
}

fn invalid(message: &str, span: Option<&Span>) -> Error {
    Error::Invalid {
        reason: lower_first(
            message
                .strip_prefix("This feature is not implemented: ")
                .unwrap_or(message),
        ),
        position: span.and_then(Position::of_span),
        hint: None,
    }
}

fn between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(before)?;
    rest.split_once(after).map(|(name, _)| name)
}

/// Without the catalog, and without the default schema: as people write it.
fn shortened(full: &str) -> String {
    let full = super::as_written(full);
    let name = full.strip_prefix("lake.").unwrap_or(full);
    let default = format!("{}.", drumline_lake::DEFAULT_SCHEMA);
    name.strip_prefix(default.as_str())
        .unwrap_or(name)
        .to_owned()
}

fn span_of(error: &DataFusionError) -> Option<Span> {
    error.diagnostic().and_then(|diagnostic| diagnostic.span)
}

/// Where a name first stands in the text.
fn place_of(name: &str, text: &str, begin: Position) -> Option<Position> {
    let tokens = tokens::tokenize(text).ok()?;
    let found = tokens.iter().find(|token| match &token.token {
        Token::Word(word) => word.value.eq_ignore_ascii_case(name),
        _ => false,
    })?;
    let Location { line, column } = found.span.start;
    let inner = Position::of(Location { line, column })?;
    Some(match inner.line {
        1 => Position {
            line: begin.line,
            column: begin.column + inner.column - 1,
        },
        line => Position {
            line: begin.line + line - 1,
            column: inner.column,
        },
    })
}
