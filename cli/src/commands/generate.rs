//! `drumline generate`: made-up listening events, the same for the same seed.

use std::fmt::Write as _;

use drumline_events::{Generator, Options};

use crate::failure::Result;
use crate::pump::{Pace, Pump, Record, positive};
use crate::signals;
use crate::sink::SinkArg;
use crate::terminal::Terminal;

/// Make up listening events: returning users, sessions, level changes, some events late.
#[derive(Debug, clap::Args)]
#[group(id = "how_many", required = true, multiple = true, args = ["events", "rate"])]
#[command(
    after_help = "Examples:\n  drumline generate --events 1000000 --output ./events\n  \
    drumline generate --rate 5000 --brokers localhost:9092     # until Ctrl-C\n  \
    drumline generate --events 10 --seed 7 --output - | head -1"
)]
pub(crate) struct Arguments {
    /// How many events, all topics together
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Events per second; without --events, until Ctrl-C
    #[arg(long, value_name = "R", value_parser = positive)]
    rate: Option<f64>,
    /// The same seed gives the same events
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
    /// Listeners who come back, session after session
    #[arg(long, default_value_t = Options::default().users, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    #[command(flatten)]
    sink: SinkArg,
    /// No progress and no messages, only errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let options = Options {
        seed: arguments.seed,
        users: arguments.users,
        ..Options::default()
    };
    let stop = signals::stop_token()?;
    let pump = Pump {
        sink: arguments.sink.open().await?,
        pace: arguments.rate.map_or(Pace::Full, Pace::Rate),
        total: arguments.events,
        output: arguments.sink.output(),
        terminal: Terminal::new(arguments.quiet),
    };
    let ended = pump
        .run(
            records(Generator::new(options), arguments.events),
            stop.clone(),
        )
        .await;
    match ended {
        // Without a number of events, Ctrl-C is how it ends.
        Err(_) if arguments.events.is_none() && stop.is_cancelled() => Ok(()),
        ended => ended.map(|_| ()),
    }
}

fn records(
    mut generator: Generator,
    limit: Option<u64>,
) -> impl FnMut(&mut Record) -> bool + Send + 'static {
    let mut left = limit.unwrap_or(u64::MAX);
    move |record| {
        if left == 0 {
            return false;
        }
        left -= 1;
        let made = generator.write_next(&mut record.json);
        record.topic = made.topic;
        record.ts_millis = made.ts_millis;
        // Writing to a string cannot fail.
        let _ = write!(record.key, "{}", made.key);
        true
    }
}
