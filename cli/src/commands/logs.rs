//! `drumline logs`: what the master or a worker logs.

use clap::ValueEnum;
use serde_json::Value;

use crate::config::MasterArg;
use crate::failure::{Failure, Result};
use crate::output;
use crate::records::Client;
use crate::signals::StopSignals;

/// What the master or a worker has logged last, and what it logs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each process keeps its newest lines in memory; what `drumline up` starts also writes all of them \
    to files.\n\nExamples:\n  drumline logs -f\n  drumline logs --component worker-1 -n 50\n  \
    drumline logs -o json | jq 'select(.application == \"0198c2d0-…\")'"
)]
pub(crate) struct Arguments {
    /// Whose: `master`, or the id of a worker
    #[arg(long, default_value = "master")]
    component: String,
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many lines from the end
    #[arg(short = 'n', long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    tail: u32,
    /// Shape of lines on stdout
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
    #[command(flatten)]
    master: MasterArg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Time, level, message and fields, for people.
    #[default]
    Text,
    /// One JSON object per line, as it was logged.
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        result = print(&arguments) => result,
        // Whoever follows ends that when it is enough.
        () = signals.recv() => Ok(()),
    }
}

async fn print(arguments: &Arguments) -> Result {
    let client = Client::new(&arguments.master.resolve()?)?;
    let query = [
        ("component", arguments.component.clone()),
        ("tail", arguments.tail.to_string()),
        ("follow", arguments.follow.to_string()),
    ];
    let mut lines = client.lines("logs", &query).await?;
    while let Some(line) = lines.next().await? {
        let text = match arguments.output {
            Shape::Json => line,
            Shape::Text => text(&line),
        };
        if output::write_line(&text)? == output::Written::ReaderGone {
            return Ok(());
        }
    }
    match arguments.follow {
        true => Err(Failure::failed(format!(
            "the log of `{}` ends here: it is gone, or the master is",
            arguments.component
        ))),
        false => Ok(()),
    }
}

/// `time LEVEL message field=value …`
fn text(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => safe(&text),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (timestamp, level, message) = (take("timestamp"), take("level"), take("message"));
    take("component");
    take("target");
    let mut text = format!("{timestamp} {level:>5} {message}");
    for (name, value) in fields {
        let value = match value {
            Value::String(text) if text.contains(' ') => format!("{:?}", safe(&text)),
            Value::String(text) => safe(&text),
            other => other.to_string(),
        };
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// No control characters: they would move the cursor about.
fn safe(text: &str) -> String {
    let safe = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    safe.collect()
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_line_is_shown_with_its_fields() {
        let line = r#"{"timestamp":"2026-11-21T12:00:00.123Z","level":"INFO","component":"master","target":"x",
            "message":"job ended","application":"019a","reason":"it was\u001b[2J lost"}"#;
        assert_eq!(
            text(line),
            "2026-11-21T12:00:00.123Z  INFO job ended application=019a reason=\"it was [2J lost\""
        );
        assert_eq!(text("as it is"), "as it is");
    }
}
