//! A topic as a table: what it holds now, and the records of given ranges of offsets.
//!
//! Nothing here takes part in a stream: no offsets are kept, and no positions committed. What is read is what a
//! reader of committed records sees between two offsets, however often it is asked. Read `read.rs` for when a
//! range is over, and `rows.rs` for how records become rows.

mod look;
mod read;
mod rows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use drumline_proto::v1;
use rdkafka::ClientConfig;
use tokio::sync::mpsc;

use self::read::Reading;
use self::rows::Rows;
use crate::host::Options;
use crate::kafka::settings;
use crate::{Error, Result};

/// Batches that wait for who reads them.
const BATCHES: usize = 2;

/// Bytes read ahead by one consumer: a statement has many.
const READ_AHEAD_KBYTES: &str = "8192";

/// Reads topics for statements.
#[derive(Debug, Clone)]
pub struct TopicScans {
    options: Options,
}

impl TopicScans {
    /// Transforms are planned in the options' sessions.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// What a topic holds now: its columns, and from where to where each partition can be read.
    pub async fn look(&self, look: &v1::LookAtTopic) -> v1::TopicSeen {
        let mut seen = v1::TopicSeen {
            id: look.id,
            ..Default::default()
        };
        if let Err(error) = look::look(&self.options, look, &mut seen).await {
            seen.failure = Some(error.failure());
        }
        seen
    }

    /// Reads a scan's one group of ranges, on a thread that ends with them, or when nobody takes what it reads.
    /// An error is the last thing that comes. Shape: the scan's wanted columns.
    pub async fn read(&self, scan: v1::TopicScan) -> Result<mpsc::Receiver<Result<RecordBatch>>> {
        let source = scan.source.unwrap_or_default();
        let (definition, topic) = parts(&source)?;
        let ranges = scan.groups.into_iter().flat_map(|group| group.ranges);
        let reading = Reading {
            topic: topic.topic.clone(),
            brokers: definition.brokers.clone(),
            config: config(&self.options, definition)?,
            ranges: ranges.collect(),
        };
        let columns: Vec<usize> = scan.columns.iter().map(|at| *at as usize).collect();
        let schema = schema_from(&scan.schema)?;
        let rows = Rows::new(&self.options, &source, &schema, &columns).await?;
        let (sender, receiver) = mpsc::channel(BATCHES);
        let purpose = format!("reading topic {}", reading.topic);
        std::thread::Builder::new()
            .name("topic-scan".to_owned())
            .spawn(move || {
                if let Err(error) = read::run(&reading, rows, &sender) {
                    // Who asked may have gone.
                    let _ = sender.blocking_send(Err(error));
                }
            })
            .map_err(|source| Error::Thread { purpose, source })?;
        Ok(receiver)
    }
}

fn parts(source: &v1::TopicSource) -> Result<(&v1::StreamDefinition, &v1::TopicDefinition)> {
    let definition = source.definition.as_ref();
    let parts = definition.and_then(|definition| Some((definition, definition.topics.first()?)));
    parts.ok_or_else(|| Error::Bug {
        context: "a topic is read without a definition of it".to_owned(),
    })
}

fn config(options: &Options, definition: &v1::StreamDefinition) -> Result<ClientConfig> {
    let mut config = settings::of_stream(definition, &options.secrets)?;
    config
        .set("statistics.interval.ms", "0")
        .set("queued.max.messages.kbytes", READ_AHEAD_KBYTES);
    Ok(config)
}

fn schema_from(ipc: &[u8]) -> Result<SchemaRef> {
    let reader = StreamReader::try_new(ipc, None).map_err(|error| Error::Bug {
        context: format!("the columns of a topic cannot be read: {error}"),
    })?;
    Ok(Arc::clone(&reader.schema()))
}
