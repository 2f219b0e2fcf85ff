//! Protobuf messages with the id of the schema they were written in, and which of its messages they are.
//!
//! Messages are read by the descriptor that makes the columns: fields have numbers, so records of older
//! and newer versions are read by the same one, and fields it does not know are left out. The writer's
//! own schema says which message it is. Types, as tables have them: [`column`].

mod column;
mod compile;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use prost_reflect::{DynamicMessage, MessageDescriptor};

use self::column::Column;
use super::wire::Framing;
use super::{Format, Origins, Rows};
use crate::Result;
use crate::registry::Registered;
use crate::schema::{self, Declared};

/// The message that every record is read as, and what of it is wanted.
#[derive(Debug)]
pub(crate) struct ProtobufPlan {
    message: MessageDescriptor,
    fields: Vec<Field>,
    declared: Vec<Declared>,
}

impl ProtobufPlan {
    /// Fails with the key of the topic that is to blame, and why.
    pub(super) fn new(
        registered: &Registered,
        wanted: &str,
        declared: Vec<Declared>,
    ) -> std::result::Result<Self, (String, String)> {
        let file = compile::compiled(registered).map_err(|reason| {
            let reason = format!("schema {} cannot be used: {reason}", registered.id);
            ("decode.format".to_owned(), reason)
        })?;
        let names = || {
            let names: Vec<String> = file
                .messages()
                .map(|it| it.full_name().to_owned())
                .collect();
            names.join(", ")
        };
        let message = match wanted {
            "" => file.messages().next(),
            name => file.parent_pool().get_message_by_name(name),
        };
        let message = message.ok_or_else(|| {
            let reason = format!(
                "message {wanted} is not in schema {}; it has {}",
                registered.id,
                names()
            );
            ("decode.message".to_owned(), reason)
        })?;
        let natural: Vec<Field> = message
            .fields()
            .map(|it| column::arrow_field(&it))
            .collect();
        let fields = match declared.as_slice() {
            [] => natural,
            declared => {
                let mut fields = Vec::new();
                for field in declared {
                    let own = natural.iter().find(|own| own.name() == &field.name);
                    let Some(own) = own else {
                        let known: Vec<&str> =
                            natural.iter().map(|own| own.name().as_str()).collect();
                        let reason = format!(
                            "field {} is not in message {}; it has {}",
                            field.name,
                            message.full_name(),
                            known.join(", ")
                        );
                        return Err(("schema".to_owned(), reason));
                    };
                    if *own.data_type() != field.data_type {
                        let reason = format!(
                            "field {} of message {} is of another type than {}: it becomes {}; change it by the transform",
                            field.name,
                            message.full_name(),
                            field.sql_type,
                            own.data_type()
                        );
                        return Err(("schema".to_owned(), reason));
                    }
                    fields.push(own.clone());
                }
                fields
            }
        };
        Ok(Self {
            message,
            fields,
            declared,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        match self.declared.as_slice() {
            [] => Arc::new(Schema::new(self.fields.clone())),
            declared => schema::input(declared),
        }
    }
}

#[derive(Debug)]
pub(super) struct Protobuf {
    message: MessageDescriptor,
    schema: SchemaRef,
    columns: Vec<Column>,
    required: Vec<bool>,
    framing: Framing,
    // Full names of the messages of each version, by their place; or why there are none.
    versions: HashMap<i32, std::result::Result<compile::Messages, String>>,
}

impl Protobuf {
    pub(super) fn new(plan: ProtobufPlan, framing: Framing) -> Result<Self> {
        let schema = plan.schema();
        let ProtobufPlan {
            message,
            fields,
            declared,
        } = plan;
        let columns = fields
            .iter()
            .filter_map(|field| message.get_field_by_name(field.name()))
            .map(|field| Column::of_field(&field))
            .collect();
        let required = fields
            .iter()
            .map(|field| {
                declared
                    .iter()
                    .any(|it| it.required && it.name == *field.name())
            })
            .collect();
        Ok(Self {
            message,
            schema,
            columns,
            required,
            framing,
            versions: HashMap::new(),
        })
    }

    fn message(&mut self, value: &[u8]) -> std::result::Result<DynamicMessage, String> {
        let (registered, payload) = self.framing.find(value)?;
        let (path, body) = compile::indexes(payload)
            .ok_or("malformed protobuf: the place of the message is cut off")?;
        let messages = self
            .versions
            .entry(registered.id)
            .or_insert_with(|| compile::Messages::of(registered));
        let messages = messages
            .as_ref()
            .map_err(|reason| format!("schema {} cannot be used: {reason}", registered.id))?;
        let name = messages
            .name(&path)
            .ok_or_else(|| format!("schema {} has no message at {path:?}", registered.id))?;
        if name != self.message.full_name() {
            return Err(format!(
                "the message is {name}, not {}",
                self.message.full_name()
            ));
        }
        DynamicMessage::decode(self.message.clone(), body)
            .map_err(|error| format!("malformed protobuf: {error}"))
    }
}

impl Format for Protobuf {
    fn waits(&mut self, value: &[u8]) -> Option<String> {
        self.framing.waits(value)
    }

    fn take(&mut self, value: &[u8]) -> std::result::Result<(), String> {
        let message = self.message(value)?;
        for (column, required) in self.columns.iter().zip(&self.required) {
            column.check(&message)?;
            if *required && !column.is_present(&message) {
                return Err(format!("required field {:?} is missing", column.name()));
            }
        }
        for column in &mut self.columns {
            column.take(&message);
        }
        Ok(())
    }

    fn take_null(&mut self) {
        for column in &mut self.columns {
            column.take_null();
        }
    }

    fn finish(&mut self, _: &Origins) -> Result<Rows> {
        let columns: Result<Vec<ArrayRef>> = self.columns.iter_mut().map(Column::finish).collect();
        Ok(Rows {
            schema: Arc::clone(&self.schema),
            columns: columns?,
            refused: Vec::new(),
            order: None,
        })
    }
}

#[cfg(test)]
mod tests;
