//! A table of the file, read key by key, so that every complaint knows its place.

use std::collections::HashMap;

use drumline_proto::{kafka, v1};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Environment, place, value};
use crate::{Error, Result};

/// How a setting is kept out of the definition.
const ELSEWHERE: &str =
    "\"${env:KAFKA_…}\", \"${file:/run/secrets/…}\", { env = \"…\" }, { file = \"…\" }";

/// What all sections of a file share.
pub(super) struct File<'a> {
    pub(super) path: String,
    pub(super) text: &'a str,
    pub(super) environment: Environment<'a>,
}

impl File<'_> {
    /// The line, from 1, of a place in the text.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(at)
            .filter(|byte| *byte == b'\n')
            .count()
    }
}

/// One table; `place` is what stands before its keys in messages, such as `topic[1].`.
pub(super) struct Section<'a> {
    file: &'a File<'a>,
    place: String,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn new(file: &'a File<'a>, place: String, table: &'a DeTable<'a>) -> Section<'a> {
        Section { file, place, table }
    }

    /// Refuses keys that nobody reads.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        for (key, _) in self.in_order() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let line = self.file.line(key.span().start);
                let accepted = known.join(", ");
                return Err(self.wrong_at(
                    &self.path(name),
                    Some(line),
                    "unknown key".into(),
                    Some(&accepted),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A text, with environment variables put in.
    pub(super) fn string(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = self.text(key, value)?;
        if text.trim().is_empty() {
            return Err(self.wrong(key, "is empty".into(), None));
        }
        Ok(Some(text))
    }

    /// A text in which white space counts; empty where there is none.
    pub(super) fn verbatim(&self, key: &str) -> Result<String> {
        self.get(key)
            .map_or_else(|| Ok(String::new()), |value| self.text(key, value))
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| matches!(value.get_ref(), DeValue::String(_)))
    }

    /// A text that names the stream.
    pub(super) fn name(&self, key: &str) -> Result<Option<String>> {
        self.checked(key, value::is_name, value::NAME)
    }

    /// A text that names a table.
    pub(super) fn table_name(&self, key: &str) -> Result<Option<String>> {
        self.checked(key, value::is_table_name, value::TABLE_NAME)
    }

    /// A folder below the lake's root; empty where there is none.
    pub(super) fn location(&self, key: &str) -> Result<String> {
        Ok(self
            .checked(key, value::is_folder, value::FOLDER)?
            .unwrap_or_default())
    }

    /// `host:port`, comma separated.
    pub(super) fn brokers(&self, key: &str) -> Result<String> {
        self.checked(key, value::is_broker_list, value::BROKERS)?
            .ok_or_else(|| self.missing(key))
    }

    pub(super) fn choice(
        &self,
        key: &str,
        of: &'static [&'static str],
    ) -> Result<Option<&'static str>> {
        let Some(text) = self.string(key)? else {
            return Ok(None);
        };
        match of.iter().find(|choice| **choice == text) {
            Some(choice) => Ok(Some(choice)),
            None => Err(self.wrong(
                key,
                format!("\"{text}\" is not accepted"),
                Some(&of.join(", ")),
            )),
        }
    }

    /// A duration in milliseconds.
    pub(super) fn duration(&self, key: &str, default: &str) -> Result<u64> {
        let text = self.string(key)?.unwrap_or_else(|| default.to_owned());
        value::millis(&text).map_err(|reason| self.wrong(key, reason, Some(value::DURATION)))
    }

    /// A size in bytes.
    pub(super) fn bytes(&self, key: &str, default: &str) -> Result<u64> {
        let text = self.string(key)?.unwrap_or_else(|| default.to_owned());
        value::bytes(&text).map_err(|reason| self.wrong(key, reason, Some(value::SIZE)))
    }

    /// A number from 1 on.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            DeValue::Integer(integer) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            _ => None,
        };
        match number.filter(|number| *number > 0) {
            Some(number) => Ok(Some(number)),
            None => {
                let reason = match value.get_ref() {
                    DeValue::Integer(integer) => format!("{} is not accepted", integer.as_str()),
                    other => format!("is {}", value::kind(other)),
                };
                Err(self.wrong(key, reason, Some("a number from 1 on")))
            }
        }
    }

    /// A place in topics.
    pub(super) fn place(&self, key: &str) -> Result<Option<v1::Position>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::String(text) => value::substitute(text, self.file.environment, false),
            other => Err(format!("is {}", value::kind(other))),
        };
        place::of_file(value, text)
            .map(Some)
            .map_err(|reason| self.wrong(key, reason, Some(place::PLACES)))
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(boolean) => Ok(Some(*boolean)),
            other => Err(self.wrong(
                key,
                format!("is {}", value::kind(other)),
                Some("true, false"),
            )),
        }
    }

    /// A list of texts; empty where there is none.
    pub(super) fn strings(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.wrong(
                key,
                format!("is {}", value::kind(value.get_ref())),
                Some("a list of texts"),
            ));
        };
        array.iter().map(|value| self.text(key, value)).collect()
    }

    /// Settings of librdkafka: texts, numbers and booleans as they are written, and `{ env = "NAME" }` and
    /// `{ file = "PATH" }` for what workers open. A secret is one of these two.
    pub(super) fn settings(&self, key: &str) -> Result<HashMap<String, String>> {
        let Some(section) = self.section(key)? else {
            return Ok(HashMap::new());
        };
        section
            .in_order()
            .into_iter()
            .map(|(name, value)| {
                let name = name.get_ref().as_ref();
                let text = match value.get_ref() {
                    DeValue::Boolean(boolean) => boolean.to_string(),
                    DeValue::Integer(integer) => integer.as_str().to_owned(),
                    DeValue::Table(table) => section.elsewhere(name, table)?,
                    _ => section.text_with(name, value, true)?,
                };
                if kafka::is_secret(name) && !kafka::is_elsewhere(&text) {
                    let reason = "is a secret, and the definition is kept in the lake in clear";
                    return Err(section.wrong(name, reason.to_owned(), Some(ELSEWHERE)));
                }
                Ok((name.to_owned(), text))
            })
            .collect()
    }

    /// `{ env = "NAME" }` or `{ file = "PATH" }`, as definitions have it.
    fn elsewhere(&self, key: &str, table: &DeTable<'_>) -> Result<String> {
        let mut entries = table.iter();
        let (Some((kind, place)), None) = (entries.next(), entries.next()) else {
            return Err(self.wrong(key, "names no one place".into(), Some(ELSEWHERE)));
        };
        let kind = kind.get_ref().as_ref();
        match place.get_ref() {
            DeValue::String(place) if matches!(kind, "env" | "file") && !place.contains('}') => {
                Ok(format!("${{{kind}:{place}}}"))
            }
            _ => Err(self.wrong(key, "names no place".into(), Some(ELSEWHERE))),
        }
    }

    /// A topic's fields, in the order of the file.
    pub(super) fn fields(&self, key: &str) -> Result<Option<Vec<v1::FieldDefinition>>> {
        let Some(section) = self.section(key)? else {
            return Ok(None);
        };
        let fields = section.in_order().into_iter().map(|(name, value)| {
            let name = name.get_ref().as_ref();
            let r#type = section.text(name, value)?;
            if !value::is_type(&r#type) {
                return Err(section.wrong(
                    name,
                    format!("\"{type}\" is not a type"),
                    Some(value::TYPES),
                ));
            }
            Ok(v1::FieldDefinition {
                name: name.to_owned(),
                r#type,
                required: false,
            })
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        if fields.is_empty() {
            return Err(self.wrong(
                key,
                "has no fields".into(),
                Some("name = \"type\", for each field"),
            ));
        }
        Ok(Some(fields))
    }

    /// The tables `[[key]]`, in the order of the file; none where there are none.
    pub(super) fn tables(&self, key: &str) -> Result<Vec<Section<'a>>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let sections = value.get_ref().as_array().map(|array| {
            let tables = array.iter().enumerate().map(|(at, item)| {
                let table = item.get_ref().as_table()?;
                Some(Section::new(
                    self.file,
                    format!("{}[{at}].", self.path(key)),
                    table,
                ))
            });
            tables.collect::<Option<Vec<_>>>()
        });
        sections.flatten().ok_or_else(|| {
            let reason = format!("is {}", value::kind(value.get_ref()));
            self.wrong(key, reason, Some(&format!("a table [[{key}]] for each")))
        })
    }

    pub(super) fn missing(&self, key: &str) -> Error {
        let line = (!self.place.is_empty())
            .then(|| self.table.keys().map(|key| key.span().start).min())
            .flatten()
            .map(|at| self.file.line(at));
        self.wrong_at(&self.path(key), line, "is missing".into(), None)
    }

    pub(super) fn wrong(&self, key: &str, reason: String, accepted: Option<&str>) -> Error {
        self.wrong_at(&self.path(key), self.line_of(key), reason, accepted)
    }

    fn wrong_at(
        &self,
        key: &str,
        line: Option<usize>,
        reason: String,
        accepted: Option<&str>,
    ) -> Error {
        let file = self.file.path.clone();
        Error::StreamFile {
            file,
            line,
            key: key.to_owned(),
            reason,
            accepted: accepted.map(str::to_owned),
        }
    }

    fn line_of(&self, key: &str) -> Option<usize> {
        self.get(key)
            .map(|value| self.file.line(value.span().start))
    }

    fn checked(&self, key: &str, is: fn(&str) -> bool, accepted: &str) -> Result<Option<String>> {
        match self.string(key)? {
            Some(text) if !is(&text) => {
                Err(self.wrong(key, format!("\"{text}\" is not accepted"), Some(accepted)))
            }
            text => Ok(text),
        }
    }

    pub(super) fn section(&self, key: &str) -> Result<Option<Section<'a>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section::new(
                self.file,
                format!("{}.", self.path(key)),
                table,
            ))),
            other => Err(self.wrong(key, format!("is {}", value::kind(other)), Some("a table"))),
        }
    }

    fn text(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String> {
        self.text_with(key, value, false)
    }

    fn text_with(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        opens_elsewhere: bool,
    ) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) => {
                let text = value::substitute(text, self.file.environment, opens_elsewhere);
                text.map_err(|reason| {
                    self.wrong(
                        key,
                        reason,
                        Some("${NAME}, ${NAME:-default}, $${ for a plain ${"),
                    )
                })
            }
            other => Err(self.wrong(
                key,
                format!("is {}", value::kind(other)),
                Some("a text in quotes"),
            )),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// Entries as the file has them; the parser sorts by name.
    fn in_order(
        &self,
    ) -> Vec<(
        &'a Spanned<std::borrow::Cow<'a, str>>,
        &'a Spanned<DeValue<'a>>,
    )> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }
}
