//! The value as it is, in one column: bytes or text.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow::datatypes::DataType;

use super::{Format, Origins, Rows};
use crate::schema::{self, Declared};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Raw {
    field: Declared,
    column: Column,
}

#[derive(Debug)]
enum Column {
    Binary(BinaryBuilder),
    Text(StringBuilder),
}

impl Raw {
    pub(super) fn new(field: Declared) -> Result<Self> {
        let column = match field.data_type {
            DataType::Binary => Column::Binary(BinaryBuilder::new()),
            DataType::Utf8 => Column::Text(StringBuilder::new()),
            _ => {
                return Err(Error::Bug {
                    context: format!("a raw value as {}", field.sql_type),
                });
            }
        };
        Ok(Self { field, column })
    }
}

impl Format for Raw {
    fn take(&mut self, value: &[u8]) -> Result<(), String> {
        match &mut self.column {
            Column::Binary(column) => column.append_value(value),
            Column::Text(column) => {
                let text = std::str::from_utf8(value)
                    .map_err(|error| format!("invalid utf-8 at byte {}", error.valid_up_to()))?;
                column.append_value(text);
            }
        }
        Ok(())
    }

    fn take_null(&mut self) {
        match &mut self.column {
            Column::Binary(column) => column.append_null(),
            Column::Text(column) => column.append_null(),
        }
    }

    fn finish(&mut self, _: &Origins) -> Result<Rows> {
        let column: ArrayRef = match &mut self.column {
            Column::Binary(column) => Arc::new(column.finish()),
            Column::Text(column) => Arc::new(column.finish()),
        };
        Ok(Rows {
            schema: schema::input(std::slice::from_ref(&self.field)),
            columns: vec![column],
            refused: Vec::new(),
            order: None,
        })
    }
}
