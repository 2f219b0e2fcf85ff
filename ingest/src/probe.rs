//! Whether a definition can run here: brokers, topics, types, transforms, partition columns.

mod matching;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use drumline_proto::{PartitionColumn, v1};

use crate::decode::{self, Decoding};
use crate::host::Options;
use crate::kafka::{self, partition_counts, settings};
use crate::partitioning::Refused;
use crate::places::Places;
use crate::planner::Planner;
use crate::registry::Registry;
use crate::{Error, Result, schema};

/// A failure, and the key of the definition it is about.
struct Failed {
    key: String,
    error: Error,
}

pub(crate) async fn probe(options: &Options, probe: &v1::Probe) -> v1::ProbeResult {
    let mut result = v1::ProbeResult {
        id: probe.id,
        ..Default::default()
    };
    let definition = probe.definition.clone().unwrap_or_default();
    if let Err(Failed { key, error }) = look(options, &definition, probe, &mut result).await {
        result.key = key;
        result.failure = Some(error.failure());
    }
    result
}

async fn look(
    options: &Options,
    definition: &v1::StreamDefinition,
    asked: &v1::Probe,
    result: &mut v1::ProbeResult,
) -> std::result::Result<(), Failed> {
    let failed = |error| Failed {
        key: String::new(),
        error,
    };
    // What needs no network first: it is wrong wherever it runs.
    let registry = decode::registry(definition.registry.as_ref()).map_err(|error| Failed {
        key: declared_key(&error, "registry".to_owned()),
        error,
    })?;
    let mut tables = BTreeMap::new();
    for (index, topic) in definition.topics.iter().enumerate() {
        let decoding = decoding(index, topic, registry.as_ref()).await?;
        if decoding.schema_id() != 0 {
            result
                .schema_ids
                .insert(topic.label(), decoding.schema_id());
        }
        for (at, route) in topic.all_routes().iter().enumerate() {
            let key = |part: &str| format!("topic[{index}].{}", topic.route_key(at, part));
            let schema = table_schema(
                options,
                (definition, &asked.lake),
                topic,
                route,
                decoding.input(),
                &key,
            )
            .await?;
            unite(&mut tables, &route.table, schema, &key)?;
        }
    }
    for (table, schema) in tables {
        let schema = ipc(&schema).map_err(failed)?;
        result.table_schemas.insert(table, schema);
    }
    result.dead_letter_schema = ipc(&schema::dead_letters()).map_err(failed)?;
    let present = topics(options, definition).await.map_err(|error| Failed {
        key: kafka_key(&error),
        error,
    })?;
    let (partitions, matched) = matching::look_up(definition, &present)?;
    result.partitions.extend(partitions);
    result.matched.extend(matched);
    if asked.edges {
        let topics = result.partitions.clone().into_iter().collect();
        let matched = result.matched.clone().into_iter().collect();
        let definition = definition.clone().matching(&matched);
        let edges = edges(options, &definition, topics).await;
        result.edges = edges.map_err(|error| Failed {
            key: edges_key(&error),
            error,
        })?;
    }
    Ok(())
}

async fn decoding(
    index: usize,
    topic: &v1::TopicDefinition,
    registry: Option<&Arc<Registry>>,
) -> std::result::Result<Decoding, Failed> {
    Decoding::resolve(index, topic, registry)
        .await
        .map_err(|error| Failed {
            key: declared_key(&error, format!("topic[{index}].decode")),
            error,
        })
}

