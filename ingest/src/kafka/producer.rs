//! An ordered, batching producer that says whether everything arrived.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::context::Observer;
use super::settings;
use crate::{Error, Result};

/// Deliveries are looked at once per this many records, so that sending stays cheap.
const POLL_EVERY: u64 = 256;
/// Above the largest record anyone sends on purpose; the broker has its own limit.
const MAX_RECORD: &str = "67108864";

/// Sends records in order per partition, in batches; a record with a key always goes to the
/// partition that Java clients choose for it.
///
/// Its calls block (for back-pressure, and in `flush`): on an async runtime, use a blocking thread.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    sent: AtomicU64,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// A producer for `brokers` (`host:port`, comma separated). `settings` go to librdkafka as they are.
    pub fn connect(brokers: &str, settings: &BTreeMap<String, String>) -> Result<Self> {
        let mut config = settings::client(brokers, settings)?;
        let defaults = [
            ("client.id", "drumline-producer"),
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            // What reads fastest: consumers cannot know how large a zstd batch becomes, and unpack it again and again.
            ("compression.codec", "lz4"),
            ("linger.ms", "20"),
            ("message.max.bytes", MAX_RECORD),
            ("queue.buffering.max.kbytes", "131072"),
            ("message.timeout.ms", "60000"),
        ];
        for (key, value) in defaults {
            if !settings.contains_key(key) {
                config.set(key, value);
            }
        }
        let deliveries = Deliveries {
            observer: Observer::of(&config)?,
            failed: Mutex::default(),
        };
        Ok(Self {
            inner: settings::create(&config, deliveries)?,
            sent: AtomicU64::new(0),
        })
    }

    /// Queues one record; waits while the queue is full. Without a timestamp the record gets the present.
    ///
    /// Fails with the first delivery that failed, so a broken broker stops the caller early.
    pub fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_millis: Option<i64>,
    ) -> Result<()> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.key = key;
        record.payload = value;
        record.timestamp = timestamp_millis;
        loop {
            match self.inner.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.inner.poll(Duration::from_millis(20));
                    self.inner.context().failure()?;
                }
                Err((error, _)) => {
                    return Err(Error::Delivery {
                        topic: topic.to_owned(),
                        reason: reason(&error),
                    });
                }
            }
        }
        if self
            .sent
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(POLL_EVERY)
        {
            self.inner.poll(Duration::ZERO);
            self.inner.context().failure()?;
        }
        Ok(())
    }

    /// Waits until every record so far is acknowledged by the brokers. Names the topic of the first
    /// that was not; records that are still unsent at `deadline` are a failure too.
    pub fn flush(&self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        while self.inner.in_flight_count() > 0 {
            self.inner.context().failure()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Undelivered {
                    records: self.inner.in_flight_count().unsigned_abs(),
                });
            }
            // A slice at a time, so that a failed delivery is seen at once. Its time-out is no failure.
            let _ = self.inner.flush(left.min(Duration::from_millis(200)));
        }
        self.inner.poll(Duration::ZERO);
        self.inner.context().failure()
    }
}

/// Remembers the first delivery that failed.
struct Deliveries {
    observer: Observer,
    failed: Mutex<Option<(String, String)>>,
}

impl Deliveries {
    fn failure(&self) -> Result<()> {
        match self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
        {
            Some((topic, reason)) => Err(Error::Delivery { topic, reason }),
            None => self.observer.refusal().map_or(Ok(()), Err),
        }
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.observer.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| (message.topic().to_owned(), reason(error)));
        }
    }
}

fn reason(error: &KafkaError) -> String {
    match error {
        KafkaError::MessageProduction(code) => code.to_string(),
        other => other.to_string(),
    }
}
