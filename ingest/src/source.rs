//! Reads the partitions of one `[[topic]]`, of one Kafka topic or several, and decodes them, on a thread of its own.
//!
//! Progress is the *next position*: beyond the last record, or, at the end of a partition, what
//! librdkafka's statistics call `eof_offset`. That one lies beyond transaction markers, so they never
//! stall a stream. It is believed only while no fetched record waits, so no record can be skipped.

mod connection;
mod figures;
mod identity;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drumline_proto::v1::FoundField;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc as channel;
use tokio_util::sync::CancellationToken;

use crate::decode::found::{self, Found};
use crate::decode::{Batch, Decoder, Headers, Record};
use crate::machine::Positions;
use crate::places::Places;
use crate::{Error, Result};
pub(crate) use figures::Figure;
use figures::Figures;
pub(crate) use identity::{Held, Identity};
use watch::{Absence, Drift, Watch};

/// A batch is handed on when it has this many records, as many bytes as it may, or is this old.
const BATCH_RECORDS: usize = 8192;
const BATCH_AGE: Duration = Duration::from_millis(200);
/// After so many records in a row the clock is looked at: for each it would cost as much as taking it.
const CLOCK_EVERY: usize = 32;
/// How long a quiet poll may take: what a stop waits for.
const POLL: Duration = Duration::from_millis(50);
const WATERMARKS_WITHIN: Duration = Duration::from_secs(10);
/// How often a record that waits is looked at again, and how long that is nobody's concern.
const WAIT_STEP: Duration = Duration::from_millis(5);
/// How long records are looked at for more fields after one was found.
const LOOK_ON: Duration = Duration::from_millis(300);
const WAIT_UNTOLD: Duration = Duration::from_secs(1);

/// What to read.
pub(crate) struct Reading {
    /// What people call it.
    pub topic: String,
    pub places: Places,
    pub config: ClientConfig,
    /// By place.
    pub partitions: BTreeMap<i32, Begin>,
    /// Bytes of records after which a batch is handed on.
    pub batch_bytes: usize,
    pub decoder: Decoder,
    pub identity: Arc<Identity>,
}

/// Where a partition's reading begins, as far as its tables tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Next position of each table that has one.
    pub held: BTreeMap<String, i64>,
    /// A table has none: it needs everything that Kafka has.
    pub incomplete: bool,
    /// Records from here on are not read.
    pub until: Option<i64>,
}

/// What comes from a source, in order.
pub(crate) enum Read {
    /// The positions that reading begins at; always the first.
    Started(Positions),
    Batch(Box<Batch>),
    Seen(Seen),
    /// The last one.
    Failed(Error),
}

