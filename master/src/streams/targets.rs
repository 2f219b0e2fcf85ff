//! The tables that a stream writes to, with their columns: as its definition and what a worker found say, made where
//! they are not, and refused where an existing one does not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use drumline_lake::{Format, NewTable, StatementId, Table, TableName};
use drumline_proto::v1::{
    FailureKind, ProbeResult, RouteDefinition, StreamDefinition, TopicDefinition,
};
use uuid::Uuid;

use super::apply::{Refusal, refusal, user};
use super::latest;
use super::tables::StreamTables;
use crate::Error;

/// Columns and place of one target table, for a stream that is being applied.
pub(crate) struct Target {
    pub(crate) name: TableName,
    /// As the definition has it.
    pub(crate) text: String,
    pub(crate) location: Option<String>,
    pub(crate) format: Format,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: Vec<String>,
    /// Key of the definition that names it, for messages.
    pub(crate) key: String,
    /// Whether columns that an existing table lacks are added: a registered schema got them.
    pub(crate) may_grow: bool,
    /// Whether columns get a wider type where that is wanted: the topic's records needed it.
    pub(crate) may_widen: bool,
}

/// The tables the stream writes to, with the columns that a worker found them to have.
pub(super) fn targets(
    definition: &StreamDefinition,
    probed: &ProbeResult,
) -> Result<Vec<Target>, Refusal> {
    let mut targets: Vec<Target> = Vec::new();
    for (at, topic) in definition.topics.iter().enumerate() {
        let may_widen = topic.decode.as_ref().is_some_and(|it| it.evolve);
        let may_grow = may_widen || topic.decode.as_ref().is_some_and(|it| it.schema_id != 0);
        for (route_at, route) in topic.all_routes().into_iter().enumerate() {
            let key = |part: &str| format!("topic[{at}].{}", topic.route_key(route_at, part));
            let target = Target {
                may_grow,
                may_widen,
                ..target(&route, probed, &key)?
            };
            if !topic.latest_table.is_empty() {
                targets.push(latest_target(topic, &target, &key)?);
            }
            match targets.iter().find(|other| other.name == target.name) {
                None => targets.push(target),
                Some(other) => agree(other, &target, &key)?,
            }
        }
    }
    let Some(schema) = decode_schema(&probed.dead_letter_schema) else {
        return Err(refusal(
            FailureKind::Bug,
            "dead_letters",
            "the worker sent no columns for dead letters",
            "",
        ));
    };
    targets.push(Target {
        name: table_name(&definition.dead_letters, "dead_letters")?,
        text: definition.dead_letters.clone(),
        location: None,
        format: format(&definition.format, "format")?,
        schema,
        partition_by: Vec::new(),
        key: "dead_letters".to_owned(),
        // Its columns are ours, and there may be more than when it was made.
        may_grow: true,
        may_widen: false,
    });
    Ok(targets)
}

/// The table of the newest rows of a topic whose changes go to `changes`.
fn latest_target(
    topic: &TopicDefinition,
    changes: &Target,
    key: &impl Fn(&str) -> String,
) -> Result<Target, Refusal> {
    if let Some((part, reason)) = latest::lacks(topic, &changes.schema) {
        let hint = "a whole example is in docs/formats.md";
        return Err(user(key(part), reason, hint));
    }
    Ok(Target {
        name: table_name(&topic.latest_table, &key("table"))?,
        text: topic.latest_table.clone(),
        location: None,
        // Its rows change.
        format: Format::Delta,
        schema: latest::schema(&changes.schema),
        partition_by: Vec::new(),
        key: key("table"),
        may_grow: changes.may_grow,
        may_widen: changes.may_widen,
    })
}

fn target(
    route: &RouteDefinition,
    probed: &ProbeResult,
    key: &impl Fn(&str) -> String,
) -> Result<Target, Refusal> {
    let schema = probed.table_schemas.get(&route.table);
    let Some(schema) = schema.and_then(|ipc| decode_schema(ipc)) else {
        let message = format!("the worker sent no columns for table {}", route.table);
        return Err(refusal(FailureKind::Bug, key("table"), message, ""));
    };
    Ok(Target {
        name: table_name(&route.table, &key("table"))?,
        text: route.table.clone(),
        location: (!route.location.is_empty()).then(|| route.location.clone()),
        format: format(&route.format, &key("format"))?,
        schema,
        partition_by: route
            .partition_columns()
            .into_iter()
            .map(|column| column.name)
            .collect(),
        key: key("table"),
        may_grow: false,
        may_widen: false,
    })
}

/// Topics that share a table have to want the same of it.
fn agree(other: &Target, target: &Target, key: &impl Fn(&str) -> String) -> Result<(), Refusal> {
    let differing = [
        ("format", other.format != target.format),
        ("location", other.location != target.location),
        ("partition_by", other.partition_by != target.partition_by),
    ];
    match differing.into_iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((part, _)) => {
            let message = format!(
                "table {} has another `{part}` where {} names it",
                target.name, other.key
            );
            Err(user(
                key(part),
                message,
                format!("give both the same `{part}`"),
            ))
        }
    }
}

fn table_name(text: &str, key: &str) -> Result<TableName, Refusal> {
    TableName::parse(text)
        .map_err(|error| user(key, error.to_string(), "use `name` or `schema.name`"))
}

