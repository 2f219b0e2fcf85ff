//! How long a cluster takes from the start of its processes to a stream's next commit, on a table whose log is long.
//!
//! The commits are made through the lake, by the stream's name, as its workers would have; their files have names of
//! their own and are not there, because nothing reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use drumline_ingest::kafka::Producer;
use drumline_lake::{
    Catalog, Commit, Lake, MadeBy, OffsetRange, RangeCounts, StagedFile, Stores, Table, TableName,
};
use drumline_testkit::cluster::{self, Cluster};
use drumline_testkit::{Kafka, poll};
use serde_json::json;

const TOPIC: &str = "events";
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Parser)]
#[command(about = "From the start of processes to a stream's next commit")]
struct Arguments {
    /// Commits that the table has
    #[arg(long, default_value_t = 10_000)]
    commits: u32,
    /// Restarts; each is printed
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// How often files are closed, in milliseconds; it is part of the figure
    #[arg(long, default_value_t = 200)]
    flush_interval: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kafka = Kafka::start()?;
    kafka.create_topics(&[(TOPIC, 1)])?;
    let mut cluster = Cluster::start(cluster::Options {
        workers: 1,
        ..Default::default()
    })?;
    cluster.apply_stream(&format!(
        "name = \"s\"\nbrokers = \"{}\"\nflush_interval = \"{}ms\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"t\"\nschema = {{ n = \"bigint\" }}\n",
        kafka.brokers(),
        arguments.flush_interval
    ))?;
    stop(&mut cluster)?;

    let lake = Lake::open(cluster.lake(), Stores::default()).await?;
    let catalog = Catalog::open(lake).await?;
    let name = TableName::parse("t")?;
    let snapshot = catalog.refresh().await?;
    let object = snapshot.get(&name).context("the stream made no table")?;
    let table = Table::open(catalog.lake(), &name, object).await?;
    let started = Instant::now();
    for number in 0..i64::from(arguments.commits) {
        table.commit(commit(&table, number).await?).await?;
    }
    println!(
        "{} commits made in {:.1} s",
        arguments.commits,
        started.elapsed().as_secs_f64()
    );
    let log = PathBuf::from(table.snapshot().await?.location.path()).join("_delta_log");

    let mut sent = 0;
    let mut send = |count: u32| {
        let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new())?;
        for _ in 0..count {
            let value = format!("{{\"n\":{sent}}}");
            producer.send(TOPIC, None, Some(value.as_bytes()), None)?;
            sent += 1;
        }
        producer.flush(PATIENCE)?;
        anyhow::Ok(())
    };
    send(arguments.commits)?;
    for _ in 0..arguments.runs {
        send(100)?;
        let next = next_version(&log)?;
        let started = Instant::now();
        cluster.start_master()?;
        let master = started.elapsed();
        cluster.start_worker()?;
        poll("the next commit", PATIENCE, || {
            Ok(next.exists().then_some(()))
        })?;
        println!(
            "first commit after {:.2} s, of which the master took {:.2} s until it listened",
            started.elapsed().as_secs_f64(),
            master.as_secs_f64()
        );
        stop(&mut cluster)?;
    }
    Ok(())
}

fn stop(cluster: &mut Cluster) -> Result<()> {
    for index in 0..cluster.started_workers() {
        if let Ok(worker) = cluster.worker(index)
            && worker.is_running()
        {
            worker.kill()?;
        }
    }
    cluster.kill_master()
}

async fn commit(table: &Table, number: i64) -> Result<Commit> {
    let snapshot = table.snapshot().await?;
    let made_by = MadeBy::Stream {
        stream: "s".to_owned(),
        epoch: 1,
        definition: 1,
        lookups: BTreeMap::new(),
        ranges: vec![OffsetRange {
            topic: TOPIC.to_owned(),
            partition: 0,
            from: number,
            to: number + 1,
            counts: Some(RangeCounts {
                records: 1,
                rows: 1,
                ..RangeCounts::default()
            }),
            topic_id: None,
        }],
    };
    let folder = snapshot.location.path().trim_matches('/').to_owned();
    let file = StagedFile {
        path: format!("{folder}/part-{number:08}.parquet"),
        size: 1000,
        rows: 1,
        partition_values: Vec::new(),
        statistics: Some(json!({
            "numRecords": 1, "minValues": {"n": number}, "maxValues": {"n": number}, "nullCount": {"n": 0}
        })),
        definition: 0,
    };
    Ok(Commit::append(made_by, vec![file]))
}

/// Where the next commit will be.
fn next_version(log: &Path) -> Result<PathBuf> {
    let mut newest = 0_u64;
    for entry in std::fs::read_dir(log)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(version) = name
            .strip_suffix(".json")
            .and_then(|text| text.parse().ok())
        {
            newest = newest.max(version);
        }
    }
    Ok(log.join(format!("{:020}.json", newest + 1)))
}
