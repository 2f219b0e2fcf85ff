//! Rows of declared scalar fields: what JSON and CSV have in common.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};

use super::found::{Finder, Found};
use super::json::{self, Names, Slot};
use super::value::{self, Cell, Column};
use super::{Format, Origins, Rows};
use crate::Result;
use crate::schema::{self, Declared};

/// Growing columns of declared fields. A row goes into all of them, or into none.
#[derive(Debug)]
pub(super) struct Flat {
    pub(super) fields: Vec<Declared>,
    schema: SchemaRef,
    // Which fields take any JSON value, as its text.
    is_json: Vec<bool>,
    // What is required of a row that was deleted: what says which it is.
    is_key: Vec<bool>,
    is_deleted: bool,
    cells: Vec<Cell>,
    columns: Vec<Column>,
}

impl Flat {
    pub(super) fn new(fields: Vec<Declared>) -> Result<Self> {
        Ok(Self {
            schema: schema::input(&fields),
            is_json: fields.iter().map(Declared::is_json).collect(),
            is_key: vec![false; fields.len()],
            is_deleted: false,
            cells: vec![Cell::Null; fields.len()],
            columns: fields
                .iter()
                .map(|field| Column::new(&field.data_type))
                .collect::<Result<_>>()?,
            fields,
        })
    }

    /// Appends a row; `slots` has one entry per field. `found` says what stands where a value does not fit.
    pub(super) fn take(
        &mut self,
        slots: &[Slot],
        text: &str,
        scratch: &str,
        found: impl Fn(Slot, &DataType) -> String,
    ) -> Result<(), String> {
        let kinds = self.is_json.iter().zip(&self.is_key);
        let places = self.fields.iter().zip(kinds).zip(slots);
        for (((field, (is_json, is_key)), slot), cell) in places.zip(&mut self.cells) {
            let is_required = field.required && (*is_key || !self.is_deleted);
            if is_required && matches!(slot, Slot::Missing | Slot::Null) {
                let what = if *slot == Slot::Null {
                    "null"
                } else {
                    "missing"
                };
                return Err(format!("required field {:?} is {what}", field.name));
            }
            if *is_json {
                *cell = value::json_text(*slot);
                continue;
            }
            *cell = match value::cell(*slot, &field.data_type, text, scratch) {
                Some(cell) => cell,
                None => {
                    return Err(format!(
                        "field {:?}: expected {}, found {}",
                        field.name,
                        field.sql_type,
                        found(*slot, &field.data_type)
                    ));
                }
            };
        }
        for (column, cell) in self.columns.iter_mut().zip(&self.cells) {
            column.append(*cell, text, scratch);
        }
        Ok(())
    }

    pub(super) fn take_null(&mut self) {
        for column in &mut self.columns {
            column.append(Cell::Null, "", "");
        }
    }

    pub(super) fn finish(&mut self) -> Rows {
        Rows {
            schema: Arc::clone(&self.schema),
            columns: self.columns.iter_mut().map(Column::finish).collect(),
            refused: Vec::new(),
            order: None,
        }
    }
}

/// JSON objects, by declared schema.
#[derive(Debug)]
pub(super) struct Json {
    flat: Flat,
    names: Names,
    // Of the record at hand.
    slots: Vec<Slot>,
    scratch: String,
    // Where fields that nobody declared become columns.
    finder: Option<Finder>,
}

impl Json {
    pub(super) fn new(fields: Vec<Declared>) -> Result<Self> {
        Ok(Self {
            names: Names::new(fields.iter().map(|field| field.name.clone())),
            slots: vec![Slot::Missing; fields.len()],
            flat: Flat::new(fields)?,
            scratch: String::new(),
            finder: None,
        })
    }

    /// Looks for fields that need a column, but for those.
    pub(super) fn evolving(mut self, left_out: &[String]) -> Self {
        self.finder = Some(Finder::new(&self.flat.fields, left_out));
        self
    }

    /// These fields say which row one is.
    pub(super) fn with_keys(mut self, keys: &[String]) -> Self {
        let fields = self.flat.fields.iter();
        self.flat.is_key = fields.map(|field| keys.contains(&field.name)).collect();
        self
    }

    /// Takes what a source tells of a row that was deleted: often its key alone, so no more is required.
    pub(super) fn take_deleted(&mut self, value: &[u8]) -> Result<(), String> {
        self.flat.is_deleted = true;
        let taken = self.take(value);
        self.flat.is_deleted = false;
        taken
    }

    pub(super) fn columns(&mut self) -> Vec<ArrayRef> {
        self.flat.finish().columns
    }
}

impl Format for Json {
    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value)
            .map_err(|error| format!("invalid utf-8 at byte {}", error.valid_up_to()))?;
        json::scan(text, &mut self.names, &mut self.slots, &mut self.scratch).map_err(
            |malformed| {
                format!(
                    "malformed json at byte {}: {}",
                    malformed.at, malformed.what
                )
            },
        )?;
        let found = |slot, declared: &DataType| value::found(slot, declared, text).to_owned();
        self.flat.take(&self.slots, text, &self.scratch, found)
    }

    fn take_null(&mut self) {
        self.flat.take_null();
    }

    fn finish(&mut self, _: &Origins) -> Result<Rows> {
        Ok(self.flat.finish())
    }

    fn found(&mut self, value: &[u8]) -> Found {
        let finder = self.finder.as_mut();
        finder.map_or_else(Found::new, |finder| finder.look(value))
    }
}
