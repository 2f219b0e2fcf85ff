//! What a topic's definition asks of its decoder: looked at once, before anything is read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use drumline_proto::v1::{Decode, SchemaRegistry, TopicDefinition};
use tokio::runtime::Handle;

use super::avro::{Avro, AvroPlan};
use super::beside::{Beside, Bytes, Wanted};
use super::csv::{Csv, Dialect};
use super::debezium::{self, ChangedRows, Changes};
use super::flat::Json;
use super::protobuf::{Protobuf, ProtobufPlan};
use super::raw::Raw;
use super::wire::{self, Unknown, Unwrapped};
use super::{Decoder, Format, Tombstones};
use crate::registry::{Language, Registered, Registry, Schemas};
use crate::schema::{self, Declared};
use crate::{Error, Result};

/// How one topic's records become columns.
#[derive(Debug)]
pub(crate) struct Decoding {
    topic: String,
    kind: Kind,
    envelope: bool,
    keys: Vec<String>,
    /// Where fields that nobody declared become columns: those that do not.
    evolve: Option<Vec<String>>,
    wanted: Wanted,
    tombstones: Tombstones,
    input: SchemaRef,
    schema_id: i32,
    registry: Option<Arc<Registry>>,
}

#[derive(Debug)]
enum Kind {
    Json(Vec<Declared>),
    JsonSchema(Vec<Declared>),
    Csv {
        fields: Vec<Declared>,
        columns: Vec<String>,
        dialect: Dialect,
    },
    Raw(Declared),
    Avro(Box<AvroPlan>, Unknown),
    Protobuf(Box<ProtobufPlan>, Unknown),
}

/// One definition's topic while it is looked at.
struct Asked<'a> {
    index: usize,
    topic: &'a TopicDefinition,
    decode: Decode,
}

