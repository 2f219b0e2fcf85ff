//! What a topic holds at this moment.

use std::collections::HashMap;
use std::time::Duration;

use drumline_proto::v1;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::{config, parts, rows};
use crate::host::Options;
use crate::kafka::context::{self, Asker};
use crate::kafka::ids::topic_ids;
use crate::kafka::similar;
use crate::{Error, Result, probe};

/// How long a broker may take for one answer.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn look(
    options: &Options,
    look: &v1::LookAtTopic,
    seen: &mut v1::TopicSeen,
) -> Result<()> {
    let source = look.source.clone().unwrap_or_default();
    let (definition, topic) = parts(&source)?;
    // What needs no network first.
    seen.schema = match source.rows() {
        v1::TopicRows::Table => source.table_schema.clone(),
        _ => probe::ipc(rows::schema(&source).await?.as_ref())?,
    };
    let config = config(options, definition)?;
    let (topic, times) = (topic.topic.clone(), look.times.clone());
    let for_table = source.rows() == v1::TopicRows::Table;
    let asked = tokio::task::spawn_blocking(move || {
        let client = context::asker(&config)?;
        let asking = Asking { client, topic };
        let partitions = asking.partitions()?;
        let times = asking.times(&partitions, &times)?;
        // Last: what was seen before is then of this topic, or of one that is gone.
        let id = for_table.then(|| asking.id()).transpose()?;
        Ok::<_, Error>((partitions, times, id.unwrap_or_default()))
    });
    (seen.partitions, seen.times, seen.topic_id) = asked.await.map_err(|error| Error::Bug {
        context: format!("a question to the brokers did not end: {error}"),
    })??;
    Ok(())
}

/// One client for all questions: to connect is what takes time.
struct Asking {
    client: Asker,
    topic: String,
}

impl Asking {
    fn unreachable(&self, error: &KafkaError) -> Error {
        context::unreachable(&self.client, WITHIN, error)
    }

    /// From the first record to the last stable offset.
    fn partitions(&self) -> Result<Vec<v1::TopicRange>> {
        // The whole list: asking for a topic by name makes some brokers create it.
        let metadata = context::metadata(&self.client, WITHIN)?;
        let mut topics = metadata.topics().iter();
        let Some(found) = topics.find(|topic| topic.name() == self.topic) else {
            let present = metadata.topics().iter().map(|topic| topic.name());
            return Err(Error::UnknownTopic {
                topic: self.topic.clone(),
                candidates: similar(&self.topic, present),
            });
        };
        let range = |partition: i32| {
            let (from, to) = self
                .client
                .fetch_watermarks(&self.topic, partition, WITHIN)
                .map_err(|error| self.unreachable(&error))?;
            Ok(v1::TopicRange {
                partition,
                from,
                to,
            })
        };
        let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
        partitions.sort_unstable();
        partitions.into_iter().map(range).collect()
    }

    /// Kafka's id of the topic; nothing where the brokers give none.
    fn id(&self) -> Result<String> {
        let asked = [self.topic.clone()];
        let ids = topic_ids(self.client.client(), &asked, WITHIN).map_err(|code| Error::Read {
            topic: self.topic.clone(),
            reason: format!("its id: {code}"),
            passing: true,
        })?;
        Ok(ids.get(&self.topic).cloned().unwrap_or_default())
    }

    fn times(&self, partitions: &[v1::TopicRange], times: &[i64]) -> Result<Vec<v1::TopicTime>> {
        if times.is_empty() {
            return Ok(Vec::new());
        }
        // Who knows no record since 1970 does not know times: nothing follows from its silence.
        let any = self.since(partitions, 0)?;
        let time = |millis: &i64| {
            // One earlier: an index of times may point behind the first of several records of one instant.
            let found = self.since(partitions, millis.saturating_sub(1).max(0))?;
            let offset = |range: &v1::TopicRange| match found.get(&range.partition) {
                Some(offset) => Some((range.partition, *offset)),
                None if any.contains_key(&range.partition) => None,
                None => Some((range.partition, range.from)),
            };
            Ok(v1::TopicTime {
                millis: *millis,
                offsets: partitions.iter().filter_map(offset).collect(),
            })
        };
        times.iter().map(time).collect()
    }

    /// The first record of each partition that is not older than an instant.
    fn since(&self, partitions: &[v1::TopicRange], millis: i64) -> Result<HashMap<i32, i64>> {
        let mut asked = TopicPartitionList::new();
        for range in partitions {
            asked
                .add_partition_offset(&self.topic, range.partition, Offset::Offset(millis))
                .map_err(|error| self.unreachable(&error))?;
        }
        let found = self
            .client
            .offsets_for_times(asked, WITHIN)
            .map_err(|error| self.unreachable(&error))?;
        let mut offsets = HashMap::new();
        for element in found.elements() {
            element.error().map_err(|error| self.unreachable(&error))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}