fn format(text: &str, key: &str) -> Result<Format, Refusal> {
    match text {
        "parquet" => Ok(Format::Parquet),
        "delta" => Ok(Format::Delta),
        other => Err(user(
            key,
            format!("`{other}` is no table format"),
            "use `parquet` or `delta`",
        )),
    }
}

fn decode_schema(ipc: &[u8]) -> Option<SchemaRef> {
    let reader = arrow::ipc::reader::StreamReader::try_new(ipc, None).ok()?;
    Some(reader.schema())
}

impl StreamTables {
    /// Makes the targets that do not exist. An existing one must have columns and partitions that fit; one of the
    /// stream's `own` gets those that it has not. The error's first part is the key of the definition it is about.
    pub(crate) async fn ensure(
        &self,
        stream: &str,
        targets: &[Target],
        own: &BTreeSet<String>,
    ) -> Result<(), (String, Error)> {
        let snapshot = self
            .catalog
            .refresh()
            .await
            .map_err(|e| ("lake".to_owned(), e.into()))?;
        for target in targets {
            let schema_is_new = !snapshot
                .schemas()
                .any(|schema| schema == target.name.schema);
            let keyed = |error: drumline_lake::Error| (target.key.clone(), Error::from(error));
            if schema_is_new {
                let schema = target.name.schema.clone();
                let put = || {
                    vec![drumline_lake::Change::PutSchema {
                        schema: schema.clone(),
                    }]
                };
                self.catalog.change(|_| Ok(put())).await.map_err(keyed)?;
            }
            let new = NewTable {
                name: target.name.clone(),
                format: target.format,
                location: target.location.clone(),
                schema: Arc::clone(&target.schema),
                partition_columns: target.partition_by.clone(),
                properties: BTreeMap::new(),
                comment: None,
                column_comments: Default::default(),
                or_replace: false,
                created_by: None,
            };
            let table = Table::create(&self.catalog, new, true)
                .await
                .map_err(keyed)?;
            let held = table.snapshot().await.map_err(keyed)?;
            let may_grow = target.may_grow || own.contains(&target.text);
            if let Some(difference) = difference(target, &held, may_grow) {
                let table = target.name.to_string();
                return Err((
                    target.key.clone(),
                    Error::StreamTableDiffers { table, difference },
                ));
            }
            grow(&table, stream, target, &held).await.map_err(keyed)?;
        }
        Ok(())
    }
}

/// Adds the columns that a table has not.
async fn grow(
    table: &Table,
    stream: &str,
    target: &Target,
    held: &drumline_lake::TableSnapshot,
) -> drumline_lake::Result<()> {
    let fields = target.schema.fields().iter();
    let more: Vec<FieldRef> = fields
        .filter(|field| held.schema.index_of(field.name()).is_err())
        .cloned()
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    // Each apply is a statement of its own: what is there already stays as it is.
    let statement = StatementId {
        application: format!("stream/{stream}/{}", Uuid::now_v7()),
        ordinal: 0,
        text_hash: 0,
    };
    table
        .add_columns(&Schema::new(more), true, statement)
        .await?;
    Ok(())
}

/// How an existing table is not what the stream would make, in words.
fn difference(
    target: &Target,
    held: &drumline_lake::TableSnapshot,
    may_grow: bool,
) -> Option<String> {
    if held.partition_columns != target.partition_by {
        return Some(format!(
            "it is partitioned by ({}), the stream by ({})",
            held.partition_columns.join(", "),
            target.partition_by.join(", ")
        ));
    }
    let mut fields = target.schema.fields().iter();
    fields.find_map(|field| {
        let name = field.name();
        match held.schema.field_with_name(name) {
            Err(_) if may_grow => None,
            Err(_) => Some(format!("it has no column `{name}`")),
            Ok(column) if fits(field.data_type(), column.data_type()) => None,
            Ok(column) if target.may_widen && is_wider(held.format, column, field) => None,
            Ok(column) => Some(format!(
                "its column `{name}` is {}, the stream yields {}",
                column.data_type(),
                field.data_type()
            )),
        }
    })
}

/// Whether what is wanted holds everything that the column does.
fn is_wider(format: Format, column: &Field, wanted: &Field) -> bool {
    drumline_lake::widens(format, column.data_type(), wanted.data_type()).is_some()
}

/// Whether a column can hold all values that a stream yields for it, or nearly all: the rest are dead letters.
fn fits(yielded: &DataType, column: &DataType) -> bool {
    use DataType::{Binary, Date32, Decimal128, Float32, Float64, Null, Timestamp, Utf8};
    match (yielded, column) {
        (Null, _) => true,
        (one, other) if one.is_integer() && other.is_integer() => true,
        (one, Float32 | Float64 | Decimal128(..)) if one.is_numeric() => true,
        (Timestamp(..), Timestamp(..)) | (Date32, Timestamp(..)) => true,
        (Utf8, DataType::LargeUtf8 | DataType::Utf8View) => true,
        (Binary, DataType::LargeBinary | DataType::BinaryView) => true,
        // Formats name the parts of nested columns each in its own way.
        (one, other) if one.is_nested() => other.is_nested(),
        (one, other) => one == other,
    }
}
