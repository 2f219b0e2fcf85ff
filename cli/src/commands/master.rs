//! `drumline master`: one master process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use drumline_master::Authentication;
use drumline_security::local;

use crate::amount;
use crate::commands::{Exposure, cannot_listen};
use crate::config;
use crate::failure::{Failure, Result};
use crate::local::lake_url;
use crate::logging::{self, LogFormat};
use crate::memory::{self, Memory};
use crate::{output, signals};

/// Run a master.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline master --lake gs://bucket/lake --listen 10.0.0.1:7077 --tls ./drumline-tls\n  \
    drumline master --listen 127.0.0.1:0 --lake ./lake\n\n\
    The first token, an admin's, is in the file `token` of the state folder; only its owner can read it."
)]
pub(crate) struct Arguments {
    /// Address to listen on; port 0 picks a free one
    #[arg(
        long,
        default_value = "127.0.0.1:7077",
        value_name = "ADDRESS",
        env = "DRUMLINE_MASTER__LISTEN"
    )]
    listen: SocketAddr,
    /// Root of the lake: gs://bucket/prefix, s3://bucket/prefix, or a folder
    #[arg(
        long,
        default_value = "./drumline-data/lake",
        value_name = "URL",
        env = "DRUMLINE_MASTER__LAKE"
    )]
    lake: String,
    /// The master's own folder: its tokens, and what it remembers of runs
    #[arg(
        long,
        visible_alias = "data-dir",
        default_value = "./drumline-data/state",
        env = "DRUMLINE_MASTER__STATE_DIR"
    )]
    state_dir: PathBuf,
    /// How long applications are remembered after their end, e.g. 12h or 30d
    #[arg(
        long,
        default_value = "30d",
        value_name = "TIME",
        value_parser = amount::duration,
        env = "DRUMLINE_MASTER__HISTORY_AGE"
    )]
    history_age: Duration,
    /// How much history is kept in the state folder, in each of its two copies; above it the oldest is forgotten
    #[arg(
        long,
        default_value = "256MiB",
        value_name = "SIZE",
        value_parser = amount::size,
        env = "DRUMLINE_MASTER__HISTORY_SIZE"
    )]
    history_size: u64,
    /// Memory for small queries, which run in the master, e.g. 2GiB or 20%; beyond it they spill, or fail
    #[arg(long, default_value = "20%", value_name = "SIZE", env = "DRUMLINE_MASTER__MEMORY", value_parser = memory::parse)]
    memory: Memory,
    /// Who is told, by POST, of failed applications, failing streams and lost workers; a secret [default:
    /// `webhook` under `[notify]` in the config file]
    #[arg(
        long,
        value_name = "URL",
        env = "DRUMLINE_NOTIFY__WEBHOOK",
        hide_env_values = true
    )]
    notify_webhook: Option<String>,
    /// Jobs that run at the same time, as far as there are cores; more wait in line
    #[arg(
        long,
        default_value_t = 4,
        value_name = "N",
        env = "DRUMLINE_MASTER__CONCURRENT_JOBS",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    concurrent_jobs: u16,
    /// Collector of traces (OTLP over gRPC), e.g. http://127.0.0.1:4317; without one none are made
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// A folder beside the lake's that external tables may be over, by URL or absolute path; may be repeated
    #[arg(
        long = "allow-location",
        value_name = "URL",
        env = "DRUMLINE_MASTER__ALLOW_LOCATION",
        value_delimiter = ','
    )]
    allowed_locations: Vec<String>,
    #[command(flatten)]
    exposure: Exposure,
    /// Shape of log lines on stderr; RUST_LOG filters them
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Stop when stdin ends
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let log = logging::start(arguments.log_format, "master", "info")?;
    arguments.exposure.check(arguments.listen)?;
    let stop = signals::stop_token(arguments.exit_with_parent)?;
    let lake = lake_url(&arguments.lake)?;
    let mut options =
        drumline_master::Options::new(arguments.listen, lake.as_str(), &arguments.state_dir);
    options.memory_limit = arguments.memory.bytes()?;
    options.log = log;
    options.history_age = arguments.history_age;
    options.webhook = config::webhook(arguments.notify_webhook)?
        .map(|url| drumline_master::Webhook::new(&url))
        .transpose()
        .map_err(|error| explain(error, arguments.listen))?;
    options.history_size = arguments.history_size;
    options.concurrent_jobs = usize::from(arguments.concurrent_jobs);
    options.collector = arguments
        .otlp_endpoint
        .filter(|url| !url.is_empty())
        .map(|url| drumline_master::Collector::new(&url))
        .transpose()
        .map_err(|error| explain(error, arguments.listen))?;
    options.tls = arguments.exposure.tls;
    if arguments.exposure.insecure_no_authentication {
        options.authentication = Authentication::Nobody;
    }
    options.announce_in = local::folder(&|name| std::env::var(name).ok());
    options.allowed_locations = arguments.allowed_locations;
    let master = tokio::select! {
        master = drumline_master::start(options) => master.map_err(|error| explain(error, arguments.listen))?,
        () = stop.cancelled() => return Ok(()),
    };
    output::print(&format!("master is at {}, lake {lake}\n", master.url()))?;
    stop.cancelled().await;
    tracing::info!("stopping");
    master.stop().await;
    Ok(())
}

fn explain(error: drumline_master::Error, listen: SocketAddr) -> Failure {
    match error {
        drumline_master::Error::Listen { source, .. } => cannot_listen(listen, &source),
        other => Failure::failed(other.to_string()).hint(other.hint().unwrap_or_default()),
    }
}
