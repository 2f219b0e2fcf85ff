//! Logs of the long-running commands: stderr, text or JSON, filtered by `RUST_LOG`.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::failure::{OrFail as _, Result};

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends tracing to stderr. `default` is the filter where `RUST_LOG` is not set.
pub(crate) fn start(format: LogFormat, default: &str) -> Result {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).or_usage(|| format!("RUST_LOG `{text}`"))?
        }
        _ => EnvFilter::try_new(default).or_fail(|| "log filter".to_owned())?,
    };
    let color = crate::terminal::Terminal::new(false).color();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so on stderr, which is what failed, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(color).with_target(false).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    }
    .or_fail(|| "cannot start logging".to_owned())
}