impl Asked<'_> {
    fn wrong<T>(&self, key: &str, reason: String) -> Result<T> {
        Err(Error::Definition {
            key: format!("topic[{}].{key}", self.index),
            reason: format!("topic {}: {reason}", self.topic.label()),
        })
    }

    /// Refuses options that the format does not have.
    fn only(&self, format: &str, accepted: &[&str]) -> Result<()> {
        let decode = &self.decode;
        let set = [
            ("delimiter", !decode.delimiter.is_empty()),
            ("quote", !decode.quote.is_empty()),
            ("null", !decode.null_text.is_empty()),
            ("columns", !decode.columns.is_empty()),
            ("subject", !decode.subject.is_empty()),
            ("unknown_schema", !decode.unknown_schema.is_empty()),
            ("message", !decode.message.is_empty()),
            ("envelope", !decode.envelope.is_empty()),
            ("evolve", decode.evolve),
        ];
        match set
            .iter()
            .find(|(key, set)| *set && !accepted.contains(key))
        {
            Some((key, _)) => self.wrong(
                &format!("decode.{key}"),
                format!("{key} is nothing that {format} has; leave it out"),
            ),
            None => Ok(()),
        }
    }

    fn fields(&self) -> Result<Vec<Declared>> {
        let fields = schema::declared(self.index, self.topic)?;
        if fields.is_empty() && !self.decode.evolve {
            return self.wrong(
                "schema",
                "declares no fields; give schema = { name = \"type\" }".to_owned(),
            );
        }
        if let Some(at) = fields
            .iter()
            .position(|field| field.data_type == DataType::Binary)
        {
            return self.wrong(
                &format!("schema[{at}].type"),
                format!(
                    "field {} is binary, which raw, avro and protobuf alone can be; use varchar",
                    fields[at].name
                ),
            );
        }
        Ok(fields)
    }

    fn character(&self, key: &str, text: &str, default: char) -> Result<char> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (None, _) => Ok(default),
            (Some(one), None) if one != '\n' && one != '\r' => Ok(one),
            _ => self.wrong(
                &format!("decode.{key}"),
                format!("{key} {text:?} is not one character; use one such as \";\""),
            ),
        }
    }

    fn csv(&self) -> Result<Kind> {
        let fields = self.fields()?;
        let delimiter = self.character("delimiter", &self.decode.delimiter, ',')?;
        let quote = match self.decode.quote.as_str() {
            "none" => None,
            text => Some(self.character("quote", text, '"')?),
        };
        if quote == Some(delimiter) {
            return self.wrong(
                "decode.quote",
                "delimiter and quote are the same; change one".to_owned(),
            );
        }
        let columns = self.decode.columns.clone();
        let missing = fields
            .iter()
            .find(|field| !columns.is_empty() && !columns.contains(&field.name));
        if let Some(field) = missing {
            return self.wrong(
                "decode.columns",
                format!(
                    "field {} of the schema is none of the columns ({}); add it in its place",
                    field.name,
                    columns.join(", ")
                ),
            );
        }
        Ok(Kind::Csv {
            fields,
            columns,
            dialect: Dialect {
                delimiter,
                quote,
                null: self.decode.null_text.clone(),
            },
        })
    }

    fn raw(&self) -> Result<Kind> {
        let mut fields = schema::declared(self.index, self.topic)?;
        match (fields.pop(), fields.is_empty()) {
            (None, _) => Ok(Kind::Raw(Declared {
                name: "value".to_owned(),
                sql_type: "binary".to_owned(),
                data_type: DataType::Binary,
                required: false,
            })),
            (Some(field), true) if matches!(field.data_type, DataType::Binary | DataType::Utf8) => {
                Ok(Kind::Raw(field))
            }
            _ => self.wrong(
                "schema",
                "raw takes one field, of type binary or varchar; leave the schema out for value = \"binary\""
                    .to_owned(),
            ),
        }
    }

    /// The schema that makes the columns: the one that was chosen when the stream was applied, or the
    /// newest one of the subject.
    async fn registered(
        &self,
        registry: Option<&Arc<Registry>>,
        language: Language,
    ) -> Result<(Arc<Registry>, Arc<Registered>)> {
        let Some(registry) = registry else {
            return Err(Error::Definition {
                key: "registry".to_owned(),
                reason: format!(
                    "topic {} is decoded as {}, which needs a schema registry; add [registry] with its url",
                    self.topic.label(),
                    self.decode.format
                ),
            });
        };
        let registered = match self.decode.schema_id {
            0 => {
                let subject = match self.decode.subject.as_str() {
                    "" if self.topic.topic.is_empty() => {
                        return self.wrong(
                            "decode.subject",
                            "several topics have no subject of their own; name one with subject"
                                .to_owned(),
                        );
                    }
                    "" => format!("{}-value", self.topic.topic),
                    subject => subject.to_owned(),
                };
                registry.newest(&subject).await?
            }
            id => registry.schema(id).await?,
        };
        if registered.language != language {
            return self.wrong(
                "decode.format",
                format!(
                    "schema {} is one in {}, not in {}; change the format",
                    registered.id,
                    registered.language.name(),
                    language.name()
                ),
            );
        }
        Ok((Arc::clone(registry), registered))
    }

    fn unknown(&self) -> Result<Unknown> {
        match self.decode.unknown_schema.as_str() {
            "" | "wait" => Ok(Unknown::Wait),
            "dead_letter" => Ok(Unknown::DeadLetter),
            other => self.wrong(
                "decode.unknown_schema",
                format!("\"{other}\" is not accepted; use wait or dead_letter"),
            ),
        }
    }

    fn bytes(&self, key: &str, text: &str) -> Result<Option<Bytes>> {
        match text {
            "" => Ok(None),
            "binary" => Ok(Some(Bytes::Binary)),
            "text" => Ok(Some(Bytes::Text)),
            other => self.wrong(
                key,
                format!("\"{other}\" is not accepted; use text or binary"),
            ),
        }
    }

    fn tombstones(&self, default: Tombstones) -> Result<Tombstones> {
        match self.decode.tombstones.as_str() {
            "" => Ok(default),
            "dead_letter" => Ok(Tombstones::DeadLetter),
            "skip" => Ok(Tombstones::Skip),
            "row" => Ok(Tombstones::Row),
            other => self.wrong(
                "decode.tombstones",
                format!("\"{other}\" is not accepted; use dead_letter, skip or row"),
            ),
        }
    }
}

