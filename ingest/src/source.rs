//! Reads one topic's partitions and decodes them, on a thread of its own.
//!
//! Progress is the *next position*: beyond the last record, or, at the end of a partition, what
//! librdkafka's statistics call `eof_offset`. That one lies beyond transaction markers, so they never
//! stall a stream. It is believed only while no fetched record waits, so no record can be skipped.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drumline_proto::v1::StartFrom;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc as channel;
use tokio_util::sync::CancellationToken;

use crate::decode::{Batch, Decoder, Record};
use crate::kafka::settings;
use crate::machine::Positions;
use crate::{Error, Result};

/// A batch is handed on when it has this many records, this many bytes, or is this old.
const BATCH_RECORDS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;
const BATCH_AGE: Duration = Duration::from_millis(200);
/// How long a quiet poll may take: what a stop waits for.
const POLL: Duration = Duration::from_millis(50);
const WATERMARKS_WITHIN: Duration = Duration::from_secs(10);

/// What to read.
pub(crate) struct Reading {
    pub topic: String,
    pub config: ClientConfig,
    /// Next position per partition; `None`: not known, begin as `start_from` says.
    pub partitions: BTreeMap<i32, Option<i64>>,
    pub start_from: StartFrom,
    pub decoder: Decoder,
}

/// What comes from a source, in order.
pub(crate) enum Read {
    /// The positions that reading begins at; always the first.
    Started(Positions),
    Batch(Box<Batch>),
    /// Ends of the partitions (what a reader of committed records can reach).
    Ends(Positions),
    /// The last one.
    Failed(Error),
}

/// Starts the thread. It ends when `stop` is cancelled, when nobody takes its batches, or on a failure.
pub(crate) fn spawn(
    reading: Reading,
    reads: channel::Sender<Read>,
    acknowledge: mpsc::Receiver<Positions>,
    stop: CancellationToken,
) -> Result<JoinHandle<()>> {
    let purpose = format!("topic {}", reading.topic);
    std::thread::Builder::new()
        .name("ingest-source".to_owned())
        .spawn(move || {
            if let Err(error) = read(reading, &reads, &acknowledge, &stop) {
                let _ = reads.blocking_send(Read::Failed(error));
            }
        })
        .map_err(|source| Error::Thread { purpose, source })
}

fn read(
    reading: Reading,
    reads: &channel::Sender<Read>,
    acknowledge: &mpsc::Receiver<Positions>,
    stop: &CancellationToken,
) -> Result<()> {
    let Reading {
        topic,
        config,
        partitions,
        start_from,
        mut decoder,
    } = reading;
    let consumer: BaseConsumer<Watch> = settings::create(
        &config,
        Watch {
            topic: topic.clone(),
            seen: Mutex::default(),
        },
    )?;
    let starts = starts(&consumer, &topic, &partitions, start_from)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, start) in &starts {
        assignment
            .add_partition_offset(&topic, *partition, Offset::Offset(*start))
            .map_err(|error| failed(&topic, &error))?;
    }
    consumer
        .assign(&assignment)
        .map_err(|error| failed(&topic, &error))?;
    let mut positions = starts.clone();
    if reads.blocking_send(Read::Started(starts)).is_err() {
        return Ok(());
    }
    let mut since = Instant::now();
    while !stop.is_cancelled() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                if decoder.is_empty() {
                    since = Instant::now();
                }
                positions.insert(message.partition(), message.offset() + 1);
                decoder.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key(),
                    value: message.payload(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => passing(&topic, error)?,
        }
        if let Some(seen) = consumer.context().take() {
            for (partition, next) in seen.next {
                if positions
                    .get(&partition)
                    .is_some_and(|position| *position < next)
                {
                    positions.insert(partition, next);
                    decoder.advance(partition, next);
                }
            }
            if reads.blocking_send(Read::Ends(seen.ends)).is_err() {
                return Ok(());
            }
        }
        while let Ok(next) = acknowledge.try_recv() {
            commit_for_lag_tools(&consumer, &topic, &next);
        }
        let full = decoder.records() >= BATCH_RECORDS || decoder.bytes() >= BATCH_BYTES;
        if full || (!decoder.is_empty() && since.elapsed() >= BATCH_AGE) {
            let batch = Box::new(decoder.finish()?);
            if reads.blocking_send(Read::Batch(batch)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Checks each position against what Kafka has, and finds those that are not known.
fn starts(
    consumer: &BaseConsumer<Watch>,
    topic: &str,
    partitions: &BTreeMap<i32, Option<i64>>,
    start_from: StartFrom,
) -> Result<Positions> {
    let mut starts = Positions::new();
    for (partition, wanted) in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, *partition, WATERMARKS_WITHIN)
            .map_err(|error| failed(topic, &error))?;
        let start = match *wanted {
            Some(wanted) if (low..=high).contains(&wanted) => wanted,
            Some(wanted) => {
                return Err(Error::OffsetGone {
                    topic: topic.to_owned(),
                    partition: *partition,
                    wanted,
                    low,
                    high,
                });
            }
            None if start_from == StartFrom::Latest => high,
            None => low,
        };
        starts.insert(*partition, start);
    }
    Ok(starts)
}

/// The tables are the truth; this only shows other tools how far they are.
fn commit_for_lag_tools(consumer: &BaseConsumer<Watch>, topic: &str, next: &Positions) {
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in next {
        let _ = offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset));
    }
    if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
        tracing::debug!(topic, %error, "kafka did not take the committed positions");
    }
}

/// librdkafka mends what passes by itself; the rest ends the stream here.
fn passing(topic: &str, error: KafkaError) -> Result<()> {
    match error {
        KafkaError::MessageConsumptionFatal(_)
        | KafkaError::MessageConsumption(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::MessageSizeTooLarge,
        ) => Err(failed(topic, &error)),
        other => {
            tracing::warn!(topic, error = %other, "kafka, trying again");
            Ok(())
        }
    }
}

fn failed(topic: &str, error: &KafkaError) -> Error {
    let code = error.rdkafka_error_code();
    let user = matches!(
        code,
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
        )
    );
    let reason = code.map_or_else(|| error.to_string(), |code| code.to_string());
    Error::Read {
        topic: topic.to_owned(),
        reason,
        passing: !user,
    }
}

/// What statistics said last.
#[derive(Default)]
struct Seen {
    next: Positions,
    ends: Positions,
}

struct Watch {
    topic: String,
    seen: Mutex<Option<Seen>>,
}

impl Watch {
    fn take(&self) -> Option<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ConsumerContext for Watch {}

impl ClientContext for Watch {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(topic = self.topic, facility, message, "librdkafka consumer");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(topic = self.topic, %error, reason, "librdkafka consumer");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else {
            return;
        };
        let mut seen = Seen::default();
        for partition in statistics
            .topics
            .get(&self.topic)
            .into_iter()
            .flat_map(|topic| topic.partitions.values())
        {
            if partition.ls_offset >= 0 {
                seen.ends.insert(partition.partition, partition.ls_offset);
            }
            if partition.fetchq_cnt == 0 && partition.eof_offset >= 0 {
                seen.next.insert(partition.partition, partition.eof_offset);
            }
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

#[derive(serde::Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics {
    partition: i32,
    fetchq_cnt: i64,
    eof_offset: i64,
    ls_offset: i64,
}