/// What Kafka says of the topics.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// Ends of the partitions (what a reader of committed records can reach).
    pub ends: Positions,
    /// How many partitions each topic has now.
    pub partitions: BTreeMap<String, u32>,
    /// Why nothing can be read at the moment, if nothing can.
    pub waiting: Option<String>,
    /// Fields that need a column first.
    pub found: Vec<FoundField>,
    /// What people want to know of the partitions that are read.
    pub figures: BTreeMap<i32, Figure>,
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
        places,
        config,
        partitions,
        batch_bytes,
        mut decoder,
        identity,
    } = reading;
    let brokers = config.get("bootstrap.servers").unwrap_or_default();
    let mut consumer = connection::open(&config, &topic, &places)?;
    let (mut absence, mut drift) = (Absence::default(), Drift::default());
    identity.meet(&consumer)?;
    let starts = starts(&consumer, &places, &partitions)?;
    connection::assign(&consumer, &places, &starts)?;
    let mut positions = starts.clone();
    let mut bounds = Bounds::of(&partitions);
    for (place, start) in &starts {
        bounds.reach(&consumer, &places, *place, *start)?;
    }
    if reads.blocking_send(Read::Started(starts)).is_err() {
        return Ok(());
    }
    let mut figures = Figures::default();
    let mut since = Instant::now();
    let mut seen = Seen::default();
    let mut headers = Vec::new();
    while !stop.is_cancelled() {
        let polled = consumer.poll(POLL);
        let quiet = !matches!(polled, Some(Ok(_)));
        match polled {
            Some(Ok(message)) => {
                let Some(place) = places.place(message.topic(), message.partition()) else {
                    continue;
                };
                if decoder.is_empty() {
                    since = Instant::now();
                }
                let next = message.offset() + 1;
                bounds.reach(&consumer, &places, place, next)?;
                let end = bounds.cap(place, next);
                if next > end {
                    // Offsets that were compacted away, or transaction markers, may lie before the bound. A record
                    // that does is not passed before it is taken: it may have to wait.
                    if positions
                        .get(&place)
                        .is_some_and(|position| *position < end)
                    {
                        positions.insert(place, end);
                        decoder.advance(place, end);
                    }
                    continue;
                }
                let record = Record {
                    partition: place,
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key(),
                    value: message.payload(),
                    headers: Headers::of(&message, &mut headers),
                };
                let new = decoder.found(record.value);
                if !new.is_empty() {
                    let new = look_on(&consumer, &mut decoder, new);
                    return stand(&mut decoder, (&topic, new), seen, reads, stop);
                }
                if let Some(waiting) = decoder.waits(record) {
                    // What came before is not held up by what waits.
                    if !decoder.is_empty() {
                        figures.cut();
                        let batch = Box::new(decoder.finish()?);
                        if reads.blocking_send(Read::Batch(batch)).is_err() {
                            return Ok(());
                        }
                    }
                    let from = format!(
                        "topic {}, partition {}, offset {}",
                        message.topic(),
                        message.partition(),
                        message.offset()
                    );
                    if !wait(&mut decoder, record, (from, waiting), &seen, reads, stop) {
                        return Ok(());
                    }
                    since = Instant::now();
                }
                positions.insert(place, next);
                let size = message.payload_len() + message.key_len();
                let date = message.timestamp().to_millis();
                figures.took(place, message.offset(), date, size);
                decoder.push(record);
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => passing(&topic, error)?,
        }
        if let Some(told) = consumer.context().take() {
            let waiting = absence
                .look(Instant::now(), told.missing(positions.keys()))
                .map(|reason| {
                    let brokers = brokers.to_owned();
                    Error::Brokers { brokers, reason }.to_string()
                });
            let unbound = positions.keys().filter(|place| !bounds.has(**place));
            let adrift = drift.look(Instant::now(), told.adrift(unbound));
            for (place, next) in told.next {
                let next = bounds.cap(place, next);
                if positions
                    .get(&place)
                    .is_some_and(|position| *position < next)
                {
                    positions.insert(place, next);
                    decoder.advance(place, next);
                }
            }
            seen = Seen {
                ends: told.ends,
                partitions: told.partitions,
                waiting,
                found: Vec::new(),
                figures: figures.told(Instant::now()),
            };
            if reads.blocking_send(Read::Seen(seen.clone())).is_err() {
                return Ok(());
            }
            if let Some((place, reason)) = adrift {
                let (topic, partition) = (places.topic(place), places.partition(place));
                tracing::warn!(
                    topic,
                    partition,
                    reason,
                    "nobody fetches it: connecting anew"
                );
                match go_on(&config, &places, &positions, &mut bounds) {
                    Ok(new) => {
                        identity.ask_through(&new);
                        connection::close(std::mem::replace(&mut consumer, new));
                    }
                    // The connection that there is may mend itself meanwhile.
                    Err(error) => tracing::warn!(topic, partition, %error, "connecting anew"),
                }
            }
        }
        while let Ok(next) = acknowledge.try_recv() {
            figures.committed(&next);
            commit_for_lag_tools(&consumer, &places, &next);
        }
        let full = decoder.records() >= BATCH_RECORDS || decoder.bytes() >= batch_bytes;
        let is_time = quiet || decoder.records().is_multiple_of(CLOCK_EVERY);
        if full || (!decoder.is_empty() && is_time && since.elapsed() >= BATCH_AGE) {
            figures.cut();
            let batch = Box::new(decoder.finish()?);
            if reads.blocking_send(Read::Batch(batch)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A new connection that goes on where reading is, so that nothing which was read is read again.
fn go_on(
    config: &ClientConfig,
    places: &Places,
    positions: &Positions,
    bounds: &mut Bounds,
) -> Result<Arc<BaseConsumer<Watch>>> {
    let topic = places.topics().join(", ");
    let consumer = connection::open(config, &topic, places)?;
    connection::assign(&consumer, places, positions)?;
    bounds.reached.clear();
    for (place, next) in positions {
        bounds.reach(&consumer, places, *place, *next)?;
    }
    Ok(consumer)
}

/// Looks at the records that follow for more of what is new, so that it comes in one step. Who goes on reads them
/// again.
fn look_on(consumer: &BaseConsumer<Watch>, decoder: &mut Decoder, mut found: Found) -> Found {
    let until = Instant::now() + LOOK_ON;
    for _ in 0..BATCH_RECORDS {
        if Instant::now() >= until {
            break;
        }
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(5)) {
            found::unite(&mut found, decoder.found(message.payload()));
        }
    }
    found
}

/// Hands on what came before, tells which columns are missing, and stands still: once they are there, another reader
/// goes on with the record that has them.
fn stand(
    decoder: &mut Decoder,
    (topic, found): (&str, Found),
    seen: Seen,
    reads: &channel::Sender<Read>,
    stop: &CancellationToken,
) -> Result<()> {
    if !decoder.is_empty() {
        let batch = Box::new(decoder.finish()?);
        if reads.blocking_send(Read::Batch(batch)).is_err() {
            return Ok(());
        }
    }
    let waiting = format!(
        "records of topic {topic} need columns, which are being added: {}",
        found::listed(&found)
    );
    let field = |(name, sql_type): (String, &str)| FoundField {
        topic: topic.to_owned(),
        name,
        r#type: sql_type.to_owned(),
    };
    let seen = Seen {
        waiting: Some(waiting),
        found: found.into_iter().map(field).collect(),
        ..seen
    };
    if reads.blocking_send(Read::Seen(seen)).is_err() {
        return Ok(());
    }
    while !stop.is_cancelled() {
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Stands still until the decoder can take the record, and tells why; false where there is no use any
/// more. A registry that is away, or does not have a schema yet, costs time and never a record.
fn wait(
    decoder: &mut Decoder,
    record: Record<'_>,
    (from, mut waiting): (String, String),
    seen: &Seen,
    reads: &channel::Sender<Read>,
    stop: &CancellationToken,
) -> bool {
    let (began, mut told) = (Instant::now(), None);
    while !stop.is_cancelled() {
        // A schema that comes at once is nothing to tell of.
        if began.elapsed() >= WAIT_UNTOLD && told.as_ref() != Some(&waiting) {
            let seen = Seen {
                waiting: Some(format!("{waiting}; the record at {from} waits for it")),
                ..seen.clone()
            };
            if reads.blocking_send(Read::Seen(seen)).is_err() {
                return false;
            }
            told = Some(waiting);
        }
        std::thread::sleep(WAIT_STEP);
        match decoder.waits(record) {
            Some(reason) => waiting = reason,
            None => {
                return told.is_none() || reads.blocking_send(Read::Seen(seen.clone())).is_ok();
            }
        }
    }
    false
}

/// Where partitions end by themselves, and which of them have.
struct Bounds {
    until: Positions,
    reached: BTreeSet<i32>,
}

impl Bounds {
    fn of(partitions: &BTreeMap<i32, Begin>) -> Self {
        let until = partitions.iter();
        Self {
            until: until
                .filter_map(|(place, begin)| Some((*place, begin.until?)))
                .collect(),
            reached: BTreeSet::new(),
        }
    }

    /// Whether a partition's bound is reached.
    fn has(&self, place: i32) -> bool {
        self.reached.contains(&place)
    }

    /// A position, or the bound before it.
    fn cap(&self, place: i32, position: i64) -> i64 {
        let until = self.until.get(&place);
        until.map_or(position, |until| position.min(*until))
    }

    /// Fetches no more of a partition whose bound is reached.
    fn reach(
        &mut self,
        consumer: &BaseConsumer<Watch>,
        places: &Places,
        place: i32,
        next: i64,
    ) -> Result<()> {
        if self.until.get(&place).is_none_or(|until| next < *until) {
            return Ok(());
        }
        if self.reached.insert(place) {
            let topic = places.topic(place);
            let mut paused = TopicPartitionList::new();
            paused.add_partition(topic, places.partition(place));
            consumer
                .pause(&paused)
                .map_err(|error| failed(topic, &error))?;
        }
        Ok(())
    }
}

/// Finds where reading begins. Kafka must still have what follows each table's own offset.
fn starts(
    consumer: &BaseConsumer<Watch>,
    places: &Places,
    partitions: &BTreeMap<i32, Begin>,
) -> Result<Positions> {
    let mut starts = Positions::new();
    for (place, begin) in partitions {
        let (topic, partition) = (places.topic(*place), places.partition(*place));
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, WATERMARKS_WITHIN)
            .map_err(|error| failed(topic, &error))?;
        starts.insert(*place, begin.start(topic, partition, low, high)?);
    }
    Ok(starts)
}

impl Begin {
    /// Where to begin in a partition that holds `[low, high)`.
    fn start(&self, topic: &str, partition: i32, low: i64, high: i64) -> Result<i64> {
        let (topic, first) = (topic.to_owned(), self.held.iter().min_by_key(|held| held.1));
        if let Some((table, wanted)) = first.filter(|(_, wanted)| **wanted < low) {
            return Err(Error::OffsetsLost {
                topic,
                partition,
                table: table.clone(),
                wanted: *wanted,
                low,
            });
        }
        let last = self.held.iter().max_by_key(|held| held.1);
        if let Some((table, wanted)) = last.filter(|(_, wanted)| **wanted > high) {
            return Err(Error::OffsetBeyondEnd {
                topic,
                partition,
                table: table.clone(),
                wanted: *wanted,
                high,
            });
        }
        Ok(match first {
            Some((_, first)) if !self.incomplete => *first,
            // A table without an offset needs all that is left. The others leave out what they have.
            _ => low,
        })
    }
}

/// The tables are the truth; this only shows other tools how far they are.
fn commit_for_lag_tools(consumer: &BaseConsumer<Watch>, places: &Places, next: &Positions) {
    let mut offsets = TopicPartitionList::new();
    for (place, offset) in next {
        let (topic, partition) = (places.topic(*place), places.partition(*place));
        let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(*offset));
    }
    if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
        tracing::debug!(topics = ?places.topics(), %error, "kafka did not take the committed positions");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn start(held: &[(&str, i64)], incomplete: bool) -> Result<i64> {
        let held = held
            .iter()
            .map(|(table, next)| ((*table).to_owned(), *next));
        let begin = Begin {
            held: held.collect(),
            incomplete,
            until: None,
        };
        begin.start("t", 0, 40, 90)
    }

    #[test]
    fn without_a_commit_reading_begins_at_what_kafka_still_has() {
        assert_eq!(start(&[], true).unwrap(), 40);
    }

    #[test]
    fn tables_go_on_from_the_one_that_is_furthest_behind() {
        assert_eq!(start(&[("rows", 70), ("letters", 50)], false).unwrap(), 50);
    }

    #[test]
    fn a_table_without_an_offset_gets_what_kafka_still_has() {
        assert_eq!(start(&[("rows", 70)], true).unwrap(), 40);
    }

    #[test]
    fn offsets_that_kafka_no_longer_has_are_named() {
        let error = start(&[("letters", 30), ("rows", 45)], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic t partition 0 begins at offset 40 now: [30, 40) are gone before table letters had them"
        );
        assert!(error.hint().unwrap().contains("retention"), "{error:?}");
        assert!(start(&[("rows", 30)], true).is_err());
    }

    #[test]
    fn a_topic_that_ends_before_a_table_was_made_anew() {
        let error = start(&[("rows", 91)], true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "topic t partition 0 ends at offset 90, but table rows goes on at 91"
        );
    }
}
