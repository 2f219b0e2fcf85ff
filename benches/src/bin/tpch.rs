//! The 22 TPC-H queries: a cluster of real processes beside DataFusion in this process, on the same
//! Parquet files. Prints both times and their ratio per query; fails when an answer differs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use drumline_benches::connect;
use drumline_benches::tpch::{self, InProcess, Query, TABLES};
use drumline_client::{Client, Submission};
use drumline_testkit::Cluster;
use drumline_testkit::answers::same_answer;
use drumline_testkit::cluster;

#[derive(Parser)]
#[command(about = "TPC-H on a cluster, beside one process")]
struct Arguments {
    /// Scale factor: 1 is about 1 GB of text
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Workers, each one process
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Cores of each worker
    #[arg(long, default_value_t = 1)]
    cores: u32,
    /// Runs of each query; the best counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these queries, e.g. 1,6,21
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Compare answers once, with every stage on all workers however small it is
    #[arg(long)]
    check: bool,
    /// Where the data is kept between runs
    #[arg(long, default_value = "target/tpch")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.check {
        arguments.runs = 1;
    }
    let folder = arguments.data.join(format!("scale-{}", arguments.scale));
    tpch::generate(arguments.scale, &folder)?;
    let folder = folder.canonicalize()?;
    let cores = arguments.workers * arguments.cores as usize;
    let peer = InProcess::open(&folder, cores).await?;
    let cluster = Cluster::start(cluster::Options {
        workers: arguments.workers,
        cores: arguments.cores,
        environment: vec![(
            "DRUMLINE_MASTER__ALLOW_LOCATION".to_owned(),
            folder.display().to_string(),
        )],
        ..Default::default()
    })?;
    let client = connect(&cluster).await?;
    name_tables(&client, &folder).await?;
    let mut report = Report::default();
    for query in tpch::all(arguments.scale) {
        if arguments.queries.is_empty() || arguments.queries.contains(&query.number) {
            report.add(&query, compare(&peer, &client, &query, &arguments).await);
        }
    }
    report.finish()
}

async fn name_tables(client: &Client, folder: &Path) -> Result<()> {
    for table in TABLES {
        let location = folder.join(table).display().to_string();
        let sql = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}/'");
        client
            .collect_sql(&sql)
            .await
            .with_context(|| format!("cannot name table {table} on the cluster"))?;
    }
    Ok(())
}

/// Best times in one process and on the cluster.
struct Times {
    process: Duration,
    cluster: Duration,
}

async fn compare(
    peer: &InProcess,
    client: &Client,
    query: &Query,
    arguments: &Arguments,
) -> Result<Times> {
    let mut best = Times {
        process: Duration::MAX,
        cluster: Duration::MAX,
    };
    for _ in 0..arguments.runs {
        let started = Instant::now();
        let expected = peer.collect(&query.sql).await.context("in process")?;
        best.process = best.process.min(started.elapsed());
        let started = Instant::now();
        let mut submission = Submission::sql(&query.sql);
        if arguments.check {
            let everywhere = ("drumline.bytes_per_task".to_owned(), "1".to_owned());
            submission.settings.extend([everywhere]);
        }
        let mut run = client.run(submission).await?;
        let actual = run.collect().await.context("on the cluster")?;
        best.cluster = best.cluster.min(started.elapsed());
        same_answer(&expected, &actual, query.order_by).context("another answer")?;
    }
    Ok(best)
}

/// What is printed: a line per query, then the sums.
#[derive(Default)]
struct Report {
    process: Duration,
    cluster: Duration,
    ratios: Vec<f64>,
    failed: usize,
}

impl Report {
    fn add(&mut self, query: &Query, outcome: Result<Times>) {
        match outcome {
            Ok(times) => {
                let ratio = times.cluster.as_secs_f64() / times.process.as_secs_f64();
                println!(
                    "q{:02}  process {:>8.3} s  cluster {:>8.3} s  ratio {ratio:>6.2}  same answer",
                    query.number,
                    times.process.as_secs_f64(),
                    times.cluster.as_secs_f64(),
                );
                self.process += times.process;
                self.cluster += times.cluster;
                self.ratios.push(ratio);
            }
            Err(error) => {
                println!("q{:02}  FAILED: {error:#}", query.number);
                self.failed += 1;
            }
        }
    }

    fn finish(self) -> Result<()> {
        let count = self.ratios.len().max(1) as f64;
        let mean = (self.ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count).exp();
        println!(
            "all  process {:>8.3} s  cluster {:>8.3} s  geometric mean of ratios {mean:.2}",
            self.process.as_secs_f64(),
            self.cluster.as_secs_f64(),
        );
        if self.failed > 0 {
            bail!("{} queries failed", self.failed);
        }
        Ok(())
    }
}
