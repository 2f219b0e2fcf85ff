//! `drumline stream`: standing consumers.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use drumline_client::proto::{StreamStatus, StreamSummary};
use drumline_client::{Applied, Client, stream_file};
use serde_json::json;

use crate::config::{Master, MasterArg};
use crate::connect::connect;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output::{self, Columns};
use crate::signals::StopSignals;

/// Read Kafka topics into tables, continuously.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline stream apply examples/beatlytica/beatlytica.toml\n  \
    drumline stream status beatlytica -o json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Shared {
    #[command(flatten)]
    master: MasterArg,
    /// Shape of the answer on stdout
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Shape,
}

/// Shape of what `stream` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON value per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a stream, or change its definition; everything is checked before anything is kept
    #[command(
        after_help = "The file names brokers, topics, their columns, a SQL transform and how tables are partitioned;\n\
        examples/beatlytica/beatlytica.toml has all of it.\n\n\
        Examples:\n  drumline stream apply examples/beatlytica/beatlytica.toml\n  \
        DRUMLINE_BROKERS=kafka:9092 drumline stream apply examples/beatlytica/beatlytica.toml"
    )]
    Apply {
        /// Stream file (TOML)
        file: PathBuf,
    },
    /// All streams, one line each
    List,
    /// Partitions, tables and lag of one stream, and why it does not run if it does not
    Status {
        /// Name of the stream
        name: String,
    },
    /// Stop reading; the tables stay as they are
    Pause {
        /// Name of the stream
        name: String,
    },
    /// Read on from where the tables are
    Resume {
        /// Name of the stream
        name: String,
    },
    /// Check that its tables hold each record once: ranges of commits, counts, Kafka and rows against each other
    #[command(
        after_help = "Walks the history of every table, dead letters included, counts the topics' records anew on the\n\
        workers, and looks at the rows where they have _topic, _partition and _offset. Changes nothing, and may run\n\
        while the stream does. Exit code 0: whole; 1: it is not, and each violation is named.\n\n\
        Examples:\n  drumline stream verify beatlytica\n  drumline stream verify beatlytica -o json"
    )]
    Verify {
        /// Name of the stream
        name: String,
    },
    /// Forget the stream; its tables stay
    Delete {
        /// Name of the stream
        name: String,
    },
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let Shared {
        master,
        output: shape,
    } = arguments.shared;
    let master = master.resolve()?;
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        result = answer(arguments.command, &master, shape) => result,
        () = signals.recv() => Err(Failure::cancelled()),
    }
}

async fn answer(command: Command, master: &Master, shape: Shape) -> Result {
    if let Command::Apply { file } = &command {
        return apply(file, master, shape).await;
    }
    let client = connect(master).await?;
    let streams = client.streams();
    match command {
        Command::Apply { .. } => Ok(()),
        Command::List => {
            let list = streams.list().await?;
            match shape {
                Shape::Table => output::print(&list_table(&list)),
                Shape::Json => list.iter().try_for_each(output::print_json),
            }
        }
        Command::Status { name } => {
            let status = streams.status(&name).await?;
            match shape {
                Shape::Table => output::print(&status_table(&status)),
                Shape::Json => output::print_json(&status),
            }
        }
        Command::Pause { name } => {
            streams.pause(&name).await?;
            done(shape, &name, "paused")
        }
        Command::Resume { name } => {
            streams.resume(&name).await?;
            done(shape, &name, "resumed")
        }
        Command::Verify { name } => {
            super::verified::verify(&streams, &name, shape == Shape::Json).await
        }
        Command::Delete { name } => {
            streams.delete(&name).await?;
            done(shape, &name, "deleted")
        }
    }
}

async fn apply(file: &Path, master: &Master, shape: Shape) -> Result {
    let text =
        std::fs::read_to_string(file).or_usage(|| format!("cannot read {}", file.display()))?;
    // A file that does not hold is refused before a master is looked for.
    let definition = stream_file::parse(&text, file)?;
    let name = definition.name.clone();
    let client: Client = connect(master).await?;
    let applied = client
        .streams()
        .apply(definition)
        .await
        .map_err(|error| refused(file, error))?;
    let what = match applied {
        Applied::Created => "created",
        Applied::Changed => "changed",
        Applied::Unchanged => "unchanged",
    };
    done(shape, &name, what)
}

/// A refusal names the file, as one by the parser does.
fn refused(file: &Path, error: drumline_client::Error) -> Failure {
    let is_refusal = matches!(error, drumline_client::Error::StreamRefused { .. });
    let failure = Failure::from(error);
    match is_refusal {
        true => Failure {
            message: format!("{}: {}", file.display(), failure.message),
            ..failure
        },
        false => failure,
    }
}

fn done(shape: Shape, name: &str, what: &str) -> Result {
    match shape {
        Shape::Table => output::print(&format!("stream {name} {what}\n")),
        Shape::Json => output::print_json(&json!({ "stream": name, "result": what })),
    }
}

