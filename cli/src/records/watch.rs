//! Shows records again whenever something has happened, as the master's events say.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::client::Lines;
use super::show::{Record, View};
use super::table::width;
use crate::failure::{Code, Result};
use crate::output;
use crate::terminal::Terminal;

/// Facts come in bursts: they are looked at together, and the master is asked so often at most.
const TOGETHER: Duration = Duration::from_millis(300);
/// How often times that count up are drawn anew where nothing happens.
const REDRAW: Duration = Duration::from_secs(1);
/// Between two attempts to reach a master that is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// To the upper left, and nothing below what is drawn.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[2J";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Until the command is stopped. A master that is lost is waited for.
pub(super) async fn run(view: &View) -> Result {
    let terminal = Terminal::new(false);
    let mut screen = Screen::new();
    let mut is_lost = false;
    loop {
        let ended = follow(view, &mut screen, &mut is_lost).await;
        match ended {
            Err(failure) if failure.code != Code::Unreachable => return Err(failure),
            // Nothing was ever seen of a master.
            Err(failure) if screen.is_new() => return Err(failure),
            _ if is_lost => {}
            _ => terminal.say("the master is gone; waiting for it to come back"),
        }
        is_lost = true;
        sleep(AGAIN).await;
    }
}

async fn follow(view: &View, screen: &mut Screen, is_lost: &mut bool) -> Result {
    // Listened to first, so that nothing is missed between the list and the events.
    let mut events = view.client.lines("events", &[]).await?;
    loop {
        let (records, _) = view.fetch().await?;
        *is_lost = false;
        screen.show(view, records)?;
        if !happened(&mut events, screen, view).await? {
            return Ok(());
        }
    }
}

/// Waits until something has happened, and then until it is quiet for a moment. `false`: the master ended it.
async fn happened(events: &mut Lines, screen: &mut Screen, view: &View) -> Result<bool> {
    let mut look_at: Option<Instant> = None;
    loop {
        let wake = look_at.unwrap_or_else(|| Instant::now() + REDRAW);
        match timeout_at(wake, events.next()).await {
            Ok(line) => match line? {
                None => return Ok(false),
                Some(line) if line.starts_with("event:") => {
                    look_at.get_or_insert_with(|| Instant::now() + TOGETHER);
                }
                Some(_) => {}
            },
            Err(_) if look_at.is_some() => return Ok(true),
            Err(_) => screen.redraw(view)?,
        }
    }
}

/// What was shown last.
struct Screen {
    is_terminal: bool,
    shown: Option<Vec<Record>>,
    by_identity: BTreeMap<String, String>,
}

impl Screen {
    fn new() -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            shown: None,
            by_identity: BTreeMap::new(),
        }
    }

    fn is_new(&self) -> bool {
        self.shown.is_none()
    }

    fn show(&mut self, view: &View, records: Vec<Record>) -> Result {
        if self.is_terminal {
            if self.is_new() {
                output::print(CLEAR)?;
            }
            self.shown = Some(records);
            return self.redraw(view);
        }
        if self.is_new() {
            output::print(&view.header(&records, None))?;
        }
        let mut changed = vec![];
        for record in &records {
            let before = self
                .by_identity
                .insert(view.identity(record), record.text.clone());
            if before.as_ref() != Some(&record.text) {
                changed.push(record.clone());
            }
        }
        // What happened first comes first.
        changed.reverse();
        output::print(&view.rows(&changed, None).concat())?;
        let known: Vec<String> = records.iter().map(|record| view.identity(record)).collect();
        self.by_identity
            .retain(|identity, _| known.contains(identity));
        self.shown = Some(records);
        Ok(())
    }

    /// Draws what is known again, because the times in it go on.
    fn redraw(&self, view: &View) -> Result {
        let Some(records) = self.shown.as_ref().filter(|_| self.is_terminal) else {
            return Ok(());
        };
        let text = view.text(records, width());
        let mut drawn = HOME.to_owned();
        for line in text.lines() {
            drawn.push_str(line);
            drawn.push_str(CLEAR_LINE);
            drawn.push('\n');
        }
        drawn.push_str(CLEAR_BELOW);
        output::print(&drawn)
    }
}
