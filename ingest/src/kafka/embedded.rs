//! A Kafka cluster inside this process, for the demo and for tests.

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;

use crate::{Error, Result};

/// librdkafka's mock cluster, listening on loopback until it is dropped.
///
/// It speaks the real protocol, so any Kafka client can use it. Its limits: data lives in memory;
/// a partition keeps 5 MiB or 100,000 batches and then drops its oldest batches *silently*;
/// transactions are accepted, but uncommitted records are visible; topics cannot be created over
/// the wire. Use it for small data and fault tests, never for volume.
#[derive(Debug)]
pub struct EmbeddedKafka {
    brokers: String,
    // `None` only while dropping: closing the channel is what ends the thread.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    CreateTopic {
        topic: String,
        partitions: i32,
        answer: mpsc::Sender<KafkaResult<()>>,
    },
    SetReachable {
        reachable: bool,
        answer: mpsc::Sender<KafkaResult<()>>,
    },
}

impl EmbeddedKafka {
    /// Starts a cluster with one broker.
    pub fn start() -> Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let (started, start) = mpsc::channel();
        // The mock cluster's handle may not change threads, so one thread holds it.
        let thread = std::thread::Builder::new()
            .name("embedded-kafka".to_owned())
            .spawn(move || match MockCluster::new(1) {
                Ok(cluster) => {
                    let _ = started.send(Ok(cluster.bootstrap_servers()));
                    serve(&cluster, &inbox);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(|error| Error::Embedded {
                reason: error.to_string(),
            })?;
        let brokers = start
            .recv()
            .map_err(|_| gone())?
            .map_err(|error| Error::Embedded {
                reason: error.to_string(),
            })?;
        Ok(Self {
            brokers,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// Where clients connect: `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Makes a topic. One that is there already is an error.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        let partitions = i32::try_from(partitions).map_err(|_| Error::Embedded {
            reason: "too many partitions".to_owned(),
        })?;
        self.ask(|answer| Command::CreateTopic {
            topic: topic.to_owned(),
            partitions,
            answer,
        })
    }

    /// Cuts all connections and refuses new ones, or accepts them again.
    pub fn set_reachable(&self, reachable: bool) -> Result<()> {
        self.ask(|answer| Command::SetReachable { reachable, answer })
    }

    fn ask(&self, command: impl FnOnce(mpsc::Sender<KafkaResult<()>>) -> Command) -> Result<()> {
        let (answer, answered) = mpsc::channel();
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command(answer)).map_err(|_| gone())?;
        answered
            .recv()
            .map_err(|_| gone())?
            .map_err(|error| Error::Embedded {
                reason: error.to_string(),
            })
    }
}

fn serve(
    cluster: &MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    inbox: &mpsc::Receiver<Command>,
) {
    for command in inbox {
        // An asker that has gone away needs no answer.
        let _ = match command {
            Command::CreateTopic {
                topic,
                partitions,
                answer,
            } => answer.send(cluster.create_topic(&topic, partitions, 1)),
            Command::SetReachable {
                reachable: true,
                answer,
            } => answer.send(cluster.broker_up(-1)),
            Command::SetReachable {
                reachable: false,
                answer,
            } => answer.send(cluster.broker_down(-1)),
        };
    }
}

fn gone() -> Error {
    Error::Embedded {
        reason: "its thread has ended".to_owned(),
    }
}

impl Drop for EmbeddedKafka {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
