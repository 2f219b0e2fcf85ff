//! Answers on stdout: tables for people, CSV and JSON lines for programs.

mod columns;
mod rows;

pub(crate) use columns::Columns;
pub(crate) use rows::{Format, RowWriter};

use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::failure::{Failure, OrFail as _, Result};

/// What became of a write to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is out.
    Yes,
    /// Nobody reads any more (`| head`): the reader has had enough, which is no error.
    ReaderGone,
}

/// Maps the outcome of a write to stdout.
pub(crate) fn written(result: io::Result<()>) -> Result<Written> {
    match result {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::ReaderGone),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Text to stdout.
pub(crate) fn print(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    written(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    )
    .map(|_| ())
}

/// One line to stdout.
pub(crate) fn write_line(line: &str) -> Result<Written> {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
}

/// One JSON value on one line.
pub(crate) fn print_json(value: &impl Serialize) -> Result {
    let line =
        serde_json::to_string(value).or_fail(|| "cannot write the answer as JSON".to_owned())?;
    print(&format!("{line}\n"))
}

/// A duration for people.
pub(crate) fn elapsed(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.2} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A number of rows, in words.
pub(crate) fn rows(count: u64) -> String {
    if count == 1 {
        "1 row".to_owned()
    } else {
        format!("{count} rows")
    }
}