/// The registry of a definition, if it has one.
pub(crate) fn registry(definition: Option<&SchemaRegistry>) -> Result<Option<Arc<Registry>>> {
    definition
        .map(|registry| Registry::new(registry).map(Arc::new))
        .transpose()
}

impl Decoding {
    /// Looks at what `topic`, which stands at `index` of its stream, wants; asks the registry for the
    /// schema that makes the columns.
    pub(crate) async fn resolve(
        index: usize,
        topic: &TopicDefinition,
        registry: Option<&Arc<Registry>>,
    ) -> Result<Self> {
        let decode = topic.decode.clone().unwrap_or_default();
        let asked = Asked {
            index,
            topic,
            decode,
        };
        let format = match asked.decode.format.as_str() {
            "" => "json",
            format => format,
        };
        let envelope = match asked.decode.envelope.as_str() {
            "" => false,
            "debezium" => true,
            other => {
                return asked.wrong(
                    "decode.envelope",
                    format!("\"{other}\" is not accepted; use debezium, or leave it out"),
                );
            }
        };
        let mut used = None;
        let kind = match format {
            "json" | "json_schema" if envelope && asked.decode.evolve => {
                return asked.wrong(
                    "decode.evolve",
                    "the columns of changes are declared; leave evolve out".to_owned(),
                );
            }
            "json" => {
                asked.only(format, &["envelope", "evolve"])?;
                Kind::Json(asked.fields()?)
            }
            "json_schema" => {
                asked.only(format, &["envelope", "evolve"])?;
                Kind::JsonSchema(asked.fields()?)
            }
            "csv" => {
                asked.only(format, &["delimiter", "quote", "null", "columns"])?;
                asked.csv()?
            }
            "raw" => {
                asked.only(format, &[])?;
                asked.raw()?
            }
            "avro" => {
                asked.only(format, &["subject", "unknown_schema", "envelope"])?;
                let declared = schema::declared(index, topic)?;
                let (registry, registered) = asked.registered(registry, Language::Avro).await?;
                used = Some((registry, registered.id));
                let plan = AvroPlan::new(&registered, declared, envelope)
                    .or_else(|(key, reason)| asked.wrong(&key, reason))?;
                Kind::Avro(Box::new(plan), asked.unknown()?)
            }
            "protobuf" => {
                asked.only(format, &["subject", "unknown_schema", "message"])?;
                let declared = schema::declared(index, topic)?;
                let (registry, registered) = asked.registered(registry, Language::Protobuf).await?;
                used = Some((registry, registered.id));
                let plan = ProtobufPlan::new(&registered, &asked.decode.message, declared)
                    .or_else(|(key, reason)| asked.wrong(&key, reason))?;
                Kind::Protobuf(Box::new(plan), asked.unknown()?)
            }
            other => {
                return asked.wrong(
                    "decode.format",
                    format!(
                        "\"{other}\" is no format; use json, csv, raw, avro, protobuf or json_schema"
                    ),
                );
            }
        };
        let wanted = Wanted {
            key: asked.bytes("key_column", &topic.key_column)?,
            headers: asked.bytes("headers_column", &topic.headers_column)?,
            timestamp: topic.timestamp_column,
            // A change says so itself.
            op: !topic.latest_table.is_empty() && !envelope,
        };
        let tombstones = asked.tombstones(match kind {
            // A change that deletes came before it and says the same.
            _ if envelope => Tombstones::Skip,
            _ if wanted.op => Tombstones::Row,
            Kind::Raw(_) => Tombstones::Row,
            _ => Tombstones::DeadLetter,
        })?;
        let value = match &kind {
            Kind::Json(fields) | Kind::JsonSchema(fields) | Kind::Csv { fields, .. } => {
                schema::input(fields)
            }
            Kind::Raw(field) => schema::input(std::slice::from_ref(field)),
            Kind::Avro(plan, _) => plan.schema(),
            Kind::Protobuf(plan, _) => plan.schema(),
        };
        let value = match (envelope, &kind) {
            (false, _) => value,
            (true, Kind::Avro(..)) => debezium::row_schema(&value)
                .map(|row| debezium::with_change(&row))
                .or_else(|reason| asked.wrong("decode.envelope", reason))?,
            (true, _) => debezium::with_change(&value),
        };
        let beside = wanted.fields();
        if let Some(twice) = beside
            .iter()
            .find(|field| value.column_with_name(field.name()).is_some())
        {
            return asked.wrong(
                "schema",
                format!(
                    "the column {} would be there twice; leave one out",
                    twice.name()
                ),
            );
        }
        let fields: Vec<_> = value.fields().iter().cloned().chain(beside).collect();
        let (registry, schema_id) = used.unzip();
        Ok(Self {
            topic: topic.label(),
            kind,
            envelope,
            keys: topic.keys.clone(),
            evolve: asked.decode.evolve.then_some(asked.decode.left_out),
            wanted,
            tombstones,
            input: Arc::new(Schema::new(fields)),
            schema_id: schema_id.unwrap_or_default(),
            registry,
        })
    }

