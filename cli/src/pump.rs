//! Moves events from a source to a sink, at full speed or paced, until the end or a stop.
//!
//! Sending blocks (for back-pressure), so the pump runs on a blocking thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use drumline_events::Topic;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, OrFail as _, Result};
use crate::output::{self, Written};
use crate::sink::Sink;
use crate::terminal::Terminal;

/// Events between two looks at the clock and at the stop token, when nothing is paced.
const LOOK_EVERY: u64 = 1024;
/// Longest sleep, so that a stop is noticed.
const SLEEP: Duration = Duration::from_millis(50);

/// One record on its way; its buffers are used again for the next.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) topic: Topic,
    pub(crate) key: String,
    pub(crate) ts_millis: i64,
    pub(crate) json: Vec<u8>,
}

/// How fast events go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    Full,
    /// Events per second.
    Rate(f64),
    /// Seconds of event time per second.
    Speed(f64),
}

/// What was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    pub(crate) topics: BTreeMap<&'static str, u64>,
}

/// Everything a run needs besides its source.
pub(crate) struct Pump {
    pub(crate) sink: Sink,
    pub(crate) pace: Pace,
    /// How many events the source holds, where that is known.
    pub(crate) total: Option<u64>,
    /// Folder shown in the summary.
    pub(crate) output: Option<PathBuf>,
    pub(crate) terminal: Terminal,
}

impl Pump {
    /// Pumps until `source` gives false, and waits until everything has arrived. A stop ends early:
    /// what was sent is waited for, and the command counts as cancelled.
    pub(crate) async fn run<S>(self, source: S, stop: CancellationToken) -> Result<Sent>
    where
        S: FnMut(&mut Record) -> bool + Send + 'static,
    {
        let terminal = self.terminal;
        let began = Instant::now();
        let place = self.sink.place(self.output.as_deref());
        let token = stop.clone();
        let sent = tokio::task::spawn_blocking(move || self.pump(source, &token))
            .await
            .or_fail(|| "events".to_owned())??;
        terminal.say(summary(&sent, &place, began.elapsed()));
        if stop.is_cancelled() {
            Err(Failure::cancelled())
        } else {
            Ok(sent)
        }
    }

    fn pump(
        mut self,
        mut source: impl FnMut(&mut Record) -> bool,
        stop: &CancellationToken,
    ) -> Result<Sent> {
        let bar = self.bar();
        let mut record = Record {
            topic: Topic::ALL[0],
            key: String::new(),
            ts_millis: 0,
            json: Vec::new(),
        };
        let mut counts = [0_u64; Topic::ALL.len()];
        let mut clock = Clock::new(self.pace);
        let mut events = 0_u64;
        while !stop.is_cancelled() {
            record.json.clear();
            record.key.clear();
            if !source(&mut record) {
                break;
            }
            let mut waited = false;
            while let Some(wait) = clock.wait(events, record.ts_millis) {
                if !waited {
                    // Nobody should wait for events that are only buffered here.
                    self.sink.flush()?;
                    waited = true;
                }
                if stop.is_cancelled() {
                    break;
                }
                std::thread::sleep(wait.min(SLEEP));
            }
            if self
                .sink
                .send(record.topic, &record.key, record.ts_millis, &record.json)?
                == Written::ReaderGone
            {
                break;
            }
            events += 1;
            if let Some(at) = Topic::ALL.iter().position(|&topic| topic == record.topic) {
                counts[at] += 1;
            }
            if events.is_multiple_of(LOOK_EVERY) {
                bar.set_position(events);
            }
        }
        bar.finish_and_clear();
        self.sink.finish()?;
        let topics = Topic::ALL
            .iter()
            .map(|topic| topic.name())
            .zip(counts)
            .collect();
        Ok(Sent { events, topics })
    }

    fn bar(&self) -> ProgressBar {
        if !self.terminal.bars() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match self.total {
            Some(total) => (
                ProgressBar::new(total),
                "[{bar:30}] {human_pos}/{human_len} events  {per_sec}  {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} events  {per_sec}",
            ),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }
}

/// When an event is due.
struct Clock {
    pace: Pace,
    began: Instant,
    first_ts: Option<i64>,
}

impl Clock {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            began: Instant::now(),
            first_ts: None,
        }
    }

    /// How long until the event after `events` others, with this event time, is due.
    fn wait(&mut self, events: u64, ts_millis: i64) -> Option<Duration> {
        if matches!(self.pace, Pace::Full) {
            return None;
        }
        let first = *self.first_ts.get_or_insert(ts_millis);
        due(self.pace, events, ts_millis - first)?
            .checked_sub(self.began.elapsed())
            .filter(|wait| !wait.is_zero())
    }
}

/// When an event is due, from the beginning.
fn due(pace: Pace, events: u64, event_millis: i64) -> Option<Duration> {
    let seconds = match pace {
        Pace::Full => return None,
        Pace::Rate(rate) => events as f64 / rate,
        // Late events are due at once.
        Pace::Speed(speed) => (event_millis as f64 / 1000.0 / speed).max(0.0),
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn summary(sent: &Sent, place: &str, elapsed: Duration) -> String {
    let topics: Vec<String> = sent
        .topics
        .iter()
        .map(|(topic, count)| format!("{topic} {count}"))
        .collect();
    format!(
        "{} events to {place} in {}: {}",
        sent.events,
        output::elapsed(elapsed),
        topics.join(", ")
    )
}

/// A positive number, for `--rate` and `--speed`.
pub(crate) fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_events_evenly() {
        assert_eq!(due(Pace::Rate(100.0), 0, 0), Some(Duration::ZERO));
        assert_eq!(
            due(Pace::Rate(100.0), 250, 0),
            Some(Duration::from_millis(2500))
        );
    }

    #[test]
    fn a_speed_follows_event_time_and_late_events_go_at_once() {
        assert_eq!(
            due(Pace::Speed(3600.0), 9, 7_200_000),
            Some(Duration::from_secs(2))
        );
        assert_eq!(due(Pace::Speed(3600.0), 9, -5_000), Some(Duration::ZERO));
    }

    #[test]
    fn at_full_speed_nothing_waits() {
        assert_eq!(Clock::new(Pace::Full).wait(1_000_000, 0), None);
    }

    #[test]
    fn a_rate_must_be_above_nothing() {
        assert_eq!(positive("2.5"), Ok(2.5));
        for text in ["0", "-1", "x", "inf", "NaN"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }
}
