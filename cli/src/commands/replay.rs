//! `drumline replay`: Eventsim logs to the three topics.

use std::path::PathBuf;

use drumline_events::{Error, Replay};

use crate::failure::{Failure, Result};
use crate::pump::{Pace, Pump, Record, positive};
use crate::signals;
use crate::sink::SinkArg;
use crate::terminal::Terminal;

/// Send recorded listening events (Eventsim logs) as listen_events, page_view_events and auth_events,
/// in event-time order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline replay --brokers localhost:9092              # the shipped month of events\n  \
    drumline replay log_data/*.json --output ./events     # JSON lines, one file per topic\n  \
    drumline replay --brokers localhost:9092 --speed 3600 # an hour per second"
)]
pub(crate) struct Arguments {
    /// Log files of JSON lines: plain, .gz or .zst [default: the shipped example, November 2018]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sink: SinkArg,
    /// Seconds of event time per second [default: as fast as it goes]
    #[arg(long, value_name = "S", value_parser = positive)]
    speed: Option<f64>,
    /// No progress and no messages, only errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let events = match arguments.files.as_slice() {
        [] => drumline_events::example::replay()?,
        files => Replay::open(files)?,
    };
    let stop = signals::stop_token()?;
    let pump = Pump {
        sink: arguments.sink.open().await?,
        pace: arguments.speed.map_or(Pace::Full, Pace::Speed),
        total: Some(events.len() as u64),
        output: arguments.sink.output(),
        terminal: Terminal::new(arguments.quiet),
    };
    pump.run(records(events), stop).await.map(|_| ())
}

/// The events one by one.
pub(crate) fn records(mut events: Replay) -> impl FnMut(&mut Record) -> bool + Send + 'static {
    move |record| match events.next() {
        Some(event) => {
            *record = Record {
                topic: event.topic,
                key: event.key,
                ts_millis: event.ts_millis,
                json: event.json,
            };
            true
        }
        None => false,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::usage(error.to_string()).hint(error.hint().unwrap_or_default())
    }
}
