//! The demo's events: the shipped month, sent to Kafka of its own or to brokers that are given, and
//! how to tell that all of them are in the tables.

use std::collections::BTreeMap;

use drumline_client::proto::StreamStatus;
use drumline_events::Topic;
use drumline_ingest::kafka::EmbeddedKafka;
use tokio_util::sync::CancellationToken;

use crate::commands::replay::records;
use crate::failure::{Failure, OrFail as _, Result};
use crate::pump::{Pace, Pump};
use crate::sink::Sink;
use crate::terminal::Terminal;

const PARTITIONS: u32 = 4;

/// Where the demo's events come from.
pub(crate) struct Events {
    brokers: String,
    /// Kept: it ends with this.
    embedded: Option<EmbeddedKafka>,
}

impl Events {
    /// Kafka inside this process, or the given brokers; with the three topics.
    pub(crate) async fn open(brokers: Option<&str>) -> Result<Self> {
        let events = match brokers {
            Some(brokers) => Self {
                brokers: brokers.to_owned(),
                embedded: None,
            },
            None => {
                let embedded = EmbeddedKafka::start()?;
                for topic in Topic::ALL {
                    embedded.create_topic(topic.name(), PARTITIONS)?;
                }
                Self {
                    brokers: embedded.brokers().to_owned(),
                    embedded: Some(embedded),
                }
            }
        };
        Ok(events)
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Makes topics that are missing.
    pub(crate) async fn ensure_topics(&self) -> Result {
        if self.is_embedded() {
            return Ok(());
        }
        let topics: Vec<(&str, u32)> = Topic::ALL
            .iter()
            .map(|topic| (topic.name(), PARTITIONS))
            .collect();
        Ok(drumline_ingest::kafka::ensure_topics(&self.brokers, &BTreeMap::new(), &topics).await?)
    }

    /// Sends the shipped events; returns how many.
    pub(crate) async fn replay(&self, terminal: Terminal, stop: CancellationToken) -> Result<u64> {
        let replay = drumline_events::example::replay()?;
        let pump = Pump {
            sink: Sink::connected(&self.brokers)?,
            pace: Pace::Full,
            total: Some(replay.len() as u64),
            output: None,
            terminal,
        };
        Ok(pump.run(records(replay), stop).await?.events)
    }

    /// Ends the embedded Kafka; blocks until its thread is gone.
    pub(crate) async fn close(self) -> Result {
        tokio::task::spawn_blocking(move || drop(self))
            .await
            .or_fail(|| "embedded kafka".to_owned())
    }
}

/// How far a stream is: `(committed, end)`, in records; `None` while an end is not known.
pub(crate) fn caught_up(status: &StreamStatus) -> Result<Option<(u64, u64)>> {
    if status.state == "failing" {
        return Err(Failure::failed(format!(
            "stream {} fails: {}",
            status.name, status.last_error
        )));
    }
    if status.partitions.is_empty() || status.partitions.iter().any(|partition| partition.end < 0) {
        return Ok(None);
    }
    let sum = |of: fn(&drumline_client::proto::PartitionStatus) -> i64| {
        status
            .partitions
            .iter()
            .map(|partition| of(partition).max(0).unsigned_abs())
            .sum()
    };
    Ok(Some((
        sum(|partition| partition.committed),
        sum(|partition| partition.end),
    )))
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::PartitionStatus;

    use super::*;

    fn status(partitions: &[(i64, i64)]) -> StreamStatus {
        let partitions = partitions
            .iter()
            .map(|&(committed, end)| PartitionStatus {
                committed,
                end,
                ..Default::default()
            })
            .collect();
        StreamStatus {
            state: "running".to_owned(),
            partitions,
            ..Default::default()
        }
    }

    #[test]
    fn nothing_is_known_before_every_end_is() {
        assert_eq!(caught_up(&status(&[])).unwrap(), None);
        assert_eq!(caught_up(&status(&[(3, 3), (-1, -1)])).unwrap(), None);
    }

    #[test]
    fn positions_add_up_over_partitions() {
        assert_eq!(
            caught_up(&status(&[(3, 5), (-1, 7)])).unwrap(),
            Some((3, 12))
        );
    }

    #[test]
    fn a_failing_stream_is_not_waited_for() {
        let failing = StreamStatus {
            state: "failing".to_owned(),
            last_error: "no right to write".to_owned(),
            ..status(&[(0, 5)])
        };
        assert!(
            caught_up(&failing)
                .unwrap_err()
                .message
                .contains("no right to write")
        );
    }
}
