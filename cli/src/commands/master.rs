//! `drumline master`: one master process.

use std::net::SocketAddr;
use std::path::PathBuf;

use drumline_master::Authentication;
use drumline_security::local;

use crate::allocator;
use crate::commands::tuning::Tuning;
use crate::commands::{Exposure, cannot_listen};
use crate::config;
use crate::failure::{Failure, Result};
use crate::local::lake_url;
use crate::logging::{self, FILTER, LogFormat};
use crate::memory::{self, Memory};
use crate::output;
use crate::signals::{self, Ending};

/// Run a master.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline master --lake gs://bucket/lake --listen 10.0.0.1:7077 --tls ./drumline-tls\n  \
    drumline master --listen 127.0.0.1:0 --lake ./lake\n\n\
    SIGTERM stops it so that SQL applications go on when it is started again; Ctrl-C cancels them.\n\
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
    /// Memory for small queries, which run in the master, e.g. 2GiB or 20%; beyond it they spill, or fail
    #[arg(long, default_value = "20%", value_name = "SIZE", env = "DRUMLINE_MASTER__MEMORY", value_parser = memory::parse)]
    memory: Memory,
    #[command(flatten)]
    tuning: Tuning,
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
    let log = logging::start(arguments.log_format, "master", FILTER)?;
    arguments.exposure.check(arguments.listen)?;
    let Ending { in_order, now } = signals::ending()?;
    if arguments.exit_with_parent {
        // Nobody asked for the end of what runs.
        signals::end_with_parent(in_order.clone())?;
    }
    let lake = lake_url(&arguments.lake)?;
    let mut options =
        drumline_master::Options::new(arguments.listen, lake.as_str(), &arguments.state_dir);
    options.stores = config::stores()?;
    options.memory_limit = arguments.memory.bytes()?;
    allocator::watch(options.memory_limit);
    options.log = log;
    arguments
        .tuning
        .apply(&mut options, |error| explain(error, arguments.listen))?;
    options.tls = arguments.exposure.tls;
    if arguments.exposure.insecure_no_authentication {
        options.authentication = Authentication::Nobody;
    }
    options.announce_in = local::folder(&|name| std::env::var(name).ok());
    let master = tokio::select! {
        master = drumline_master::start(options) => master.map_err(|error| explain(error, arguments.listen))?,
        () = in_order.cancelled() => return Ok(()),
        () = now.cancelled() => return Ok(()),
    };
    output::print(&format!("master is at {}, lake {lake}\n", master.url()))?;
    tokio::select! {
        () = now.cancelled() => {
            tracing::info!("stopping: what runs is cancelled");
            master.stop().await;
        }
        () = in_order.cancelled() => {
            tracing::info!("stopping: SQL applications go on with the next start on this state folder");
            master.hand_over().await;
        }
    }
    Ok(())
}

fn explain(error: drumline_master::Error, listen: SocketAddr) -> Failure {
    match error {
        drumline_master::Error::Listen { source, .. } => cannot_listen(listen, &source),
        other => Failure::failed(other.to_string()).hint(other.hint().unwrap_or_default()),
    }
}
