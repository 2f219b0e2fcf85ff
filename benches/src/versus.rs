//! A suite of queries on clusters of real processes, beside DataFusion in this process, on the same Parquet files:
//! both times and their ratio per query; an answer that differs is a failure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use clap::Args;
use drumline_client::{Client, Submission};
use drumline_testkit::answers::{first_rows_of, same_answer};
use drumline_testkit::{Cluster, cluster};

use crate::{InProcess, connect};

/// How a suite is run.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Scale factor: 1 is about 1 GB of text
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Workers, each one process; several numbers: one cluster after the other
    #[arg(long, value_delimiter = ',', default_value = "2")]
    pub workers: Vec<usize>,
    /// Cores of each worker
    #[arg(long, default_value_t = 1)]
    pub cores: u32,
    /// Partitions that exchanges and scans have in a task; several numbers: one after the other; 0: the default
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub partitions: Vec<usize>,
    /// Runs of each query; the best counts
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Only these queries, e.g. 1,6,21
    #[arg(long, value_delimiter = ',')]
    pub queries: Vec<usize>,
    /// Compare answers once, with every stage on all workers however small it is
    #[arg(long)]
    pub check: bool,
    /// Where the data is kept between runs
    #[arg(long, default_value = "target/tpc")]
    pub data: PathBuf,
}

/// One query of a suite.
#[derive(Debug, Clone)]
pub struct Query {
    /// As its specification numbers it.
    pub number: usize,
    /// Its text, parameters filled in.
    pub sql: String,
    /// Columns (by index) of its ORDER BY; empty: rows come in any order.
    pub order_by: Vec<usize>,
    /// Its text without LIMIT, where ties may decide which rows the limit lets through.
    pub unlimited: Option<String>,
}

/// Tables, their files, and queries over them.
#[derive(Debug)]
pub struct Suite {
    /// Each a folder of Parquet files in `folder`.
    pub tables: &'static [&'static str],
    /// Where the files are.
    pub folder: PathBuf,
    /// In order.
    pub queries: Vec<Query>,
}

/// What one process answers to a query, and how long it takes at best.
struct Expected {
    answer: Vec<RecordBatch>,
    // Of the query without its limit.
    all: Option<Vec<RecordBatch>>,
    time: Duration,
}

/// Runs the suite on every cluster that the arguments name; fails when a query failed on one of them.
pub async fn run(suite: &Suite, options: &Options) -> Result<()> {
    let folder = suite.folder.canonicalize()?;
    let runs = if options.check { 1 } else { options.runs };
    let mut expected: HashMap<(usize, usize), Expected> = HashMap::new();
    let mut failed = Vec::new();
    for &workers in &options.workers {
        // As many partitions as the cluster has cores; answers are the same with any number.
        let cores = match options.check {
            true => 2,
            false => workers * options.cores as usize,
        };
        let peer = InProcess::open(&folder, suite.tables, cores).await?;
        let cluster = start(&folder, workers, options.cores)?;
        let client = connect(&cluster).await?;
        name_tables(&client, suite, &folder).await?;
        for &partitions in &options.partitions {
            let shape = match partitions {
                0 => format!("{workers} workers"),
                _ => format!("{workers} workers x {partitions} partitions"),
            };
            println!("{shape}");
            let mut report = Report::default();
            let chosen = |query: &&Query| {
                options.queries.is_empty() || options.queries.contains(&query.number)
            };
            for query in suite.queries.iter().filter(chosen) {
                let key = (query.number, cores);
                if let std::collections::hash_map::Entry::Vacant(place) = expected.entry(key) {
                    match in_process(&peer, query, runs, options.check).await {
                        Ok(answer) => drop(place.insert(answer)),
                        Err(error) => {
                            report.add(query, Err(error.context("in process")));
                            continue;
                        }
                    }
                }
                let Some(one) = expected.get(&key) else {
                    continue;
                };
                let ask = Ask {
                    client: &client,
                    everywhere: options.check,
                    partitions,
                };
                let time = ask.compare(query, one, runs).await;
                report.add(query, time.map(|time| (one.time, time)));
            }
            failed.extend(report.finish(&shape));
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}

fn start(folder: &Path, workers: usize, cores: u32) -> Result<Cluster> {
    Cluster::start(cluster::Options {
        workers,
        cores,
        environment: vec![(
            "DRUMLINE_MASTER__ALLOW_LOCATION".to_owned(),
            folder.display().to_string(),
        )],
        ..Default::default()
    })
}

async fn name_tables(client: &Client, suite: &Suite, folder: &Path) -> Result<()> {
    for table in suite.tables {
        let location = folder.join(table).display().to_string();
        let sql = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}/'");
        client
            .collect_sql(&sql)
            .await
            .with_context(|| format!("cannot name table {table} on the cluster"))?;
    }
    Ok(())
}

async fn in_process(peer: &InProcess, query: &Query, runs: usize, check: bool) -> Result<Expected> {
    let all = match &query.unlimited {
        Some(sql) if check => Some(peer.collect(sql).await?),
        _ => None,
    };
    let mut expected = Expected {
        answer: Vec::new(),
        all,
        time: Duration::MAX,
    };
    for _ in 0..runs {
        let started = Instant::now();
        expected.answer = peer.collect(&query.sql).await?;
        expected.time = expected.time.min(started.elapsed());
    }
    Ok(expected)
}

/// How the cluster is asked.
struct Ask<'a> {
    client: &'a Client,
    everywhere: bool,
    partitions: usize,
}

