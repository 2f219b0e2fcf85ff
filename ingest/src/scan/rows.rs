//! Records to rows of a statement.
//!
//! Every record of a topic is a row, those too that cannot be decoded: their columns are null, and `_error` says
//! why. Values are decoded only where a column of theirs is wanted. What a stream would write to its table goes
//! through the stream's own decoder and transform, and leaves out what they leave out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampMicrosecondBuilder, new_null_array,
};
use arrow::compute::{cast, concat};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use drumline_proto::v1::{self, TopicRows};
use tokio::runtime::Handle;

use super::parts;
use crate::decode::{Decoder, Decoding, Headers, Letters, Record, registry};
use crate::host::Options;
use crate::lookup::{Lookups, Tables};
use crate::partitioning::{self, Refused};
use crate::schema;
use crate::transform::Transform;
use crate::{Error, Result};

/// A batch has so many records, or so many bytes.
const RECORDS: usize = 8192;
const BYTES: usize = 4 << 20;

/// The value of a topic that no stream decodes.
const TEXT: &str = "value";

/// Columns of every record, after those of its value. A declared field of the same name gives way.
fn places() -> [Field; 7] {
    [
        Field::new("_topic", DataType::Utf8, false),
        Field::new("_partition", DataType::Int32, false),
        Field::new("_offset", DataType::Int64, false),
        Field::new("_timestamp", schema::utc(), true),
        Field::new("_key", DataType::Binary, true),
        Field::new("_value", DataType::Binary, true),
        Field::new("_error", DataType::Utf8, true),
    ]
}

/// All columns that a topic has as a table.
pub(super) async fn schema(source: &v1::TopicSource) -> Result<SchemaRef> {
    let places = places();
    let value: Vec<Field> = match source.rows() {
        TopicRows::Raw => vec![Field::new(TEXT, DataType::Utf8, true)],
        _ => {
            let input = decoding(source).await?.input();
            let fields = input.fields().iter().map(|field| field.as_ref().clone());
            let is_free = |field: &Field| places.iter().all(|place| place.name() != field.name());
            fields.filter(is_free).collect()
        }
    };
    Ok(Arc::new(Schema::new(
        value.into_iter().chain(places).collect::<Vec<_>>(),
    )))
}

/// How the stream that reads the topic decodes it.
async fn decoding(source: &v1::TopicSource) -> Result<Decoding> {
    let (definition, topic) = parts(source)?;
    let registry = registry(definition.registry.as_ref())?;
    Decoding::resolve(0, topic, registry.as_ref()).await
}

/// The tables that a transform looks things up in, in the versions that the statement sees.
async fn lookups(options: &Options, source: &v1::TopicSource) -> Result<Lookups> {
    if source.lookups.is_empty() {
        return Ok(Lookups::new());
    }
    let (definition, _) = parts(source)?;
    let tables = Tables::open(&source.lake, &options.stores, definition.lookup_max_bytes).await?;
    tables.load_at(&source.lookups).await
}

/// Rows that are not handed on yet.
pub(super) enum Rows {
    Records(Records),
    Table(Table),
}

