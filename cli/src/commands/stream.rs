//! `drumline stream`: standing consumers.

mod letters;
mod reset;
mod show;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use drumline_client::proto::Position;
use drumline_client::{Applied, Client, Streams, stream_file};
use serde_json::json;

use crate::config::{Master, MasterArg};
use crate::connect::connect;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output;
use crate::signals::StopSignals;
use crate::terminal::Terminal;

/// How long a stream may fail before nobody waits for it any more.
const FAILING_FOR: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        DRUMLINE_BROKERS=kafka:9092 drumline stream apply examples/beatlytica/beatlytica.toml\n  \
        drumline stream apply backfill.toml --until now --wait"
    )]
    Apply {
        /// Stream file (TOML)
        file: PathBuf,
        /// Let the stream end by itself: now, a moment, or offsets of partitions (0:1200,1:1100); before the file's own
        #[arg(long, value_parser = until)]
        until: Option<Position>,
        /// Wait until it has ended: 0 once everything below its end is committed, 1 if it fails for a minute
        #[arg(long)]
        wait: bool,
    },
    /// All streams, one line each
    List,
    /// Partitions, tables and lag of one stream, and why it does not run if it does not
    #[command(
        after_help = "Lag is counted in records, and in seconds since the broker dated the next record to commit. The watermark\n\
        is the newest of the brokers' dates among the records that were committed. Rates are those of the last ten\n\
        seconds; dead letters by reason and calls of object stores are counted since the master started.\n\n\
        Examples:\n  drumline stream status beatlytica --watch\n  drumline stream status beatlytica -o json"
    )]
    Status {
        /// Name of the stream
        name: String,
        /// Show it again every second, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
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
    /// Move where the tables of a paused stream go on: back to read again, or forward to skip
    Reset(reset::Arguments),
    /// Records that could not become rows, and why
    DeadLetters(letters::Arguments),
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
    if let Command::Apply { file, until, wait } = command {
        return apply(&file, until, wait, master, shape).await;
    }
    let client = connect(master).await?;
    let streams = client.streams();
    match command {
        Command::Apply { .. } => Ok(()),
        Command::List => {
            let list = streams.list().await?;
            match shape {
                Shape::Table => output::print(&show::list(&list)),
                Shape::Json => list.iter().try_for_each(output::print_json),
            }
        }
        Command::Status { name, watch: false } => {
            let status = streams.status(&name).await?;
            match shape {
                Shape::Table => output::print(&show::status(&status)),
                Shape::Json => output::print_json(&status),
            }
        }
        Command::Status { name, watch: true } => show::watch(&streams, &name, shape).await,
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
        Command::DeadLetters(arguments) => letters::run(&client, arguments, shape).await,
        Command::Reset(arguments) => reset::run(&streams, arguments, shape).await,
        Command::Delete { name } => {
            streams.delete(&name).await?;
            done(shape, &name, "deleted")
        }
    }
}

async fn apply(
    file: &Path,
    until: Option<Position>,
    wait: bool,
    master: &Master,
    shape: Shape,
) -> Result {
    let text =
        std::fs::read_to_string(file).or_usage(|| format!("cannot read {}", file.display()))?;
    // A file that does not hold is refused before a master is looked for.
    let mut definition = stream_file::parse(&text, file)?;
    definition.until = until.or(definition.until);
    if wait && definition.until.is_none() {
        let message = format!(
            "stream {} never ends, so nobody can wait for it",
            definition.name
        );
        return Err(Failure::usage(message).hint("say where it ends: --until now"));
    }
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
    done(shape, &name, what)?;
    match wait {
        true => wait_for_end(&client.streams(), &name, shape).await,
        false => Ok(()),
    }
}

fn until(text: &str) -> std::result::Result<Position, String> {
    match text {
        "earliest" => Err("a stream that ends where it begins reads nothing".to_owned()),
        text => stream_file::position(text),
    }
}

/// Looks at a stream until it has ended, and tells why it stands still where it does.
async fn wait_for_end(streams: &Streams, name: &str, shape: Shape) -> Result {
    let mut told = String::new();
    let mut failing_since = None;
    loop {
        let status = streams.status(name).await?;
        match status.state.as_str() {
            "finished" => return done(shape, name, "finished"),
            "failing" => {
                let since: &mut Instant = failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= FAILING_FOR {
                    let message = format!("stream {name} is failing: {}", status.last_error);
                    return Err(Failure::failed(message)
                        .hint("it goes on trying; `drumline stream status` tells how it is"));
                }
            }
            "paused" => {
                return Err(Failure::failed(format!("stream {name} is paused"))
                    .hint(format!("drumline stream resume {name}")));
            }
            _ => failing_since = None,
        }
        if !status.last_error.is_empty() && status.last_error != told {
            told = status.last_error;
            Terminal::new(false).say(format!("stream {name} is {}: {told}", status.state));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
