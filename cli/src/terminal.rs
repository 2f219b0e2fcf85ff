//! What may be drawn where: stdout carries data, stderr carries progress and messages.

use std::io::IsTerminal as _;
use std::io::Write as _;

/// How talkative this run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    quiet: bool,
    bars: bool,
    color: bool,
}

impl Terminal {
    /// Looks at the process's stderr and at `NO_COLOR` (any value that is not empty).
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            quiet,
            bars: terminal && !quiet && !dumb,
            color: terminal && !no_color && !dumb,
        }
    }

    /// Bars and spinners may be drawn.
    pub(crate) fn bars(self) -> bool {
        self.bars
    }

    /// Escape codes for colour may be written to stderr.
    pub(crate) fn color(self) -> bool {
        self.color
    }

    /// A message for people; nothing when `--quiet`.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
        }
    }
}