fn list_table(streams: &[StreamSummary]) -> String {
    let mut columns = Columns::new(&[
        "STREAM",
        "STATE",
        "SINCE",
        "TOPICS",
        "PARTITIONS",
        "LAG",
        "ROWS",
        "DEAD LETTERS",
        "REASON",
    ]);
    for stream in streams {
        columns.row([
            stream.name.clone(),
            stream.state.clone(),
            moment(stream.since_unix_millis),
            stream.topics.to_string(),
            stream.partitions.to_string(),
            known(stream.lag),
            stream.rows.to_string(),
            stream.dead_letters.to_string(),
            stream.last_error.clone(),
        ]);
    }
    columns.render()
}

fn status_table(status: &StreamStatus) -> String {
    let since = match status.since_unix_millis {
        0 => String::new(),
        since => format!(" since {}", moment(since)),
    };
    let mut text = format!(
        "stream {}: {}{since}, lag {}\n",
        status.name,
        status.state,
        known(status.lag)
    );
    if !status.last_error.is_empty() {
        text.push_str(&format!("reason: {}\n", status.last_error));
    }
    let mut tables = Columns::new(&["TABLE", "KIND", "ROWS", "COMMITS", "VERSION", "LAST COMMIT"]);
    for table in &status.tables {
        tables.row([
            table.table.clone(),
            table.kind.clone(),
            table.rows.to_string(),
            table.commits.to_string(),
            table.version.to_string(),
            moment(table.last_commit_unix_millis),
        ]);
    }
    text.push_str(&format!("\n{}", tables.render()));
    let mut partitions =
        Columns::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "WORKER", "EPOCH"]);
    for partition in &status.partitions {
        partitions.row([
            partition.topic.clone(),
            partition.partition.to_string(),
            known(partition.committed),
            known(partition.end),
            if partition.worker.is_empty() {
                "-".to_owned()
            } else {
                partition.worker.clone()
            },
            partition.epoch.to_string(),
        ]);
    }
    text.push_str(&format!("\n{}", partitions.render()));
    text
}

/// The wire's -1 is "not known yet".
fn known(number: i64) -> String {
    if number < 0 {
        "-".to_owned()
    } else {
        number.to_string()
    }
}

fn moment(unix_millis: i64) -> String {
    match DateTime::<Utc>::from_timestamp_millis(unix_millis) {
        Some(moment) if unix_millis > 0 => moment.to_rfc3339_opts(SecondsFormat::Secs, true),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::{PartitionStatus, StreamTableStatus};

    use super::*;

    #[test]
    fn status_shows_tables_and_partitions() {
        let status = StreamStatus {
            name: "beatlytica".to_owned(),
            state: "running".to_owned(),
            lag: 3,
            partitions: vec![PartitionStatus {
                topic: "listen_events".to_owned(),
                partition: 0,
                worker: String::new(),
                epoch: 2,
                committed: 7,
                end: -1,
            }],
            tables: vec![StreamTableStatus {
                table: "listen_events".to_owned(),
                kind: "table".to_owned(),
                rows: 7,
                commits: 1,
                last_commit_unix_millis: 1_541_000_000_000,
                version: 1,
            }],
            ..Default::default()
        };
        insta::assert_snapshot!(status_table(&status), @r"
        stream beatlytica: running, lag 3

        TABLE          KIND   ROWS  COMMITS  VERSION  LAST COMMIT
        listen_events  table     7        1        1  2018-10-31T15:33:20Z

        TOPIC          PARTITION  COMMITTED  END  WORKER  EPOCH
        listen_events          0          7    -       -      2
        ");
    }

    #[test]
    fn a_stream_that_waits_says_why_and_since_when() {
        let status = StreamStatus {
            name: "beatlytica".to_owned(),
            state: "waiting".to_owned(),
            last_error: "kafka at k:9092 cannot be reached: connection refused".to_owned(),
            since_unix_millis: 1_541_000_000_000,
            lag: -1,
            ..Default::default()
        };
        assert!(
            status_table(&status).starts_with(
                "stream beatlytica: waiting since 2018-10-31T15:33:20Z, lag -\n\
                 reason: kafka at k:9092 cannot be reached: connection refused\n"
            ),
            "{}",
            status_table(&status)
        );
    }

    #[test]
    fn a_refusal_names_the_file() {
        let error = drumline_client::Error::StreamRefused {
            stream: "s".to_owned(),
            key: "topic[1].transform".to_owned(),
            failure: Box::new(drumline_client::Failure {
                kind: drumline_client::Kind::User,
                message: "no column `x`".to_owned(),
                hint: None,
                ordinal: 0,
                position: None,
            }),
        };
        let failure = refused(Path::new("s.toml"), error);
        assert!(
            failure.message.starts_with("s.toml: ")
                && failure.message.contains("topic[1].transform"),
            "{failure:?}"
        );
    }
}
