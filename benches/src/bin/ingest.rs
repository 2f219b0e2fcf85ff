//! Events per second and core from Kafka to committed Parquet, beside decoding and encoding the same
//! events in memory, in the same run. The second is the floor: what no consumer can go below.
//!
//! One worker on one core. Seconds are processor time as the kernel counts it, so that Kafka and
//! the master on the same machine do not blur the figures; wall time is printed too.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use clap::Parser;
use drumline_benches::connect;
use drumline_benches::stream::{processor_time, wait_for_rows};
use drumline_client::proto::StreamDefinition;
use drumline_client::stream_file;
use drumline_testkit::Kafka;
use drumline_testkit::cluster::{self, Cluster};
use drumline_testkit::streams::{EXAMPLE_TOPICS, example_stream};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

#[derive(Parser)]
#[command(about = "Kafka to committed Parquet, beside decode and encode in memory")]
struct Arguments {
    /// Events, all topics together
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Listeners: the fewer they are, the more hours the events are spread over, each a folder with files of its own
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    /// Seconds between commits
    #[arg(long, default_value_t = 5)]
    flush_interval: u64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// How often both are measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kafka = Kafka::start()?;
    kafka.create_topics(&EXAMPLE_TOPICS)?;
    let interval = Duration::from_secs(arguments.flush_interval);
    let text = example_stream(&kafka.brokers(), interval)?;
    let definition = stream_file::parse(&text, Path::new("beatlytica.toml"))?;
    let folder = tempfile::tempdir()?;
    let lines = folder.path().display().to_string();
    generate(&arguments, &["--output", &lines])?;
    generate(&arguments, &["--brokers", &kafka.brokers()])?;
    let mut ratios = Vec::new();
    for round in 1..=arguments.rounds {
        println!("round {round}");
        let floor = in_memory(folder.path(), &definition)?;
        println!("  in memory  {}", rate(arguments.events, floor));
        let busy = committed(&arguments, &definition).await?;
        let ratio = floor.as_secs_f64() / busy.as_secs_f64();
        println!("  ratio      {ratio:.2} of in memory");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    println!("ratio {median:.2}, the median of {}", ratios.len());
    Ok(())
}

/// Processor time of a fresh worker for all events, from Kafka to committed files.
async fn committed(arguments: &Arguments, definition: &StreamDefinition) -> Result<Duration> {
    let mut cluster = Cluster::start(cluster::Options {
        workers: 1,
        cores: 1,
        ..Default::default()
    })?;
    let client = connect(&cluster).await?;
    let before = processor_time(cluster.worker(0)?.pid())?;
    let started = Instant::now();
    client.streams().apply(definition.clone()).await?;
    let until = started + Duration::from_secs(arguments.patience);
    wait_for_rows(&client, &definition.name, arguments.events, until).await?;
    let wall = started.elapsed();
    let busy = processor_time(cluster.worker(0)?.pid())? - before;
    let files = cluster.number("SELECT CAST(sum(files) AS BIGINT) FROM system.commits")?;
    println!(
        "  committed  {}, {files} files",
        rate(arguments.events, busy)
    );
    println!("  wall time  {}", rate(arguments.events, wall));
    Ok(busy)
}

fn generate(arguments: &Arguments, sink: &[&str]) -> Result<()> {
    let (events, users) = (arguments.events.to_string(), arguments.users.to_string());
    let output = Command::new(cluster::drumline())
        .args([
            "generate", "--quiet", "--events", &events, "--users", &users,
        ])
        .args(sink)
        .output()?;
    ensure!(
        output.status.success(),
        "generate: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn rate(events: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    format!(
        "{:>10.0} events/s/core  ({seconds:.2} s)",
        events as f64 / seconds
    )
}

/// Decodes every line by the declared schema and encodes it as Parquet, on this thread.
fn in_memory(folder: &Path, definition: &StreamDefinition) -> Result<Duration> {
    let mut spent = Duration::ZERO;
    for topic in &definition.topics {
        let fields = topic.schema.iter().map(|field| {
            let data_type = match field.r#type.as_str() {
                "varchar" => DataType::Utf8,
                "bigint" => DataType::Int64,
                "double" => DataType::Float64,
                "boolean" => DataType::Boolean,
                other => bail!("field {}: no type {other} in this bench", field.name),
            };
            Ok(Field::new(&field.name, data_type, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let path = folder.join(format!("{}.jsonl", topic.topic));
        let lines = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let before = processor_time(std::process::id())?;
        encode(BufReader::with_capacity(1 << 20, lines), schema)?;
        spent += processor_time(std::process::id())? - before;
    }
    Ok(spent)
}

fn encode(lines: BufReader<File>, schema: SchemaRef) -> Result<usize> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
    for batch in ReaderBuilder::new(schema)
        .with_batch_size(8192)
        .build(lines)?
    {
        writer.write(&batch?)?;
    }
    Ok(writer.into_inner()?.len())
}
