//! How much memory workers take to write: gigabytes through a small limit, and a thousand partitions open at once.
//!
//! Prints, for each number of workers, the time of each write, what it wrote, and the largest resident size that any
//! worker ever had beside its limit; fails where that is beyond 1.3 times the limit, or rows are missing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use clap::Parser;
use drumline_benches::{connect, tpch};
use drumline_client::Client;
use drumline_testkit::{Cluster, Process, cluster};

/// What a worker's resident size may be, in parts of its limit.
const ALLOWED: f64 = 1.3;

#[derive(Parser)]
#[command(about = "Large writes by workers with little memory")]
struct Arguments {
    /// Gigabytes of Parquet to write, about
    #[arg(long, default_value_t = 10.0)]
    gigabytes: f64,
    /// Partitions that one write has open
    #[arg(long, default_value_t = 1000)]
    partitions: u32,
    /// Memory of each worker, in MiB
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// Workers; several numbers: one cluster after the other
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Cores of each worker
    #[arg(long, default_value_t = 1)]
    cores: u32,
    /// TPC-H scale of the rows that are written again and again
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where the data is kept between runs
    #[arg(long, default_value = "target/tpc")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.data.join(format!("h-{}", arguments.scale));
    tpch::generate(arguments.scale, &folder)?;
    let folder = folder.canonicalize()?;
    let mut beyond = Vec::new();
    for &workers in &arguments.workers {
        for write in [Write::Large, Write::Partitioned] {
            let written = run(&arguments, &folder, workers, write).await?;
            let of_limit = written.resident as f64 / (arguments.memory << 20) as f64;
            println!(
                "{workers} workers  {:<22}  {:>6.1} s  {:>12} rows  {:>5} files  {:>6.2} GB  largest worker {:>5} MiB = {of_limit:.2} of the limit",
                write.name(&arguments),
                written.time.as_secs_f64(),
                written.rows,
                written.files,
                written.bytes as f64 / 1e9,
                written.resident >> 20,
            );
            if of_limit > ALLOWED {
                beyond.push(format!("{of_limit:.2} with {workers} workers"));
            }
        }
    }
    if !beyond.is_empty() {
        bail!("beyond {ALLOWED} of the limit: {}", beyond.join(", "));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Write {
    Large,
    Partitioned,
}

impl Write {
    fn name(self, arguments: &Arguments) -> String {
        match self {
            Self::Large => format!("{} GB", arguments.gigabytes),
            Self::Partitioned => format!("{} open partitions", arguments.partitions),
        }
    }
}

struct Written {
    time: Duration,
    rows: i64,
    files: i64,
    bytes: i64,
    resident: u64,
}

async fn run(
    arguments: &Arguments,
    folder: &Path,
    workers: usize,
    write: Write,
) -> Result<Written> {
    let memory = format!("{}MiB", arguments.memory);
    let mut cluster = Cluster::start(cluster::Options {
        workers,
        cores: arguments.cores,
        environment: vec![
            (
                "DRUMLINE_MASTER__ALLOW_LOCATION".to_owned(),
                folder.display().to_string(),
            ),
            ("DRUMLINE_WORKER__MEMORY".to_owned(), memory),
        ],
        ..Default::default()
    })?;
    let client = connect(&cluster).await?;
    let location = folder.join("lineitem").display().to_string();
    let name = format!("CREATE EXTERNAL TABLE lineitem STORED AS PARQUET LOCATION '{location}/'");
    client.collect_sql(&name).await?;
    let rows = number(&client, "SELECT count(*) FROM lineitem").await?;
    let (sql, expected) = match write {
        Write::Large => {
            // A row is about 73 bytes with a text that does not compress.
            let copies = (arguments.gigabytes * 1e9 / (73.0 * rows as f64)).ceil() as i64;
            let copies = copies.max(1);
            let sql = format!(
                "CREATE TABLE written TBLPROPERTIES ('compression' = 'uncompressed') AS \
                 SELECT lineitem.*, copies.value AS copy, \
                 sha256(concat(l_orderkey, ' ', l_linenumber, ' ', copies.value)) AS mark \
                 FROM generate_series(1, {copies}) AS copies CROSS JOIN lineitem"
            );
            (sql, rows * copies)
        }
        // In the order of the files every partition gets rows all the time.
        Write::Partitioned => {
            let sql = format!(
                "CREATE TABLE written PARTITIONED BY (bucket) AS \
                 SELECT *, l_partkey % {} AS bucket FROM lineitem",
                arguments.partitions
            );
            (sql, rows)
        }
    };
    let started = Instant::now();
    client.collect_sql(&sql).await?;
    let time = started.elapsed();
    let mut resident = 0;
    for index in 0..workers {
        resident = resident.max(peak(cluster.worker(index)?)?);
    }
    let rows = number(&client, "SELECT count(*) FROM written").await?;
    ensure!(
        rows == expected,
        "{rows} rows are there, {expected} were written"
    );
    let told = "SELECT {} FROM system.commits WHERE \"table\" LIKE '%written'";
    let files = number(&client, &told.replace("{}", "CAST(sum(files) AS BIGINT)")).await?;
    let bytes = number(&client, &told.replace("{}", "CAST(sum(bytes) AS BIGINT)")).await?;
    Ok(Written {
        time,
        rows,
        files,
        bytes,
        resident,
    })
}

async fn number(client: &Client, sql: &str) -> Result<i64> {
    let batches = client.collect_sql(sql).await?;
    let column = batches.first().map(|batch| batch.column(0));
    let value = column.and_then(|column| column.as_primitive_opt::<Int64Type>()?.iter().next()?);
    value.with_context(|| format!("no number from {sql}"))
}

/// The largest resident size that a process ever had, in bytes (proc(5), `VmHWM`).
fn peak(process: &Process) -> Result<u64> {
    let path = format!("/proc/{}/status", process.pid());
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("no VmHWM in {path}"))? << 10)
}
