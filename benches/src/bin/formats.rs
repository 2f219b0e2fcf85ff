//! What ten schema versions mixed in one topic cost beside one: processor time of the worker for each event, and files.
//!
//! The same listening events in Avro, through a real broker and registry, one worker on one core. Every version has the
//! same fields, written in another order, so that both kinds have as many bytes and the same columns: nothing but the
//! mixing differs. Rounds alternate, and the medians of their ratios count, so that a slow minute hits both.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use drumline_benches::connect;
use drumline_benches::stream::{processor_time, wait_for_rows};
use drumline_client::stream_file;
use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{self, Cluster};
use drumline_testkit::{Kafka, Registry};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Ten schema versions of Avro mixed in one topic, beside one")]
struct Arguments {
    /// Events of each kind
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How often each kind is measured
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

const VERSIONS: u64 = 10;
const TEXTS: [(&str, &str); 12] = [
    ("artist", "Kings Of Leon"),
    ("song", "Use Somebody (Live at the Theatre)"),
    ("auth", "Logged In"),
    ("level", "paid"),
    ("city", "San Jose-Sunnyvale-Santa Clara"),
    ("zip", "95113"),
    ("state", "CA"),
    (
        "userAgent",
        "\"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985.143 Safari/537.36\"",
    ),
    ("lastName", "Hernandez-Castellanos"),
    ("firstName", "Maximilian Alexander"),
    ("gender", "M"),
    (
        "referrer",
        "https://play.example.org/albums/only-by-the-night/tracks/04?source=recommendations&position=17&session=8f2c1d77-4a0e-49a8-9d6b-52f0c7d1b6a3",
    ),
];

/// The fields that versions have in different places.
fn moving(version: u64) -> impl Iterator<Item = u64> {
    (0..VERSIONS).map(move |at| (at + version) % VERSIONS)
}

fn schema(version: u64) -> String {
    let mut fields = vec![
        json!({ "name": "ts", "type": "long" }),
        json!({ "name": "duration", "type": "double" }),
        json!({ "name": "sessionId", "type": "int" }),
    ];
    fields.extend(
        TEXTS
            .iter()
            .map(|(name, _)| json!({ "name": name, "type": ["null", "string"] })),
    );
    for field in moving(version) {
        let name = format!("extra{field}");
        fields.push(json!({ "name": name, "type": ["null", "long"], "default": null }));
    }
    json!({ "type": "record", "name": "Listen", "fields": fields }).to_string()
}

fn number(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn event(id: i32, version: u64, n: i64, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.push(0);
    bytes.extend(id.to_be_bytes());
    number(1_541_106_106_796 + n, bytes);
    bytes.extend((200.0 + n as f64 / 7.0).to_le_bytes());
    number(n % 5_000, bytes);
    for (_, text) in TEXTS {
        number(1, bytes);
        number(text.len() as i64, bytes);
        bytes.extend(text.as_bytes());
    }
    for field in moving(version) {
        number(1, bytes);
        number((n + field.cast_signed()) % 100, bytes);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { events, rounds } = Arguments::parse();
    let kafka = Kafka::start()?;
    let registry = Registry::start()?;
    let mut ids = Vec::new();
    for version in 1..=VERSIONS {
        ids.push(registry.register("events", "AVRO", &schema(version), &[]));
    }
    kafka.create_topics(&[("one", 4), ("ten", 4)])?;
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new())?;
    let mut bytes = Vec::new();
    for (topic, versions) in [("one", 1), ("ten", VERSIONS)] {
        for n in 0..events {
            let version = VERSIONS - n % versions;
            let id = ids[usize::try_from(version - 1)?];
            event(id, version, n.cast_signed(), &mut bytes);
            producer.send(topic, Some(&n.to_be_bytes()), Some(&bytes), None)?;
        }
        producer.flush(Duration::from_secs(60))?;
        println!(
            "{topic:>4} version(s): {events} events of {} bytes",
            bytes.len()
        );
    }
    let mut ratios = Vec::new();
    let (mut files_of_one, mut files_of_ten) = (u64::MAX, u64::MAX);
    for round in 1..=rounds {
        let mut busy = [Duration::ZERO; 2];
        for (at, topic) in ["one", "ten"].into_iter().enumerate() {
            let (own, files) = measured(&kafka, &registry, topic, events).await?;
            let rate = events as f64 / own.as_secs_f64();
            println!("round {round}, {topic:>4}: {rate:>9.0} events/s/core, {files} files");
            busy[at] = own;
            let fewest = match at {
                0 => &mut files_of_one,
                _ => &mut files_of_ten,
            };
            *fewest = files.min(*fewest);
        }
        ratios.push(busy[1].as_secs_f64() / busy[0].as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    println!(
        "ten versions cost {:+.1} % processor time, {files_of_ten} files beside {files_of_one}",
        100.0 * (median - 1.0)
    );
    Ok(())
}

/// Processor time of a fresh worker for all of a topic, and the files of its table.
async fn measured(
    kafka: &Kafka,
    registry: &Registry,
    topic: &str,
    events: u64,
) -> Result<(Duration, u64)> {
    let mut cluster = Cluster::start(cluster::Options {
        workers: 1,
        cores: 1,
        ..Default::default()
    })?;
    let text = format!(
        "name = \"formats\"\nbrokers = \"{}\"\nflush_interval = \"5s\"\n[registry]\nurl = \"{}\"\n\
         [[topic]]\ntopic = \"{topic}\"\ndecode = {{ format = \"avro\", subject = \"events\" }}\n",
        kafka.brokers(),
        registry.url()
    );
    let definition = stream_file::parse(&text, Path::new("formats.toml"))?;
    let client = connect(&cluster).await?;
    let before = processor_time(cluster.worker(0)?.pid())?;
    client.streams().apply(definition).await?;
    let until = Instant::now() + Duration::from_secs(600);
    let rows = wait_for_rows(&client, "formats", events, until).await?;
    ensure!(rows == events, "{rows} rows of {events} events");
    let busy = processor_time(cluster.worker(0)?.pid())? - before;
    let files = cluster.number(&format!(
        "SELECT CAST(sum(files) AS BIGINT) FROM system.commits WHERE \"table\" = '{topic}'"
    ))?;
    Ok((busy, u64::try_from(files)?))
}
