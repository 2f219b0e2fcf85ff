//! `drumline stream reset`: tells what would be read again or skipped, asks, and does it.

use std::io::{IsTerminal as _, Write as _};

use drumline_client::proto::{Position, ResetPartition, ResetStreamRequest, ResetStreamResponse};
use drumline_client::{Streams, stream_file};

use super::Shape;
use super::show::known;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output::{self, Columns};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The stream must be paused. What would be read again or skipped is shown for every table and partition\n\
    first; nothing is done without a yes. Tables keep their rows, so what is read again is there twice: delete those\n\
    rows before, or let --truncate delete all rows of the tables in the same commit.\n\n\
    Examples:\n  \
    drumline stream reset beatlytica --to earliest --truncate\n  \
    drumline stream reset beatlytica --to 2026-11-01T00:00:00Z --topic listen_events\n  \
    drumline stream reset beatlytica --to 0:1200,1:1100 --topic listen_events --table listen_events --yes"
)]
pub(super) struct Arguments {
    /// Name of the stream
    name: String,
    /// earliest, latest, a moment, an offset, or offsets of partitions (0:1200,1:1100)
    #[arg(long, value_parser = stream_file::position)]
    to: Position,
    /// Only this topic
    #[arg(long, default_value = "")]
    topic: String,
    /// Only this table; others of the stream stay where they are
    #[arg(long, default_value = "")]
    table: String,
    /// Delete all rows of these tables in the same commit
    #[arg(long)]
    truncate: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(streams: &Streams, arguments: Arguments, shape: Shape) -> Result {
    let Arguments {
        name,
        to,
        topic,
        table,
        truncate,
        yes,
    } = arguments;
    let request = ResetStreamRequest {
        name: name.clone(),
        to: Some(to),
        topic,
        table,
        truncate,
        apply: false,
    };
    let plan = streams.reset(request.clone()).await?;
    if plan.partitions.is_empty() {
        return match shape {
            Shape::Table => output::print(&format!(
                "stream {name} stands there already: nothing to do\n"
            )),
            Shape::Json => output::print_json(&plan),
        };
    }
    if !yes {
        let _ = write!(std::io::stderr(), "{}", told(&plan, truncate));
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::usage("nobody is there to say yes")
                .hint("add --yes where this is what you want"));
        }
        if !agreed(&format!("reset stream {name}?")).await? {
            return Err(Failure::cancelled());
        }
    }
    let done = streams
        .reset(ResetStreamRequest {
            apply: true,
            ..request
        })
        .await?;
    match shape {
        Shape::Table if yes => output::print(&format!(
            "{}stream {name} reset; drumline stream resume {name}\n",
            told(&done, truncate)
        )),
        Shape::Table => output::print(&format!(
            "stream {name} reset; drumline stream resume {name}\n"
        )),
        Shape::Json => output::print_json(&done),
    }
}

/// Asks on the terminal; anything but yes is no.
async fn agreed(question: &str) -> Result<bool> {
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let (reply, answer) = tokio::sync::oneshot::channel();
    // A thread of its own: Ctrl-C must not wait for a line.
    std::thread::Builder::new()
        .name("question".to_owned())
        .spawn(move || {
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            let _ = reply.send(line);
        })
        .or_fail(|| "cannot ask".to_owned())?;
    let line = answer.await.unwrap_or_default();
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What a reset does, for people.
fn told(plan: &ResetStreamResponse, truncate: bool) -> String {
    let mut columns = Columns::new(&[
        "TABLE",
        "TOPIC",
        "PARTITION",
        "STANDS AT",
        "GOES TO",
        "WHAT",
    ]);
    for moved in &plan.partitions {
        columns.row([
            moved.table.clone(),
            moved.topic.clone(),
            moved.partition.to_string(),
            known(moved.from),
            moved.to.to_string(),
            what(moved),
        ]);
    }
    let mut text = columns.render();
    let again: i64 = plan
        .partitions
        .iter()
        .map(|moved| read_again(moved).max(0))
        .sum();
    for table in &plan.tables {
        let (name, rows) = (&table.table, output::rows(table.rows));
        match truncate {
            true => text.push_str(&format!("table {name}: {rows} deleted\n")),
            false if again > 0 && table.rows > 0 => text.push_str(&format!(
                "table {name} keeps its {rows}: those that are read again will be there twice (--truncate deletes \
                 them first)\n"
            )),
            false => {}
        }
    }
    text
}

/// Records that are read again; less than nothing: that are skipped.
fn read_again(moved: &ResetPartition) -> i64 {
    match moved.from {
        from if from < 0 => 0,
        from => from - moved.to,
    }
}

fn what(moved: &ResetPartition) -> String {
    match (moved.from, read_again(moved)) {
        (from, _) if from < 0 => format!("begins there instead of {}", moved.first),
        (_, again) if again > 0 => format!("{again} records are read again"),
        (from, skipped) if from < moved.first => format!(
            "{} records are skipped, {} of them are gone from kafka",
            -skipped,
            moved.first - from
        ),
        (_, skipped) => format!("{} records are skipped", -skipped),
    }
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::ResetTable;

    use super::*;

    fn moved(partition: i32, from: i64, to: i64) -> ResetPartition {
        ResetPartition {
            table: "listens".to_owned(),
            topic: "listen_events".to_owned(),
            partition,
            from,
            to,
            first: 40,
            end: 900,
        }
    }

    #[test]
    fn what_a_reset_does_is_told_for_every_partition() {
        let plan = ResetStreamResponse {
            partitions: vec![
                moved(0, 70, 40),
                moved(1, 70, 90),
                moved(2, 10, 45),
                moved(3, -1, 50),
            ],
            tables: vec![ResetTable {
                table: "listens".to_owned(),
                rows: 30,
                version: 0,
            }],
            failure: None,
        };
        insta::assert_snapshot!(told(&plan, false), @r"
        TABLE    TOPIC          PARTITION  STANDS AT  GOES TO  WHAT
        listens  listen_events          0         70       40  30 records are read again
        listens  listen_events          1         70       90  20 records are skipped
        listens  listen_events          2         10       45  35 records are skipped, 30 of them are gone from kafka
        listens  listen_events          3          -       50  begins there instead of 40
        table listens keeps its 30 rows: those that are read again will be there twice (--truncate deletes them first)
        ");
        assert!(told(&plan, true).ends_with("table listens: 30 rows deleted\n"));
    }
}
