//! The plain Python consumer that Drumline replaces: what it reads of Beat~lytica's topics is what the lake is to hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, Options};
use crate::engines::run_script;
use crate::kafka::Kafka;
use crate::process::poll;
use crate::streams::{EXAMPLE_TOPICS, example_stream};

const SCRIPT: &str = include_str!("plain_consumer.py");

/// Without a new row for so long, the stream stands.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was compared, and how long each part took.
#[derive(Debug)]
pub struct Compared {
    /// Records of each topic, each equal to its row.
    pub records: BTreeMap<String, u64>,
    /// Until Kafka had all events.
    pub sent: Duration,
    /// From the stream's definition to the last row.
    pub committed: Duration,
    /// What the plain consumer took.
    pub compared: Duration,
}

/// Generates events of the three topics, has the example stream read them, and compares.
pub fn end_to_end(events: u64, flush_interval: Duration) -> Result<Compared> {
    let kafka = Kafka::start()?;
    kafka.create_topics(&EXAMPLE_TOPICS)?;
    let cluster = Cluster::start(Options::default())?;
    let begun = Instant::now();
    let (number, brokers) = (events.to_string(), kafka.brokers());
    let sent = cluster.run(&[
        "generate",
        "--quiet",
        "--events",
        &number,
        "--brokers",
        &brokers,
    ])?;
    ensure!(
        sent.status.success(),
        "generate: {}",
        String::from_utf8_lossy(&sent.stderr)
    );
    let sent = begun.elapsed();

    let begun = Instant::now();
    cluster.apply_stream(&example_stream(&brokers, flush_interval)?)?;
    let rows = EXAMPLE_TOPICS.map(|(table, _)| format!("(SELECT count(*) FROM {table})"));
    let rows = format!("SELECT {}", rows.join(" + "));
    let mut before = 0;
    while before < events {
        before = poll("more rows", PATIENCE, || {
            let rows = cluster.number(&rows).ok();
            let rows = rows.and_then(|rows| u64::try_from(rows).ok());
            Ok(rows.filter(|rows| *rows > before))
        })?;
    }
    let committed = begun.elapsed();

    let begun = Instant::now();
    let topics = EXAMPLE_TOPICS.map(|(topic, _)| topic);
    let records = compare(&brokers, Path::new(cluster.lake()), &topics)?;
    let all: u64 = records.values().sum();
    ensure!(
        all == events,
        "{events} events were sent, the topics hold {records:?}"
    );
    Ok(Compared {
        records,
        sent,
        committed,
        compared: begun.elapsed(),
    })
}

/// Compares every record of some topics with its row in the bare folder of the same name, field by field. Answers with
/// how many each topic has; an error shows the first difference.
pub fn compare(brokers: &str, lake: &Path, topics: &[&str]) -> Result<BTreeMap<String, u64>> {
    let arguments = [OsStr::new(brokers), lake.as_os_str()];
    let topics = topics.iter().map(OsStr::new);
    let records = run_script(SCRIPT, arguments.into_iter().chain(topics))?;
    Ok(serde_json::from_slice(&records)?)
}
