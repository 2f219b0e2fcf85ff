//! Logs of the long-running commands: stderr, text or JSON, filtered by `RUST_LOG`; the newest lines are kept for
//! whoever asks the process for them.
//!
//! A line of JSON is flat: what the spans around it say (`application`, `job`, …) stands beside its own fields.

mod lines;

use clap::ValueEnum;
use drumline_master::LogTail;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::failure::{OrFail as _, Result};
use lines::Lines;

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// As the option takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What services log where `RUST_LOG` is not set. Delta's kernel tells, once for each read of a log from within a task, of a
/// way of waiting that is right here: its runtime is its own.
pub(crate) const FILTER: &str = "info,buoyant_kernel_engine=warn";

/// Sends tracing to stderr, and keeps its newest lines. `component` is whose log it is; `default` is the filter where
/// `RUST_LOG` is not set.
pub(crate) fn start(format: LogFormat, component: &str, default: &str) -> Result<LogTail> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).or_usage(|| format!("RUST_LOG `{text}`"))?
        }
        _ => EnvFilter::try_new(default).or_fail(|| "log filter".to_owned())?,
    };
    let tail = LogTail::default();
    let text = (format == LogFormat::Text).then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(crate::terminal::Terminal::new(false).color())
            .with_target(false)
            // It would say so on stderr, which is what failed, and panic.
            .log_internal_errors(false)
            .boxed()
    });
    let lines = Lines::new(component, tail.clone(), format == LogFormat::Json);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(text)
        .try_init()
        .or_fail(|| "cannot start logging".to_owned())?;
    Ok(tail)
}