    /// The relation `input`: columns of the value, then those beside it.
    pub(crate) fn input(&self) -> SchemaRef {
        Arc::clone(&self.input)
    }

    /// The registered schema that makes the columns; 0 where none does.
    pub(crate) fn schema_id(&self) -> i32 {
        self.schema_id
    }

    /// Has no record left out: a null value that a stream skips is a row too, and nothing waits for a schema
    /// that the registry does not have.
    pub(crate) fn every_record(mut self) -> Self {
        if self.tombstones == Tombstones::Skip {
            self.tombstones = Tombstones::Row;
        }
        if let Kind::Avro(_, unknown) | Kind::Protobuf(_, unknown) = &mut self.kind {
            *unknown = Unknown::DeadLetter;
        }
        self
    }

    /// The decoder; `runtime` is where it asks the registry.
    pub(crate) fn decoder(self, max_record_bytes: usize, runtime: &Handle) -> Result<Decoder> {
        let schemas = self
            .registry
            .map(|registry| Schemas::new(registry, runtime.clone()))
            .ok_or_else(|| Error::Bug {
                context: format!("topic {} is decoded without a registry", self.topic),
            });
        let json = |fields| -> Result<Json> {
            let json = Json::new(fields)?;
            Ok(match &self.evolve {
                Some(left_out) => json.evolving(left_out),
                None => json,
            })
        };
        let format: Box<dyn Format> = match self.kind {
            Kind::Json(fields) if self.envelope => Box::new(Changes::new(fields, &self.keys)?),
            Kind::Json(fields) => Box::new(json(fields)?),
            Kind::JsonSchema(fields) if self.envelope => {
                Box::new(Unwrapped::new(Changes::new(fields, &self.keys)?))
            }
            Kind::JsonSchema(fields) => Box::new(Unwrapped::new(json(fields)?)),
            Kind::Csv {
                fields,
                columns,
                dialect,
            } => Box::new(Csv::new(fields, &columns, dialect)?),
            Kind::Raw(field) => Box::new(Raw::new(field)?),
            Kind::Avro(plan, unknown) => {
                let avro = Avro::new(*plan, wire::Framing::new(schemas?, Language::Avro, unknown));
                match self.envelope {
                    true => Box::new(ChangedRows::new(avro)),
                    false => Box::new(avro),
                }
            }
            Kind::Protobuf(plan, unknown) => Box::new(Protobuf::new(
                *plan,
                wire::Framing::new(schemas?, Language::Protobuf, unknown),
            )?),
        };
        Ok(Decoder::new(
            &self.topic,
            format,
            Beside::new(self.wanted),
            self.tombstones,
            max_record_bytes,
        ))
    }
}