impl Ask<'_> {
    /// The best time of a query whose answers are right.
    async fn compare(&self, query: &Query, expected: &Expected, runs: usize) -> Result<Duration> {
        let mut best = Duration::MAX;
        for _ in 0..runs {
            let started = Instant::now();
            let actual = self.collect(&query.sql).await.context("on the cluster")?;
            best = best.min(started.elapsed());
            match &expected.all {
                None if query.unlimited.is_none() => {
                    same_answer(&expected.answer, &actual, &query.order_by)
                }
                None => first_rows_of(&expected.answer, None, &actual, &query.order_by),
                Some(all) => first_rows_of(&expected.answer, Some(all), &actual, &query.order_by),
            }
            .context("another answer")?;
        }
        if let (Some(sql), Some(all)) = (&query.unlimited, &expected.all) {
            let actual = self.collect(sql).await.context("without its limit")?;
            same_answer(all, &actual, &query.order_by).context("another answer without limit")?;
        }
        Ok(best)
    }

    async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut submission = Submission::sql(sql);
        let settings = &mut submission.settings;
        if self.everywhere {
            settings.insert("drumline.bytes_per_task".to_owned(), "1".to_owned());
        }
        if self.partitions > 0 {
            let name = "datafusion.execution.target_partitions".to_owned();
            settings.insert(name, self.partitions.to_string());
        }
        let mut run = self.client.run(submission).await?;
        Ok(run.collect().await?)
    }
}

/// What is printed: a line per query, then the sums.
#[derive(Default)]
struct Report {
    process: Duration,
    cluster: Duration,
    ratios: Vec<f64>,
    failed: Vec<String>,
}

impl Report {
    /// Times in one process and on the cluster.
    fn add(&mut self, query: &Query, outcome: Result<(Duration, Duration)>) {
        match outcome {
            Ok((process, cluster)) => {
                let ratio = cluster.as_secs_f64() / process.as_secs_f64();
                println!(
                    "q{:02}  process {:>8.3} s  cluster {:>8.3} s  ratio {ratio:>6.2}  same answer",
                    query.number,
                    process.as_secs_f64(),
                    cluster.as_secs_f64(),
                );
                self.process += process;
                self.cluster += cluster;
                self.ratios.push(ratio);
            }
            Err(error) => {
                println!("q{:02}  FAILED: {error:#}", query.number);
                self.failed.push(format!("q{:02}", query.number));
            }
        }
    }

    /// What failed, with the cluster's shape.
    fn finish(self, shape: &str) -> Option<String> {
        let count = self.ratios.len().max(1) as f64;
        let mean = (self.ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count).exp();
        println!(
            "{} same, {} failed  process {:.3} s  cluster {:.3} s  geometric mean of ratios {mean:.2}",
            self.ratios.len(),
            self.failed.len(),
            self.process.as_secs_f64(),
            self.cluster.as_secs_f64(),
        );
        (!self.failed.is_empty()).then(|| format!("{} on {shape}", self.failed.join(", ")))
    }
}
