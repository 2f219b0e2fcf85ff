//! Time to plan queries on a table of many files, and what is left of its files in the plans.
//!
//! Nothing is read but the table's log, so its files need not exist. Times are of plans whose snapshot is known
//! already, as for every statement but the first; each looks for newer commits, as every statement does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Parser;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use drumline_lake::{
    Catalog, Commit, Format, Lake, MadeBy, NewTable, StagedFile, StatementId, Stores, Table,
    TableName,
};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Time to plan queries on a table of many files")]
struct Arguments {
    /// Files
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// Partitions
    #[arg(long, default_value_t = 1_000)]
    partitions: u64,
    /// Plans of each query; the slowest counts
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Fail where a plan takes longer, in milliseconds
    #[arg(long)]
    limit: Option<u64>,
}

/// What it is called, the query, and how many files its plan may name.
type Query = (&'static str, &'static str, fn(&Arguments) -> u64);

const QUERIES: [Query; 5] = [
    (
        "one partition",
        "SELECT sum(id) FROM t WHERE part = 7",
        |a| a.files / a.partitions,
    ),
    (
        "one file by its bounds",
        "SELECT name FROM t WHERE id = 123456",
        |_| 1,
    ),
    (
        "partition and bounds",
        "SELECT name FROM t WHERE part < 10 AND id < 100000",
        |a| a.files / a.partitions * 10,
    ),
    ("nothing", "SELECT name FROM t WHERE id < 0", |_| 0),
    (
        "everything",
        "SELECT part, sum(id) FROM t GROUP BY part",
        |a| a.files,
    ),
];

const ROWS: u64 = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let lake = Lake::open(
        folder.path().to_str().context("an odd folder")?,
        Stores::from_env(),
    )
    .await?;
    let catalog = Catalog::open(lake).await?;
    let table = made(&catalog, &arguments).await?;
    let begin = Instant::now();
    let fresh = Lake::open(
        folder.path().to_str().context("an odd folder")?,
        Stores::from_env(),
    )
    .await?;
    let opened = Table::open(&fresh, table.name(), table.object()).await?;
    let snapshot = opened.snapshot().await?;
    ensure!(snapshot.files.len() as u64 == arguments.files);
    println!(
        "{} files in {} partitions, {} build: opened from nothing in {:?}",
        arguments.files,
        arguments.partitions,
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        begin.elapsed()
    );
    let mut slowest = Duration::ZERO;
    for (name, sql, files) in QUERIES {
        let mut times = Vec::new();
        let mut left = 0;
        for _ in 0..arguments.rounds {
            let begin = Instant::now();
            let session =
                SessionContext::new_with_config(SessionConfig::new().with_target_partitions(8));
            let snapshot = opened.snapshot().await?;
            session.register_table("t", snapshot.provider()?)?;
            let plan = session.sql(sql).await?.create_physical_plan().await?;
            times.push(begin.elapsed());
            let text = displayable(plan.as_ref()).indent(true).to_string();
            left = text.matches(".parquet").count() as u64;
        }
        times.sort();
        let worst = times.last().copied().unwrap_or_default();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        println!("{name:<24} {left:>6} files  median {median:>9.1?}  slowest {worst:>9.1?}");
        ensure!(
            left <= files(&arguments),
            "'{sql}' reads {left} files, {} are enough",
            files(&arguments)
        );
        // The first plan works out what later ones know of the files.
        slowest = slowest.max(median);
    }
    if let Some(limit) = arguments.limit {
        ensure!(
            slowest <= Duration::from_millis(limit),
            "a plan took {slowest:?}"
        );
    }
    Ok(())
}

/// A Delta table whose log names files that nobody wrote: planning never looks.
async fn made(catalog: &Catalog, arguments: &Arguments) -> Result<Table> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("part", DataType::Int32, true),
    ]);
    let new = NewTable {
        name: TableName::bare("t"),
        format: Format::Delta,
        location: None,
        schema: schema.into(),
        partition_columns: vec!["part".to_owned()],
        properties: BTreeMap::new(),
        comment: None,
        column_comments: BTreeMap::new(),
        or_replace: false,
        created_by: None,
    };
    let table = Table::create(catalog, new, false).await?;
    let home = table.write_target("w").await?;
    let home = object_store::path::Path::from_url_path(home.folder.path())?;
    let per_commit = 1000;
    let numbers: Vec<u64> = (0..arguments.files).collect();
    for (ordinal, chunk) in numbers.chunks(per_commit).enumerate() {
        let files = chunk.iter().map(|number| {
            let part = (number % arguments.partitions).to_string();
            StagedFile {
                path: format!("{home}/part={part}/{number:08}.parquet"),
                size: 100_000,
                rows: ROWS,
                partition_values: vec![("part".to_owned(), Some(part))],
                statistics: Some(json!({
                    "numRecords": ROWS,
                    "minValues": {"id": number * ROWS, "name": format!("name {number}")},
                    "maxValues": {"id": number * ROWS + ROWS - 1, "name": format!("name {number}x")},
                    "nullCount": {"id": 0, "name": 0},
                })),
                definition: 0,
            }
        });
        let made_by = MadeBy::Statement(StatementId {
            application: "planning".to_owned(),
            ordinal: u32::try_from(ordinal)?,
            text_hash: 0,
        });
        table
            .commit(Commit::append(made_by, files.collect()))
            .await?;
    }
    Ok(table)
}
