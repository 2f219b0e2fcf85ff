//! CSV: one row per value, its fields in a fixed order (RFC 4180, with a delimiter of choice).

use super::flat::Flat;
use super::json::{Range, Slot};
use super::{Format, Origins, Rows};
use crate::Result;
use crate::schema::Declared;
use arrow::datatypes::DataType;

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub delimiter: char,
    pub quote: Option<char>,
    /// What stands for null where it is not in quotes.
    pub null: String,
}

#[derive(Debug)]
pub(super) struct Csv {
    dialect: Dialect,
    // Names of the fields in their order, and which declared field each one is.
    order: Vec<(String, Option<usize>)>,
    flat: Flat,
    slots: Vec<Slot>,
    scratch: String,
}

/// One field as it stands in the row.
struct Raw {
    range: Range,
    in_scratch: bool,
    quoted: bool,
}

impl Csv {
    /// `columns` names the fields in their order; empty: that of the declaration.
    pub(super) fn new(fields: Vec<Declared>, columns: &[String], dialect: Dialect) -> Result<Self> {
        let order = match columns {
            [] => fields.iter().map(|field| field.name.clone()).collect(),
            names => names.to_vec(),
        };
        let place = |name: String| {
            let declared = fields.iter().position(|field| field.name == name);
            (name, declared)
        };
        Ok(Self {
            dialect,
            order: order.into_iter().map(place).collect(),
            slots: vec![Slot::Missing; fields.len()],
            flat: Flat::new(fields)?,
            scratch: String::new(),
        })
    }

    /// Reads the field at `at`; says where the next one begins, if one follows.
    fn field(&mut self, text: &str, at: usize) -> Result<(Raw, Option<usize>), String> {
        let Dialect {
            delimiter, quote, ..
        } = self.dialect;
        let rest = &text[at..];
        let (raw, end) = match quote.filter(|quote| rest.starts_with(*quote)) {
            Some(quote) => self.quoted(text, at + quote.len_utf8(), quote)?,
            None => {
                let length = rest.find(delimiter).unwrap_or(rest.len());
                if rest[..length].contains(['\n', '\r']) {
                    return Err("malformed csv: more than one row".to_owned());
                }
                let raw = Raw {
                    range: Range::new(at, at + length),
                    in_scratch: false,
                    quoted: false,
                };
                (raw, at + length)
            }
        };
        match text[end..].chars().next() {
            None => Ok((raw, None)),
            Some(next) if next == delimiter => Ok((raw, Some(end + delimiter.len_utf8()))),
            Some(_) => Err(format!(
                "malformed csv at byte {end}: more follows after a closing quote"
            )),
        }
    }

    /// A field whose opening quote ends at `start`, and where it ends. A doubled quote is one of the text.
    fn quoted(&mut self, text: &str, start: usize, quote: char) -> Result<(Raw, usize), String> {
        let (kept, mut from) = (self.scratch.len(), start);
        loop {
            let Some(length) = text[from..].find(quote) else {
                return Err("malformed csv: a quote is not closed".to_owned());
            };
            let after = from + length + quote.len_utf8();
            if text[after..].starts_with(quote) {
                self.scratch.push_str(&text[from..after]);
                from = after + quote.len_utf8();
                continue;
            }
            let raw = if self.scratch.len() == kept && from == start {
                Raw {
                    range: Range::new(start, from + length),
                    in_scratch: false,
                    quoted: true,
                }
            } else {
                self.scratch.push_str(&text[from..from + length]);
                Raw {
                    range: Range::new(kept, self.scratch.len()),
                    in_scratch: true,
                    quoted: true,
                }
            };
            return Ok((raw, after));
        }
    }

    fn slot(&self, raw: &Raw, data_type: &DataType, text: &str) -> Slot {
        let value = raw
            .range
            .of(if raw.in_scratch { &self.scratch } else { text });
        if !raw.quoted && value == self.dialect.null {
            return Slot::Null;
        }
        match data_type {
            _ if raw.in_scratch => Slot::Unescaped(raw.range),
            DataType::Boolean => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => Slot::Bool(true),
                "false" | "f" | "0" => Slot::Bool(false),
                _ => Slot::Plain(raw.range),
            },
            numeric if numeric.is_numeric() => Slot::Number(raw.range),
            _ => Slot::Plain(raw.range),
        }
    }
}

impl Format for Csv {
    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value)
            .map_err(|error| format!("invalid utf-8 at byte {}", error.valid_up_to()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        self.scratch.clear();
        self.slots.fill(Slot::Missing);
        let (mut count, mut at) = (0, Some(0));
        while let Some(start) = at {
            let (raw, next) = self.field(text, start)?;
            if let Some((_, Some(declared))) = self.order.get(count) {
                let declared = *declared;
                let data_type = &self.flat.fields[declared].data_type;
                self.slots[declared] = self.slot(&raw, data_type, text);
            }
            (count, at) = (count + 1, next);
        }
        if count != self.order.len() {
            let names: Vec<&str> = self.order.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!(
                "malformed csv: {count} fields instead of {} ({})",
                names.len(),
                names.join(", ")
            ));
        }
        let scratch = &self.scratch;
        let found = |slot, _: &DataType| match slot {
            Slot::Plain(range) | Slot::Number(range) => format!("{:?}", range.of(text)),
            Slot::Unescaped(range) => format!("{:?}", range.of(scratch)),
            _ => "another value".to_owned(),
        };
        self.flat.take(&self.slots, text, scratch, found)
    }

    fn take_null(&mut self) {
        self.flat.take_null();
    }

    fn finish(&mut self, _: &Origins) -> Result<Rows> {
        Ok(self.flat.finish())
    }
}