async fn table_schema(
    options: &Options,
    (definition, lake): (&v1::StreamDefinition, &str),
    topic: &v1::TopicDefinition,
    route: &v1::RouteDefinition,
    input: SchemaRef,
    key: &impl Fn(&str) -> String,
) -> std::result::Result<SchemaRef, Failed> {
    let named = |refused| match refused {
        Refused::Transform(error) => Failed {
            key: key("transform"),
            error,
        },
        Refused::PartitionBy(error) => Failed {
            key: key("partition_by"),
            error,
        },
    };
    let (label, places) = (topic.label(), Places::one(""));
    let planner = Planner::new(options, definition, lake, label, route, input, places).await;
    let planner = planner.map_err(|error| named(Refused::Transform(error)))?;
    let transform = planner.plan().await.map_err(named)?;
    let own = transform.schema().fields().iter();
    let taken = own
        .map(|field| field.name())
        .find(|name| schema::METADATA.contains(&name.as_str()));
    if let Some(name) = taken.filter(|_| route.metadata_columns) {
        let reason = format!(
            "topic {} has a column {name}, which is one that the stream adds: give yours another name, or set \
             `metadata_columns = false`",
            topic.label(),
        );
        return Err(refused(key("transform"), reason));
    }
    let table = schema::table(transform.schema(), route.metadata_columns);
    for PartitionColumn { name: column, .. } in &route.partition_columns() {
        if table.column_with_name(column).is_none() {
            let columns: Vec<_> = table
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            let reason = format!(
                "topic {} is partitioned by {column}, which is no column of its rows ({}); an expression needs a name, `… AS day`",
                topic.label(),
                columns.join(", ")
            );
            return Err(refused(key("partition_by"), reason));
        }
    }
    Ok(table)
}

/// Adds the columns of one more route to those of its table. Routes of different topics may share a table;
/// what one does not have is null in its rows.
fn unite(
    tables: &mut BTreeMap<String, SchemaRef>,
    table: &str,
    more: SchemaRef,
    key: &impl Fn(&str) -> String,
) -> std::result::Result<(), Failed> {
    let Some(held) = tables.get(table) else {
        tables.insert(table.to_owned(), more);
        return Ok(());
    };
    let mut fields = held.fields().to_vec();
    for field in more.fields() {
        match held.field_with_name(field.name()) {
            Ok(other) if other.data_type() == field.data_type() => {}
            Ok(other) => {
                let reason = format!(
                    "column {} of table {table} is {} here and {} in what another topic writes",
                    field.name(),
                    field.data_type(),
                    other.data_type()
                );
                return Err(refused(key("transform"), reason));
            }
            Err(_) => fields.push(Arc::clone(field)),
        }
    }
    tables.insert(table.to_owned(), Arc::new(Schema::new(fields)));
    Ok(())
}

fn refused(key: String, reason: String) -> Failed {
    let error = Error::Definition {
        key: key.clone(),
        reason,
    };
    Failed { key, error }
}

async fn topics(
    options: &Options,
    definition: &v1::StreamDefinition,
) -> Result<BTreeMap<String, u32>> {
    ask(options, definition, partition_counts).await
}

async fn edges(
    options: &Options,
    definition: &v1::StreamDefinition,
    topics: BTreeMap<String, u32>,
) -> Result<Vec<v1::PartitionEdges>> {
    let wanted = definition.clone();
    let now = chrono::Utc::now().timestamp_millis();
    ask(options, definition, move |config| {
        kafka::edges(&wanted, config, &topics, now)
    })
    .await
}

/// Asks the brokers something, on a thread that may block.
async fn ask<T: Send + 'static>(
    options: &Options,
    definition: &v1::StreamDefinition,
    question: impl FnOnce(&rdkafka::ClientConfig) -> Result<T> + Send + 'static,
) -> Result<T> {
    let config = settings::of_stream(definition, &options.secrets)?;
    tokio::task::spawn_blocking(move || question(&config))
        .await
        .map_err(|error| Error::Bug {
            context: format!("a question to the brokers did not end: {error}"),
        })?
}

fn kafka_key(error: &Error) -> String {
    match error {
        Error::KafkaSetting { setting, .. } => format!("kafka.{setting}"),
        Error::KafkaClient { .. } => "kafka".to_owned(),
        _ => "brokers".to_owned(),
    }
}

fn edges_key(error: &Error) -> String {
    match error {
        Error::Definition { key, .. } => key.clone(),
        _ => kafka_key(error),
    }
}

fn declared_key(error: &Error, otherwise: String) -> String {
    match error {
        Error::Definition { key, .. } => key.clone(),
        Error::Registry { .. } | Error::RegistryRefused { .. } => "registry".to_owned(),
        _ => otherwise,
    }
}

/// A schema as an Arrow IPC stream without batches.
pub(crate) fn ipc(schema: &Schema) -> Result<Vec<u8>> {
    let bug = |error: ArrowError| Error::Bug {
        context: format!("writing a schema: {error}"),
    };
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(bug)?;
    writer.finish().map_err(bug)?;
    writer.into_inner().map_err(bug)
}
