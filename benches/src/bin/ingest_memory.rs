//! Resident memory of a worker that writes many folders of a topic with many partitions, inside a small budget.
//!
//! Every event goes to another folder than the one before it, so all folders stay open. The kernel's own figure is
//! read while the events are taken in: `VmRSS` now and then, and `VmHWM`, the most there ever was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use drumline_ingest::kafka::Producer;
use drumline_testkit::Kafka;
use drumline_testkit::cluster::{self, Cluster};

#[derive(Parser)]
#[command(about = "Resident memory of a worker with many open folders and Kafka partitions")]
struct Arguments {
    /// Folders that are open at the same time
    #[arg(long, default_value_t = 1_000)]
    folders: u64,
    /// Partitions of the topic
    #[arg(long, default_value_t = 64)]
    partitions: u32,
    /// Events of about 485 bytes
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Memory of the worker, in MiB: what it is started with, and what it has to stay inside
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// What of it streams may hold [default: a third]
    #[arg(long)]
    ingest_memory: Option<String>,
    /// Seconds between commits
    #[arg(long, default_value_t = 30)]
    flush_interval: u64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 900)]
    patience: u64,
}

const TOPIC: &str = "events";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kafka = Kafka::start()?;
    kafka.create_topics(&[(TOPIC, arguments.partitions)])?;
    let set = |key: &str, value: String| (format!("DRUMLINE_WORKER__{key}"), value);
    let mut environment = vec![set("MEMORY", format!("{}MiB", arguments.memory))];
    let ingest_memory = arguments.ingest_memory.clone();
    environment.extend(ingest_memory.map(|memory| set("INGEST_MEMORY", memory)));
    let mut cluster = Cluster::start(cluster::Options {
        workers: 1,
        environment,
        ..Default::default()
    })?;
    produce(&kafka, &arguments)?;
    let pid = cluster.worker(0)?.pid();
    println!("before      {} MiB resident", status(pid, "VmRSS:")? >> 10);
    cluster.apply_stream(&stream(&kafka, arguments.flush_interval))?;
    let (began, patience) = (Instant::now(), Duration::from_secs(arguments.patience));
    let events = i64::try_from(arguments.events)?;
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let rows = cluster.number("SELECT count(*) FROM events").unwrap_or(0);
        let (now, most) = (status(pid, "VmRSS:")? >> 10, status(pid, "VmHWM:")? >> 10);
        let seconds = began.elapsed().as_secs();
        println!(
            "{seconds:>4} s      {now} MiB resident, {most} MiB at most, {rows} rows committed"
        );
        match rows {
            rows if rows == events => break,
            rows if rows > events => bail!("{rows} rows of {events} events"),
            _ => ensure!(
                began.elapsed() < patience,
                "only {rows} rows of {events} events in time"
            ),
        }
    }
    let distinct = cluster.number("SELECT count(DISTINCT n) FROM events")?;
    ensure!(
        distinct == events,
        "{distinct} different events of {events}"
    );
    let folders = cluster.number("SELECT count(DISTINCT folder) FROM events")?;
    let most = status(pid, "VmHWM:")? >> 10;
    println!("folders     {folders}, partitions {}", arguments.partitions);
    println!(
        "at most     {most} MiB resident, of {} MiB",
        arguments.memory
    );
    ensure!(most <= arguments.memory, "that is too much");
    Ok(())
}

fn stream(kafka: &Kafka, flush_interval: u64) -> String {
    let texts = (0..8).map(|n| format!("text{n} = \"varchar\""));
    let texts = texts.collect::<Vec<_>>().join(", ");
    format!(
        "name = \"many\"\nbrokers = \"{}\"\nflush_interval = \"{flush_interval}s\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\npartition_by = [\"folder\"]\n\
         schema = {{ n = \"bigint\", folder = \"bigint\", at = \"bigint\", value = \"double\", {texts} }}\n",
        kafka.brokers()
    )
}

fn produce(kafka: &Kafka, arguments: &Arguments) -> Result<()> {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new())?;
    for n in 0..arguments.events {
        let folder = n % arguments.folders;
        // Not what compresses well: a hash in each text.
        let text = |at: u64| {
            let hash = (n * 8 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("\"text{at}\":\"{hash:016x}{:016x}\"", hash.rotate_left(17))
        };
        let texts = (0..8).map(text).collect::<Vec<_>>().join(",");
        let at = 1_541_106_106_796 + n;
        let value =
            format!("{{\"n\":{n},\"folder\":{folder},\"at\":{at},\"value\":{n}.5,{texts}}}");
        let key = n.to_string();
        producer.send(TOPIC, Some(key.as_bytes()), Some(value.as_bytes()), None)?;
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(())
}

/// A line of the kernel's page about a process, in KiB.
fn status(pid: u32, line: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = text.lines().find_map(|text| text.strip_prefix(line));
    let number = found.and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("the kernel tells no {line} of process {pid}"))?;
    Ok(number.parse()?)
}
