//! `drumline worker`: one worker process.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::MasterArg;
use crate::failure::{Failure, Result};
use crate::logging::{self, LogFormat};
use crate::{output, signals};

/// Run a worker of a master. It waits for its master, and joins again after losing it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline worker --master http://10.0.0.1:7077 --listen 10.0.0.2:0\n  \
    drumline worker --cores 4"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    master: MasterArg,
    /// Address to listen on; port 0 picks a free one
    #[arg(
        long,
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS",
        env = "DRUMLINE_WORKER__LISTEN"
    )]
    listen: SocketAddr,
    /// Cores to use [default: all of this machine's]
    #[arg(long, env = "DRUMLINE_WORKER__CORES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: Option<u32>,
    /// Scratch space; emptied when the worker stops
    #[arg(
        long,
        default_value = "./drumline-data/work",
        env = "DRUMLINE_WORKER__WORK_DIR"
    )]
    work_dir: PathBuf,
    /// Shape of log lines on stderr; RUST_LOG filters them
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Stop when stdin ends
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    logging::start(arguments.log_format, "info")?;
    let stop = signals::stop_token(arguments.exit_with_parent)?;
    let master = arguments.master.resolve()?;
    let _ = (stop, master, output::print);
    Err(Failure::failed("the worker is not here yet"))
}
