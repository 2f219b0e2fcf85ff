//! Where replayed and generated events go: Kafka, a folder of JSON lines, or stdout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use drumline_events::Topic;
use drumline_ingest::kafka::{Producer, ensure_topics};

use crate::failure::{Failure, OrFail as _, Result};
use crate::output::{Written, written};

const BUFFER: usize = 1 << 20;
/// How long the brokers may take to acknowledge what is still under way at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(120);

/// `--brokers`, `--output` and what goes with them; shared by `replay` and `generate`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct SinkArg {
    #[command(flatten)]
    place: Place,
    /// Partitions of topics that are made because they are missing
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "output", value_parser = clap::value_parser!(u32).range(1..=1000))]
    topics_partitions: u32,
    /// Setting passed on to librdkafka, e.g. security.protocol=SSL; ${env:NAME} and ${file:PATH} are opened; may be repeated
    #[arg(long = "kafka", value_name = "KEY=VALUE", conflicts_with = "output", value_parser = crate::commands::setting)]
    kafka: Vec<(String, String)>,
}

/// Where events go: one of the two.
#[derive(Debug, clap::Args)]
#[group(id = "to", required = true, multiple = false)]
struct Place {
    /// Kafka brokers to send to, host:port, comma separated
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Folder to write TOPIC.jsonl files to; `-` writes {topic, key, ts, value} lines to stdout
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl SinkArg {
    /// The folder that was given, if one was.
    pub(crate) fn output(&self) -> Option<PathBuf> {
        self.place
            .output
            .clone()
            .filter(|path| path.as_os_str() != "-")
    }

    /// Opens the way out, and makes topics that are missing.
    pub(crate) async fn open(&self) -> Result<Sink> {
        match (&self.place.brokers, &self.place.output) {
            (Some(brokers), _) => {
                let settings: BTreeMap<String, String> = self.kafka.iter().cloned().collect();
                Sink::kafka(brokers, &settings, self.topics_partitions).await
            }
            (None, Some(path)) if path.as_os_str() == "-" => Ok(Sink::Stdout(
                BufWriter::with_capacity(BUFFER, std::io::stdout()),
            )),
            (None, Some(path)) => Sink::folder(path),
            (None, None) => Err(Failure::usage(
                "neither --brokers nor --output says where events go",
            )),
        }
    }
}

/// An open way out.
pub(crate) enum Sink {
    Kafka { producer: Producer, brokers: String },
    Folder(BTreeMap<&'static str, BufWriter<File>>),
    Stdout(BufWriter<std::io::Stdout>),
}

impl Sink {
    async fn kafka(
        brokers: &str,
        settings: &BTreeMap<String, String>,
        partitions: u32,
    ) -> Result<Self> {
        let topics: Vec<(&str, u32)> = Topic::ALL
            .iter()
            .map(|topic| (topic.name(), partitions))
            .collect();
        ensure_topics(brokers, settings, &topics).await?;
        Ok(Self::Kafka {
            producer: Producer::connect(brokers, settings)?,
            brokers: brokers.to_owned(),
        })
    }

    /// Kafka whose topics are there.
    pub(crate) fn connected(brokers: &str) -> Result<Self> {
        Ok(Self::Kafka {
            producer: Producer::connect(brokers, &BTreeMap::new())?,
            brokers: brokers.to_owned(),
        })
    }

    fn folder(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .or_usage(|| format!("cannot write to folder {}", path.display()))?;
        let mut files = BTreeMap::new();
        for topic in Topic::ALL {
            let file = path.join(format!("{}.jsonl", topic.name()));
            let open = File::create_new(&file).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    Failure::usage(format!("{} is there already", file.display()))
                        .hint("give an empty folder, or remove the file")
                }
                _ => Failure::usage(format!("cannot write {}: {error}", file.display())),
            })?;
            files.insert(topic.name(), BufWriter::with_capacity(BUFFER, open));
        }
        Ok(Self::Folder(files))
    }

    /// One record. May block for back-pressure.
    pub(crate) fn send(
        &mut self,
        topic: Topic,
        key: &str,
        ts_millis: i64,
        json: &[u8],
    ) -> Result<Written> {
        match self {
            Self::Kafka { producer, .. } => {
                producer.send(
                    topic.name(),
                    Some(key.as_bytes()),
                    Some(json),
                    Some(ts_millis),
                )?;
                Ok(Written::Yes)
            }
            Self::Folder(files) => {
                let Some(file) = files.get_mut(topic.name()) else {
                    return Err(Failure::failed(format!(
                        "no file is open for topic {topic}"
                    )));
                };
                file.write_all(json)
                    .and_then(|()| file.write_all(b"\n"))
                    .or_fail(|| format!("cannot write {topic}.jsonl"))?;
                Ok(Written::Yes)
            }
            Self::Stdout(out) => {
                let key = serde_json::Value::from(key);
                let line = write!(
                    out,
                    "{{\"topic\":\"{topic}\",\"key\":{key},\"ts\":{ts_millis},\"value\":"
                )
                .and_then(|()| out.write_all(json))
                .and_then(|()| out.write_all(b"}\n"));
                written(line)
            }
        }
    }

    /// What is buffered so far goes out; for a stream of events at a rate.
    pub(crate) fn flush(&mut self) -> Result<Written> {
        match self {
            Self::Kafka { .. } => Ok(Written::Yes),
            Self::Folder(files) => {
                for (topic, file) in files {
                    file.flush()
                        .or_fail(|| format!("cannot write {topic}.jsonl"))?;
                }
                Ok(Written::Yes)
            }
            Self::Stdout(out) => written(out.flush()),
        }
    }

    /// Waits until everything has arrived.
    pub(crate) fn finish(mut self) -> Result {
        self.flush()?;
        match self {
            Self::Kafka { producer, .. } => Ok(producer.flush(FLUSH_DEADLINE)?),
            Self::Folder(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Where events went, for people.
    pub(crate) fn place(&self, output: Option<&Path>) -> String {
        match (self, output) {
            (Self::Kafka { brokers, .. }, _) => format!("Kafka at {brokers}"),
            (Self::Folder(_), Some(path)) => path.display().to_string(),
            (Self::Folder(_) | Self::Stdout(_), _) => "stdout".to_owned(),
        }
    }
}

impl From<drumline_ingest::Error> for Failure {
    fn from(error: drumline_ingest::Error) -> Self {
        let code = match error.kind() {
            drumline_lake::ErrorKind::User => crate::failure::Code::Usage,
            drumline_lake::ErrorKind::Retryable => crate::failure::Code::Unreachable,
            drumline_lake::ErrorKind::Bug => crate::failure::Code::Failed,
        };
        Failure::new(code, error.to_string()).hint(error.hint().unwrap_or_default())
    }
}
