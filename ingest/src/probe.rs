//! Whether a definition can run here: brokers, topics, types, transforms, partition columns.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use drumline_proto::v1;

use crate::host::Options;
use crate::kafka::{self, partition_counts, settings};
use crate::transform::Transform;
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
    if let Err(Failed { key, error }) = look(options, &definition, &mut result).await {
        result.key = key;
        result.failure = Some(error.failure());
    }
    result
}

async fn look(
    options: &Options,
    definition: &v1::StreamDefinition,
    result: &mut v1::ProbeResult,
) -> std::result::Result<(), Failed> {
    // What needs no network first: it is wrong wherever it runs.
    for (index, topic) in definition.topics.iter().enumerate() {
        let table = table_schema(options, index, topic).await?;
        let schema = ipc(&table).map_err(|error| Failed {
            key: String::new(),
            error,
        })?;
        result.table_schemas.insert(topic.topic.clone(), schema);
    }
    result.dead_letter_schema = ipc(&schema::dead_letters()).map_err(|error| Failed {
        key: String::new(),
        error,
    })?;
    let present = topics(definition).await.map_err(|error| Failed {
        key: kafka_key(&error),
        error,
    })?;
    for (index, topic) in definition.topics.iter().enumerate() {
        let partitions = present.get(&topic.topic).ok_or_else(|| Failed {
            key: format!("topic[{index}].topic"),
            error: Error::UnknownTopic {
                topic: topic.topic.clone(),
                candidates: similar(&topic.topic, &present),
            },
        })?;
        result.partitions.insert(topic.topic.clone(), *partitions);
    }
    if definition.start_from() == v1::StartFrom::Latest {
        let topics = result.partitions.clone().into_iter().collect();
        let ends = ends(definition, topics).await.map_err(|error| Failed {
            key: kafka_key(&error),
            error,
        })?;
        let end = |(topic, partition, end)| v1::EndOffset {
            topic,
            partition,
            end,
            position: end,
        };
        result.ends = ends.into_iter().map(end).collect();
    }
    Ok(())
}

async fn table_schema(
    options: &Options,
    index: usize,
    topic: &v1::TopicDefinition,
) -> std::result::Result<arrow::datatypes::SchemaRef, Failed> {
    let at = |part: &str| format!("topic[{index}].{part}");
    let fields = schema::declared(index, topic).map_err(|error| Failed {
        key: declared_key(&error, index),
        error,
    })?;
    let session = (options.session)().map_err(|error| Failed {
        key: at("transform"),
        error: Error::Bug {
            context: format!("no session for transforms: {error}"),
        },
    })?;
    let transform = Transform::plan(
        &session,
        &topic.topic,
        &topic.transform,
        schema::input(&fields),
    )
    .await
    .map_err(|error| Failed {
        key: at("transform"),
        error,
    })?;
    let table = schema::table(transform.schema(), topic.metadata_columns);
    for column in &topic.partition_by {
        if table.column_with_name(column).is_none() {
            let columns: Vec<_> = table
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            let reason = format!(
                "topic {} is partitioned by {column}, which is no column of its rows ({})",
                topic.topic,
                columns.join(", ")
            );
            return Err(Failed {
                key: at("partition_by"),
                error: Error::Definition {
                    key: at("partition_by"),
                    reason,
                },
            });
        }
    }
    Ok(table)
}

async fn topics(definition: &v1::StreamDefinition) -> Result<BTreeMap<String, u32>> {
    ask(definition, |brokers, config| {
        partition_counts(brokers, config)
    })
    .await
}

async fn ends(
    definition: &v1::StreamDefinition,
    topics: BTreeMap<String, u32>,
) -> Result<Vec<(String, i32, i64)>> {
    ask(definition, move |brokers, config| {
        kafka::ends(brokers, config, &topics)
    })
    .await
}

/// Asks the brokers something, on a thread that may block.
async fn ask<T: Send + 'static>(
    definition: &v1::StreamDefinition,
    question: impl FnOnce(&str, &rdkafka::ClientConfig) -> Result<T> + Send + 'static,
) -> Result<T> {
    let config = settings::consumer(&definition.name, &definition.brokers, &definition.kafka)?;
    let brokers = definition.brokers.clone();
    tokio::task::spawn_blocking(move || question(&brokers, &config))
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

fn declared_key(error: &Error, index: usize) -> String {
    match error {
        Error::Definition { key, .. } => key.clone(),
        _ => format!("topic[{index}].schema"),
    }
}

/// Topics whose names hold the wanted one, or lie in it, or differ in case or separators.
fn similar(wanted: &str, present: &BTreeMap<String, u32>) -> Vec<String> {
    let plain = |name: &str| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect::<String>()
    };
    let wanted = plain(wanted);
    let like = |name: &&String| {
        let name = plain(name);
        let shared = name
            .bytes()
            .zip(wanted.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        name.contains(&wanted) || wanted.contains(&name) || shared * 3 >= wanted.len() * 2
    };
    present.keys().filter(like).take(3).cloned().collect()
}

/// A schema as an Arrow IPC stream without batches.
fn ipc(schema: &Schema) -> Result<Vec<u8>> {
    let bug = |error: ArrowError| Error::Bug {
        context: format!("writing a schema: {error}"),
    };
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(bug)?;
    writer.finish().map_err(bug)?;
    writer.into_inner().map_err(bug)
}
