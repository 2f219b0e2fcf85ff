//! A DataFrame program: the artists most listened to, and how many hours that was.
//!
//! ```sh
//! drumline demo --keep          # in another terminal
//! cargo run -p drumline-client --example top_artists
//! ```
//!
//! The plan is built here and only names `listen_events`; the cluster binds it to what the table
//! holds, and runs it. `DRUMLINE_MASTER` says where the cluster is.

use arrow::util::pretty::pretty_format_batches;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::prelude::{col, ident, lit};
use drumline_client::Client;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DRUMLINE_MASTER").unwrap_or_else(|_| "http://127.0.0.1:7077".into());
    let client = Client::connect(&url).await?;
    let top = client
        .table("listen_events")
        .await?
        .filter(col("artist").is_not_null())?
        .aggregate(
            vec![col("artist")],
            vec![
                count(lit(1)).alias("listens"),
                count_distinct(ident("userId")).alias("listeners"),
                (sum(col("duration")) / lit(3600.0)).alias("hours"),
            ],
        )?
        .sort(vec![
            col("listens").sort(false, false),
            col("artist").sort(true, false),
        ])?
        .limit(0, Some(10))?;
    println!("{}", pretty_format_batches(&client.collect(top).await?)?);
    Ok(())
}
