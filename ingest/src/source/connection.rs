//! A source's connection to the brokers: opened, given its partitions, and left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::failed;
use super::watch::Watch;
use crate::Result;
use crate::kafka::settings;
use crate::machine::Positions;
use crate::places::Places;

/// How long brokers have to let us in.
const LET_IN_WITHIN: Duration = Duration::from_secs(10);
/// Events that are taken at once.
const EVENTS: usize = 64;

/// Connects, and waits until a broker has let us in: whoever asks before gets no answer, and no reason.
pub(super) fn open(
    config: &ClientConfig,
    topic: &str,
    places: &Places,
) -> Result<Arc<BaseConsumer<Watch>>> {
    let watch = Watch::new(places.clone(), config)?;
    let consumer: BaseConsumer<Watch> = settings::create(config, watch)?;
    let first = places.topics().first().map(String::as_str);
    let begun = Instant::now();
    loop {
        // Events alone: nothing is assigned yet.
        let _ = consumer.poll(Duration::from_millis(1));
        match consumer.fetch_metadata(first, Duration::from_secs(1)) {
            Ok(_) => return Ok(Arc::new(consumer)),
            Err(error) => {
                for _ in 0..EVENTS {
                    let _ = consumer.poll(Duration::from_millis(1));
                }
                if let Some(refused) = consumer.context().observer().refusal() {
                    return Err(refused);
                }
                if begun.elapsed() >= LET_IN_WITHIN {
                    return Err(failed(topic, &error));
                }
            }
        }
    }
}

/// Reads these partitions from these positions on.
pub(super) fn assign(
    consumer: &BaseConsumer<Watch>,
    places: &Places,
    positions: &Positions,
) -> Result<()> {
    let mut assignment = TopicPartitionList::new();
    for (place, position) in positions {
        let (topic, partition) = (places.topic(*place), places.partition(*place));
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(*position))
            .map_err(|error| failed(topic, &error))?;
    }
    consumer
        .assign(&assignment)
        .map_err(|error| failed(&places.topics().join(", "), &error))
}

/// Leaves a connection behind. That waits for a broker which may never answer, so not here.
pub(super) fn close(consumer: Arc<BaseConsumer<Watch>>) {
    let closing = std::thread::Builder::new().name("ingest-closing".to_owned());
    if let Err(error) = closing.spawn(move || drop(consumer)) {
        tracing::warn!(%error, "a connection to kafka was closed at once");
    }
}
