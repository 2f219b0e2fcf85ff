//! A Kafka cluster of several brokers, each in a rack of its own; the first is its controller, too.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{READY_WITHIN, broker, cluster_id, format, wire};
use crate::process::{Process, free_port, poll};

/// How soon a broker that says nothing counts as gone.
const SESSION: Duration = Duration::from_secs(3);

/// So many brokers are much for a small machine: one cluster of them runs at once in a process.
static ALONE: Mutex<()> = Mutex::new(());

/// Running brokers, numbered from 1. Dropping them kills them and removes their data.
pub struct Brokers {
    nodes: Vec<Node>,
    // Behind them, so that processes end before their folders go.
    _folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

struct Node {
    port: u16,
    folder: PathBuf,
    process: Process,
}

impl Brokers {
    /// Starts so many brokers, once no others run; ready when each knows all.
    pub fn start(count: u16) -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new()
            .prefix("drumline-brokers-")
            .tempdir()?;
        let (controller, id) = (free_port()?, cluster_id());
        let mut nodes = Vec::new();
        for number in 1..=count {
            let (port, own) = (free_port()?, folder.path().join(number.to_string()));
            std::fs::create_dir_all(&own)?;
            let properties = own.join("server.properties");
            std::fs::write(&properties, settings(number, port, controller, &own))?;
            let role = match number {
                1 => "--standalone",
                _ => "--no-initial-controllers",
            };
            format(&own, &properties, &id, &[role.to_owned()])?;
            nodes.push(Node {
                port,
                process: broker(&own, &properties)?,
                folder: own,
            });
        }
        let brokers = Self {
            nodes,
            _alone: alone,
            _folder: folder,
        };
        brokers.wait_until_whole()?;
        Ok(brokers)
    }

    /// `127.0.0.1:PORT` of each, with commas.
    pub fn brokers(&self) -> String {
        let each = self.nodes.iter();
        let each: Vec<String> = each
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        each.join(",")
    }

    /// Makes a topic that every broker has.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        let replicas = i16::try_from(self.nodes.len())?;
        wire::create_topics(self.node(1)?.port, &[(topic, partitions)], replicas)
            .with_context(|| format!("cannot create topic {topic}"))
    }

    /// Makes a topic whose partitions are on these brokers, led by the first of them while it is there.
    pub fn create_placed_topic(&self, topic: &str, partitions: &[&[i32]]) -> Result<()> {
        wire::create_placed_topic(self.node(1)?.port, topic, partitions)
            .with_context(|| format!("cannot create topic {topic}"))
    }

    /// The process of a broker, to kill or freeze it.
    pub fn process(&mut self, number: i32) -> Result<&mut Process> {
        let at = usize::try_from(number - 1)?;
        let node = self.nodes.get_mut(at);
        Ok(&mut node.with_context(|| format!("no broker {number}"))?.process)
    }

    /// Starts a broker that was killed again, on the same port and data.
    pub fn start_again(&mut self, number: i32) -> Result<()> {
        let folder = self.node(number)?.folder.clone();
        *self.process(number)? = broker(&folder, &folder.join("server.properties"))?;
        self.wait_until_whole()
    }

    fn node(&self, number: i32) -> Result<&Node> {
        let node = self.nodes.get(usize::try_from(number - 1)?);
        node.with_context(|| format!("no broker {number}"))
    }

    fn wait_until_whole(&self) -> Result<()> {
        let count = i32::try_from(self.nodes.len())?;
        poll("all brokers know each other", READY_WITHIN, || {
            let known =
                |node: &Node| wire::known_brokers(node.port).is_ok_and(|known| known == count);
            Ok(self.nodes.iter().all(known).then_some(()))
        })
    }
}

fn settings(number: u16, port: u16, controller: u16, folder: &std::path::Path) -> String {
    let (roles, more) = match number {
        1 => (
            "broker,controller",
            format!(",CONTROLLER://127.0.0.1:{controller}"),
        ),
        _ => ("broker", String::new()),
    };
    format!(
        "process.roles={roles}\n\
         node.id={number}\n\
         broker.rack=rack-{number}\n\
         replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port}{more}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         min.insync.replicas=2\n\
         broker.session.timeout.ms={session}\n\
         broker.heartbeat.interval.ms={heartbeat}\n\
         replica.lag.time.max.ms={session}\n\
         leader.imbalance.check.interval.seconds=5\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=2\n\
         group.initial.rebalance.delay.ms=0\n",
        data = folder.join("log").display(),
        session = SESSION.as_millis(),
        heartbeat = SESSION.as_millis() / 3,
    )
}
