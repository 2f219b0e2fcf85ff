//! Records that keep coming while things break: in transactions, some of them aborted, some malformed.
//!
//! Nothing is counted here: what a reader of committed records finds in the end is the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const LIMIT: Duration = Duration::from_secs(20);
/// Records of a transaction, and the pause after it.
const RECORDS: u64 = 120;
const PAUSE: Duration = Duration::from_millis(60);

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    pub(crate) fn start(brokers: &str, topic: &str, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (brokers, topic, stopped) = (brokers.to_owned(), topic.to_owned(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || produce(&brokers, &topic, seed, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .map_err(|_| anyhow!("the producer panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn produce(brokers: &str, topic: &str, seed: u64, stop: &AtomicBool) -> Result<()> {
    let mut n = seed * 1_000_000;
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        // Fences whatever its predecessor left open.
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", format!("load-{topic}"))
            .set("transaction.timeout.ms", "15000")
            .set("linger.ms", "1")
            // Partitions that are added get records soon.
            .set("topic.metadata.refresh.interval.ms", "1000")
            .create()
            .context("no producer")?;
        if producer.init_transactions(LIMIT).is_err() {
            continue;
        }
        while !stop.load(Ordering::SeqCst) {
            round += 1;
            // A broker that goes away spoils a transaction, and sometimes the producer with it.
            if transaction(&producer, topic, &mut n, round % 6 == 5).is_err()
                && producer.abort_transaction(LIMIT).is_err()
            {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn transaction(producer: &BaseProducer, topic: &str, n: &mut u64, abort: bool) -> KafkaResult<()> {
    producer.begin_transaction()?;
    for _ in 0..RECORDS {
        *n += 1;
        let key = n.to_string();
        let value = match *n % 41 {
            0 => format!("{{\"n\":\"not a number {n}\"}}"),
            _ => format!("{{\"n\":{n}}}"),
        };
        producer
            .send(BaseRecord::to(topic).key(&key).payload(&value))
            .map_err(|(error, _)| error)?;
    }
    producer.flush(LIMIT)?;
    match abort {
        true => producer.abort_transaction(LIMIT),
        false => producer.commit_transaction(LIMIT),
    }
}
