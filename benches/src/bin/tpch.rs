//! The 22 TPC-H queries: clusters of real processes beside DataFusion in this process.

use anyhow::Result;
use clap::Parser;
use drumline_benches::tpch::{self, TABLES};
use drumline_benches::versus::{self, Suite};

#[derive(Parser)]
#[command(about = "TPC-H on clusters, beside one process")]
struct Arguments {
    #[command(flatten)]
    versus: versus::Options,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Arguments::parse().versus;
    let folder = options.data.join(format!("h-{}", options.scale));
    tpch::generate(options.scale, &folder)?;
    let suite = Suite {
        tables: &TABLES,
        folder,
        queries: tpch::all(options.scale),
    };
    versus::run(&suite, &options).await
}
