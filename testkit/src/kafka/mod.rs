//! A real Apache Kafka: one broker in KRaft mode, in a process of its own and a folder of its own.
//!
//! `cargo xtask setup` brings the jars from Maven; nothing here downloads.

pub mod secured;
pub mod several;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use self::secured::Secured;
use crate::process::{Process, free_port};

/// The pinned version; `xtask setup` reads the same file.
pub const VERSION: &str = include_str!("../../kafka.version").trim_ascii();

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running broker. Dropping it kills it and removes its data.
pub struct Kafka {
    process: Process,
    port: u16,
    properties: PathBuf,
    secured: Option<Secured>,
    folder: tempfile::TempDir,
}

impl Kafka {
    /// Formats a new folder and starts a broker on free ports; ready when it returns.
    pub fn start() -> Result<Self> {
        Self::start_with(false)
    }

    /// The same, with listeners that ask who comes besides: [`Kafka::secured`].
    pub fn start_secured() -> Result<Self> {
        Self::start_with(true)
    }

    fn start_with(is_secured: bool) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("drumline-kafka-")
            .tempdir()?;
        let (port, controller) = (free_port()?, free_port()?);
        let properties = folder.path().join("server.properties");
        let secured = match is_secured {
            true => Some(Secured::new(free_port()?, free_port()?, folder.path())?),
            false => None,
        };
        std::fs::write(
            &properties,
            settings(
                port,
                controller,
                &folder.path().join("log"),
                secured.as_ref(),
            ),
        )?;
        let mut words = vec!["--standalone".to_owned()];
        words.extend(secured.iter().flat_map(|_| Secured::users()));
        format(folder.path(), &properties, &cluster_id(), &words)?;
        let process = broker(folder.path(), &properties)?;
        let mut kafka = Self {
            process,
            port,
            properties,
            secured,
            folder,
        };
        kafka.wait_until_ready()?;
        Ok(kafka)
    }

    /// `127.0.0.1:PORT`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The listeners that ask who comes, of a broker that was started with them.
    pub fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// The broker's process, to freeze it, say.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the broker and starts it again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = broker(self.folder.path(), &self.properties)?;
        self.wait_until_ready()
    }

    /// Creates topics with their numbers of partitions; those that are there stay as they are.
    pub fn create_topics(&self, topics: &[(&str, u32)]) -> Result<()> {
        wire::create_topics(self.port, topics, 1).context("cannot create topics")
    }

    /// Gives a topic more partitions, so that it has `total`.
    pub fn grow_topic(&self, topic: &str, total: u32) -> Result<()> {
        wire::create_partitions(self.port, topic, total).context("cannot add partitions")
    }

    /// Drops a partition's records below `before`, as retention does.
    pub fn drop_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        wire::delete_records(self.port, topic, partition, before).context("cannot drop records")
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let port = self.port;
        self.process.wait_until("ready", READY_WITHIN, || {
            wire::known_brokers(port).is_ok_and(|known| known > 0)
        })
    }
}

/// A new cluster's id.
fn cluster_id() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes())
}

/// Formats the data folder that `properties` names.
fn format(folder: &Path, properties: &Path, id: &str, words: &[String]) -> Result<()> {
    let format = java(folder, "-Xmx64m", "kafka.tools.StorageTool")?
        .arg("format")
        // An id may begin with a dash.
        .arg(format!("--cluster-id={id}"))
        .arg("-c")
        .arg(properties)
        .args(words)
        .output()
        .context("cannot run java: `cargo xtask setup` installs it")?;
    ensure!(
        format.status.success(),
        "kafka storage format failed: {}{}",
        String::from_utf8_lossy(&format.stdout),
        String::from_utf8_lossy(&format.stderr)
    );
    Ok(())
}

fn broker(folder: &Path, properties: &Path) -> Result<Process> {
    let mut command = java(folder, "-Xmx384m", "kafka.Kafka")?;
    command.arg(properties);
    Process::start("kafka", command, folder)
}

/// A `java` that runs `main` from the installed jars.
fn java(folder: &Path, heap: &str, main: &str) -> Result<Command> {
    let jars = jars()?;
    let mut command = Command::new("java");
    command
        .args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-Dorg.apache.logging.log4j.level=WARN")
        .arg(format!("-Djava.io.tmpdir={}", folder.display()))
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(main);
    Ok(command)
}

fn jars() -> Result<PathBuf> {
    let jars = cache_folder()?.join(format!("kafka-{VERSION}"));
    ensure!(
        jars.join(format!("kafka_2.13-{VERSION}.jar")).exists(),
        "Apache Kafka {VERSION} is not in {}: run `cargo xtask setup`",
        jars.display()
    );
    Ok(jars)
}

/// Where `xtask setup` puts what it brings: below the user's cache folder.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("drumline"))
}

fn settings(port: u16, controller: u16, data: &Path, secured: Option<&Secured>) -> String {
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let mut more = String::new();
    if let Some(secured) = secured {
        let Secured { sasl, tls, .. } = secured;
        listeners += &format!(",SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}");
        more = secured.properties();
    }
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners={listeners}\n\
         advertised.listeners={listeners}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         message.max.bytes=33554432\n\
         replica.fetch.max.bytes=33554432\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.backoff.ms=500\n\
         log.retention.ms=-1\n{more}",
        data.display()
    )
}
