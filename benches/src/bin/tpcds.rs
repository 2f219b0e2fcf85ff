//! The 99 TPC-DS queries: clusters of real processes beside DataFusion in this process.

use anyhow::Result;
use clap::Parser;
use drumline_benches::InProcess;
use drumline_benches::tpcds::{self, TABLES};
use drumline_benches::versus::{self, Suite};

#[derive(Parser)]
#[command(about = "TPC-DS on clusters, beside one process")]
struct Arguments {
    #[command(flatten)]
    versus: versus::Options,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Arguments::parse().versus;
    let folder = options.data.join(format!("ds-{}", options.scale));
    tpcds::generate(options.scale, &folder)?;
    let peer = InProcess::open(&folder, &TABLES, 1).await?;
    let queries = tpcds::all(&peer).await?;
    let suite = Suite {
        tables: &TABLES,
        folder,
        queries,
    };
    versus::run(&suite, &options).await
}