impl Rows {
    /// Rows of the wanted columns of `schema`.
    pub(super) async fn new(
        options: &Options,
        source: &v1::TopicSource,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Result<Self> {
        let (_, topic) = parts(source)?;
        let wanted = Arc::new(schema.project(columns).map_err(|error| Error::Bug {
            context: format!("columns of topic {}: {error}", topic.topic),
        })?);
        let (bytes, runtime) = (options.max_record_bytes, Handle::current());
        match source.rows() {
            TopicRows::Table => {
                let session = (options.session)().map_err(|error| Error::Bug {
                    context: format!("no session for transforms: {error}"),
                })?;
                let decoding = decoding(source).await?;
                let (input, routes) = (decoding.input(), topic.all_routes());
                let route = routes.first().ok_or_else(|| Error::Bug {
                    context: format!("topic {} has no route", topic.topic),
                })?;
                let lookups = lookups(options, source).await?;
                let transform = partitioning::plan(&session, &topic.topic, route, input, &lookups)
                    .await
                    .map_err(Refused::into_error)?;
                Ok(Self::Table(Table {
                    decoder: decoding.decoder(bytes, &runtime)?,
                    transform,
                    schema: Arc::clone(schema),
                    columns: columns.to_vec(),
                }))
            }
            TopicRows::Raw => Ok(Self::Records(Records::new(&topic.topic, wanted, None))),
            TopicRows::Records | TopicRows::Unspecified => {
                let decoded = wanted.fields().iter().any(|field| {
                    field.name() == "_error"
                        || places().iter().all(|place| place.name() != field.name())
                });
                let decoder = match decoded {
                    true => {
                        let decoding = decoding(source).await?.every_record();
                        Some(decoding.decoder(bytes, &runtime)?)
                    }
                    false => None,
                };
                Ok(Self::Records(Records::new(&topic.topic, wanted, decoder)))
            }
        }
    }

    fn decoder(&mut self) -> Option<&mut Decoder> {
        match self {
            Self::Records(rows) => rows.decoder.as_mut(),
            Self::Table(rows) => Some(&mut rows.decoder),
        }
    }

    /// Whether records should come with their headers.
    pub(super) fn wants_headers(&mut self) -> bool {
        self.decoder().is_some_and(|it| it.wants_headers())
    }

    /// Why the record cannot be taken yet, if it cannot.
    pub(super) fn waits(&mut self, record: Record<'_>) -> Option<String> {
        self.decoder()?.waits(record)
    }

    pub(super) fn push(&mut self, record: Record<'_>) {
        match self {
            Self::Records(rows) => rows.push(record),
            Self::Table(rows) => rows.decoder.push(record),
        }
    }

    fn size(&self) -> (usize, usize) {
        match self {
            Self::Records(rows) => match &rows.decoder {
                Some(decoder) => (decoder.records(), decoder.bytes()),
                None => (rows.count, rows.bytes),
            },
            Self::Table(rows) => (rows.decoder.records(), rows.decoder.bytes()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size().0 == 0
    }

    pub(super) fn is_full(&self) -> bool {
        let (records, bytes) = self.size();
        records >= RECORDS || bytes >= BYTES
    }

    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        match self {
            Self::Records(rows) => rows.finish(),
            Self::Table(rows) => rows.finish(),
        }
    }
}

/// What a stream writes to its table.
pub(super) struct Table {
    decoder: Decoder,
    transform: Transform,
    /// The table's.
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl Table {
    fn finish(&mut self) -> Result<RecordBatch> {
        let batch = self.decoder.finish()?;
        // What cannot be decoded or transformed is a dead letter there, and no row of the table.
        let rows = self
            .transform
            .apply(&batch.rows, &batch.origins, &self.schema)?
            .rows;
        rows.project(&self.columns).map_err(|error| Error::Bug {
            context: format!("columns of a table: {error}"),
        })
    }
}

/// Every record, with where it is.
pub(super) struct Records {
    topic: String,
    /// Of the wanted columns.
    schema: SchemaRef,
    columns: Vec<Column>,
    decoder: Option<Decoder>,
    count: usize,
    bytes: usize,
}

/// A wanted column.
enum Column {
    /// A decoded field, by its name.
    Field(String),
    Topic,
    Partition(Int32Builder),
    Offset(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Key(BinaryBuilder),
    Value(BinaryBuilder),
    Text(StringBuilder),
    Error(StringBuilder),
}

impl Column {
    fn new(name: &str, decodes: bool) -> Self {
        match name {
            "_topic" => Self::Topic,
            "_partition" => Self::Partition(Int32Builder::new()),
            "_offset" => Self::Offset(Int64Builder::new()),
            "_timestamp" => {
                let builder = TimestampMicrosecondBuilder::new();
                Self::Timestamp(builder.with_data_type(schema::utc()))
            }
            "_key" => Self::Key(BinaryBuilder::new()),
            "_value" => Self::Value(BinaryBuilder::new()),
            "_error" => Self::Error(StringBuilder::new()),
            TEXT if !decodes => Self::Text(StringBuilder::new()),
            name => Self::Field(name.to_owned()),
        }
    }

    fn append(&mut self, record: Record<'_>, text: Option<&str>, reason: Option<&str>) {
        match self {
            Self::Field(_) | Self::Topic => {}
            Self::Partition(builder) => builder.append_value(record.partition),
            Self::Offset(builder) => builder.append_value(record.offset),
            Self::Timestamp(builder) => {
                builder.append_option(record.timestamp.and_then(|millis| millis.checked_mul(1000)));
            }
            Self::Key(builder) => builder.append_option(record.key),
            Self::Value(builder) => builder.append_option(record.value),
            Self::Text(builder) => builder.append_option(text),
            Self::Error(builder) => builder.append_option(reason),
        }
    }
}

impl Records {
    fn new(topic: &str, schema: SchemaRef, decoder: Option<Decoder>) -> Self {
        let names = schema.fields().iter();
        Self {
            topic: topic.to_owned(),
            columns: names
                .map(|field| Column::new(field.name(), decoder.is_some()))
                .collect(),
            schema,
            decoder,
            count: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, record: Record<'_>) {
        if let Some(decoder) = &mut self.decoder {
            return decoder.push(record);
        }
        let (text, reason) = match record.value.map(std::str::from_utf8) {
            None => (None, None),
            Some(Ok(text)) => (Some(text), None),
            Some(Err(error)) => {
                let reason = format!("invalid utf-8 at byte {}", error.valid_up_to());
                (None, Some(reason))
            }
        };
        self.append(record, text, reason.as_deref());
    }

    fn append(&mut self, record: Record<'_>, text: Option<&str>, reason: Option<&str>) {
        self.count += 1;
        self.bytes += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
        for column in &mut self.columns {
            column.append(record, text, reason);
        }
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let mut fields = None;
        if let Some(decoder) = &mut self.decoder {
            let batch = decoder.finish()?;
            for row in 0..batch.rows.num_rows() {
                let record = batch.origins.record(row).ok_or_else(|| Error::Bug {
                    context: "a row without a record".to_owned(),
                })?;
                self.append(record, None, None);
            }
            let dead = self.append_dead(batch.dead)?;
            fields = Some((batch.rows, dead));
        }
        let count = std::mem::take(&mut self.count);
        self.bytes = 0;
        let bug = |error: arrow::error::ArrowError| Error::Bug {
            context: format!("rows of a topic: {error}"),
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            columns.push(match column {
                Column::Field(name) => {
                    let (rows, dead) = fields.as_ref().ok_or_else(|| Error::Bug {
                        context: format!("column {name} is not decoded"),
                    })?;
                    let decoded = match rows.column_by_name(name) {
                        Some(decoded) => cast(decoded, field.data_type()).map_err(bug)?,
                        // Of records that were written before the field was there.
                        None => new_null_array(field.data_type(), rows.num_rows()),
                    };
                    match dead {
                        0 => decoded,
                        dead => {
                            let nulls = new_null_array(field.data_type(), *dead);
                            concat(&[decoded.as_ref(), nulls.as_ref()]).map_err(bug)?
                        }
                    }
                }
                Column::Topic => Arc::new(StringArray::from(vec![self.topic.as_str(); count])),
                Column::Partition(builder) => Arc::new(builder.finish()),
                Column::Offset(builder) => Arc::new(builder.finish()),
                Column::Timestamp(builder) => Arc::new(builder.finish()),
                Column::Key(builder) | Column::Value(builder) => Arc::new(builder.finish()),
                Column::Text(builder) | Column::Error(builder) => Arc::new(builder.finish()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(bug)
    }

    /// The records that could not be decoded, behind those that could; answers how many.
    fn append_dead(&mut self, dead: Letters) -> Result<usize> {
        if dead.len() == 0 {
            return Ok(0);
        }
        let dead = dead.finish(0)?;
        let column = |at: usize| dead.column(at);
        let (partitions, offsets) = (
            column(1).as_primitive::<Int32Type>(),
            column(2).as_primitive::<Int64Type>(),
        );
        let timestamps = column(3).as_primitive::<TimestampMicrosecondType>();
        let (keys, values) = (column(4).as_binary::<i32>(), column(5).as_binary::<i32>());
        let reasons = column(7).as_string::<i32>();
        for row in 0..dead.num_rows() {
            let record = Record {
                partition: partitions.value(row),
                offset: offsets.value(row),
                timestamp: timestamps
                    .is_valid(row)
                    .then(|| timestamps.value(row).div_euclid(1000)),
                key: keys.is_valid(row).then(|| keys.value(row)),
                value: values.is_valid(row).then(|| values.value(row)),
                headers: Headers::default(),
            };
            self.append(record, None, Some(reasons.value(row)));
        }
        Ok(dead.num_rows())
    }
}
