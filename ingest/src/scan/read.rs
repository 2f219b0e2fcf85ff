//! Reads ranges of offsets to their ends, on a thread of its own.
//!
//! A range is over when a record at its end or beyond it comes, or when Kafka says that there is nothing more:
//! its last records may be gaps (transaction markers, what was aborted or compacted), which never come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use drumline_proto::v1;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::rows::Rows;
use crate::decode::{Headers, Record};
use crate::kafka::context::Observer;
use crate::kafka::settings;
use crate::{Error, Result};

/// How long a quiet poll may take: what the end of a statement waits for.
const POLL: Duration = Duration::from_millis(50);
/// Kafka answers an empty fetch in a fraction of a second; who says nothing for so long does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// How often a record that waits for its schema is looked at again.
const WAIT_STEP: Duration = Duration::from_millis(5);

/// What to read.
pub(super) struct Reading {
    pub(super) topic: String,
    pub(super) brokers: String,
    pub(super) config: ClientConfig,
    /// Each partition once.
    pub(super) ranges: Vec<v1::TopicRange>,
}

pub(super) fn run(
    reading: &Reading,
    mut rows: Rows,
    batches: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let observer = Observer::of(&reading.config)?;
    let consumer: BaseConsumer<Observer> = settings::create(&reading.config, observer)?;
    // Where each partition ends that is not read yet.
    let mut left = reading.assign(&consumer)?;
    let mut heard = Instant::now();
    let mut headers = Vec::new();
    while !left.is_empty() {
        if batches.is_closed() {
            return Ok(());
        }
        let over = match consumer.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let (partition, offset) = (message.partition(), message.offset());
                let Some(end) = left.get(&partition) else {
                    continue;
                };
                if offset < *end {
                    let headers = match rows.wants_headers() {
                        true => Headers::of(&message, &mut headers),
                        false => Headers::default(),
                    };
                    let record = Record {
                        partition,
                        offset,
                        timestamp: message.timestamp().to_millis(),
                        key: message.key(),
                        value: message.payload(),
                        headers,
                    };
                    if !reading.wait(&mut rows, record, batches)? {
                        return Ok(());
                    }
                    rows.push(record);
                }
                (offset + 1 >= *end).then_some(partition)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                Some(partition)
            }
            Some(Err(error)) => {
                if let Some(refused) = consumer.context().refusal() {
                    return Err(refused);
                }
                reading.passing(error)?;
                None
            }
            None if heard.elapsed() > SILENT_AFTER => {
                return Err(Error::Brokers {
                    brokers: reading.brokers.clone(),
                    reason: format!(
                        "nothing came of topic {} for {} s{}",
                        reading.topic,
                        SILENT_AFTER.as_secs(),
                        consumer
                            .context()
                            .broken()
                            .map(|why| format!(": {why}"))
                            .unwrap_or_default()
                    ),
                });
            }
            None => None,
        };
        if let Some(partition) = over
            && left.remove(&partition).is_some()
            && !left.is_empty()
        {
            reading.pause(&consumer, partition);
        }
        if rows.is_full() && batches.blocking_send(Ok(rows.finish()?)).is_err() {
            return Ok(());
        }
    }
    if !rows.is_empty() {
        // Who asked may have gone.
        let _ = batches.blocking_send(Ok(rows.finish()?));
    }
    Ok(())
}

impl Reading {
    /// Stands still until the record can be taken; false where nobody takes its row any more.
    fn wait(
        &self,
        rows: &mut Rows,
        record: Record<'_>,
        batches: &mpsc::Sender<Result<RecordBatch>>,
    ) -> Result<bool> {
        let began = Instant::now();
        while let Some(reason) = rows.waits(record) {
            if batches.is_closed() {
                return Ok(false);
            }
            if began.elapsed() > SILENT_AFTER {
                return Err(Error::Waiting {
                    topic: self.topic.clone(),
                    partition: record.partition,
                    offset: record.offset,
                    reason,
                });
            }
            std::thread::sleep(WAIT_STEP);
        }
        Ok(true)
    }

    fn assign(&self, consumer: &BaseConsumer<Observer>) -> Result<BTreeMap<i32, i64>> {
        let mut left = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for range in self.ranges.iter().filter(|range| range.from < range.to) {
            if left.insert(range.partition, range.to).is_some() {
                return Err(Error::Bug {
                    context: format!(
                        "partition {} of {} is read twice",
                        range.partition, self.topic
                    ),
                });
            }
            assignment
                .add_partition_offset(&self.topic, range.partition, Offset::Offset(range.from))
                .map_err(|error| self.failed(&error))?;
        }
        if !left.is_empty() {
            consumer
                .assign(&assignment)
                .map_err(|error| self.failed(&error))?;
        }
        Ok(left)
    }

    /// Its records would only take memory.
    fn pause(&self, consumer: &BaseConsumer<Observer>, partition: i32) {
        let mut paused = TopicPartitionList::new();
        paused.add_partition(&self.topic, partition);
        if let Err(error) = consumer.pause(&paused) {
            tracing::debug!(topic = self.topic, partition, %error, "a partition that is read goes on");
        }
    }

    /// librdkafka mends what passes by itself; the rest ends the statement.
    fn passing(&self, error: KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Err(Error::RecordsGone {
                    topic: self.topic.clone(),
                })
            }
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::Fatal,
            ) => Err(self.failed(&error)),
            _ => {
                tracing::warn!(topic = self.topic, %error, "kafka, trying again");
                Ok(())
            }
        }
    }

    fn failed(&self, error: &KafkaError) -> Error {
        let reason = match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        };
        Error::Read {
            topic: self.topic.clone(),
            reason,
            passing: false,
        }
    }
}
