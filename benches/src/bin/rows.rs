//! Beat~lytica's three topics, generated and read into a lake: every row beside the record that a plain Python consumer
//! reads, field by field. Fails at the first difference.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use drumline_testkit::plain_consumer::end_to_end;

#[derive(Parser)]
#[command(about = "Rows in the lake, beside what a plain Python consumer reads")]
struct Arguments {
    /// Events, all topics together
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Seconds between commits
    #[arg(long, default_value_t = 10)]
    flush_interval: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let interval = Duration::from_secs(arguments.flush_interval);
    let found = end_to_end(arguments.events, interval)?;
    for (topic, records) in &found.records {
        println!("{topic:<18} {records:>10} records, each equal to its row in every field");
    }
    println!(
        "sent in {:.1} s, committed in {:.1} s, compared in {:.1} s",
        found.sent.as_secs_f64(),
        found.committed.as_secs_f64(),
        found.compared.as_secs_f64()
    );
    Ok(())
}
