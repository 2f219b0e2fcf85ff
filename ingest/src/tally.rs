//! Counts a partition's records as a stream would read them: the second opinion of `drumline stream verify`.
//!
//! Reads the partition from Kafka once more, committed records only, from the first of the given positions to
//! the last, and counts between each and the next. Nothing is decoded, nothing is kept.

use std::time::{Duration, Instant};

use drumline_proto::v1;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use crate::kafka::context::{Observer, asker};
use crate::kafka::ids::topic_ids;
use crate::kafka::{Secrets, settings};
use crate::{Error, Result};

const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// A partition that gives nothing for so long is given up.
const SILENT_FOR: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// Answers a request; a failure is part of the answer.
pub(crate) async fn tally(
    request: v1::CountRecords,
    secrets: &Secrets,
    stop: CancellationToken,
) -> v1::CountedRecords {
    let id = request.id;
    let counted = async {
        let definition = request.definition.clone().unwrap_or_default();
        let config = settings::of_stream(&definition, secrets)?;
        let compacted = is_compacted(&config, &request.topic).await;
        let counting = tokio::task::spawn_blocking(move || count(&config, &request, &stop));
        let counted = counting.await.map_err(|error| Error::Bug {
            context: format!("counting did not end: {error}"),
        })??;
        Ok::<_, Error>(v1::CountedRecords {
            compacted,
            ..counted
        })
    };
    let counted = counted.await.unwrap_or_else(|error| v1::CountedRecords {
        failure: Some(error.failure()),
        ..v1::CountedRecords::default()
    });
    v1::CountedRecords { id, ..counted }
}

fn count(
    config: &ClientConfig,
    request: &v1::CountRecords,
    stop: &CancellationToken,
) -> Result<v1::CountedRecords> {
    let v1::CountRecords {
        topic,
        partition,
        cuts,
        ..
    } = request;
    let failed = |error: &KafkaError| Error::Read {
        topic: topic.clone(),
        reason: match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        },
        passing: true,
    };
    let (Some(first), Some(last)) = (cuts.first().copied(), cuts.last().copied()) else {
        return Ok(v1::CountedRecords::default());
    };
    let consumer = asker(config)?;
    let (low, high) = consumer
        .fetch_watermarks(topic, *partition, ASKED_WITHIN)
        .map_err(|error| failed(&error))?;
    // Who does not say who it is, is taken for the same.
    let ids = topic_ids(consumer.client(), std::slice::from_ref(topic), ASKED_WITHIN);
    let id = ids.unwrap_or_default().remove(topic);
    let mut counted = v1::CountedRecords {
        records: vec![0; cuts.len().saturating_sub(1)],
        low,
        high,
        topic_id: id.unwrap_or_default(),
        ..v1::CountedRecords::default()
    };
    let from = first.max(low);
    if from >= last.min(high) {
        return Ok(counted);
    }
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, *partition, Offset::Offset(from))
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| failed(&error))?;
    let mut progress = Instant::now();
    let mut segment = 0;
    while !stop.is_cancelled() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let offset = message.offset();
                if offset >= last {
                    return Ok(counted);
                }
                // Offsets rise, so the segment only ever moves on.
                while cuts.get(segment + 1).is_some_and(|next| offset >= *next) {
                    segment += 1;
                }
                if let Some(records) = counted.records.get_mut(segment) {
                    *records += 1;
                }
                progress = Instant::now();
            }
            // All that a reader of committed records can reach was read.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(counted),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                return Err(failed(&error));
            }
            Some(Err(error)) if progress.elapsed() >= SILENT_FOR => return Err(failed(&error)),
            None if progress.elapsed() >= SILENT_FOR => {
                return Err(Error::Brokers {
                    brokers: config
                        .get("bootstrap.servers")
                        .unwrap_or_default()
                        .to_owned(),
                    reason: format!(
                        "{topic}/{partition} gave nothing for {} s while its records were counted",
                        SILENT_FOR.as_secs()
                    ),
                });
            }
            // librdkafka mends what passes by itself.
            Some(Err(_)) | None => {}
        }
    }
    Err(Error::Read {
        topic: topic.clone(),
        reason: "the worker ends".to_owned(),
        passing: true,
    })
}

/// Whether Kafka may drop records for newer ones of their key. A broker that does not tell has none such.
async fn is_compacted(config: &ClientConfig, topic: &str) -> bool {
    let admin = Observer::of(config).and_then(|observer| settings::create(config, observer));
    let Ok(admin): Result<AdminClient<Observer>> = admin else {
        return false;
    };
    let options = AdminOptions::new().request_timeout(Some(ASKED_WITHIN));
    let told = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
        .await;
    let told = told.into_iter().flatten().flatten();
    let mut policies = told.filter_map(|resource| {
        let policy = resource.get("cleanup.policy")?;
        policy.value.clone()
    });
    policies.any(|policy| policy.contains("compact"))
}
