//! Names of tables: a schema and a name in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The schema of names that give none.
pub const DEFAULT_SCHEMA: &str = "default";

/// Name of a table, view or external table: unique within the lake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema it lives in.
    pub schema: String,
    /// Its name in there.
    pub name: String,
}

impl TableName {
    /// A name in a schema, as they are (no folding of case).
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// A name in the default schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Self::new(DEFAULT_SCHEMA, name)
    }

    /// Parses `name` or `schema.name` (unquoted, as streams write their targets).
    pub fn parse(text: &str) -> Result<Self> {
        let name = match text.split_once('.') {
            Some((schema, name)) => Self::new(schema, name),
            None => Self::bare(text),
        };
        name.check()?;
        Ok(name)
    }

    /// Refuses names that could not be a folder on every store.
    pub fn check(&self) -> Result<()> {
        check_part(&self.schema)?;
        check_part(&self.name)
    }
}

/// One part of a name: what every store, path and URL takes as it is.
pub(crate) fn check_part(part: &str) -> Result<()> {
    let refuse = |reason| {
        Err(Error::Name {
            name: part.to_owned(),
            reason,
        })
    };
    if part.is_empty() {
        return refuse("it is empty");
    }
    if part.len() > 128 {
        return refuse("it is longer than 128 bytes");
    }
    if part.starts_with('_') && part == "_drumline" {
        return refuse("it is reserved");
    }
    if part
        .chars()
        .any(|c| c.is_control() || matches!(c, '/' | '\\' | '.' | '#' | '?' | '%' | '*' | '"'))
    {
        return refuse(
            "it holds a character that paths or SQL give a meaning (one of / \\ . # ? % * \")",
        );
    }
    Ok(())
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == DEFAULT_SCHEMA {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
        }
    }
}
