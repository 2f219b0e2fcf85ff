//! `drumline worker`: one worker process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use drumline_security::local;
use drumline_worker::TokenSource;

use crate::commands::{Exposure, cannot_listen};
use crate::config::{self, Master, MasterArg, shown};
use crate::failure::{Failure, Result};
use crate::logging::{self, FILTER, LogFormat};
use crate::memory::{self, Memory};
use crate::signals::{self, Ending};
use crate::{allocator, connect, output};

/// Run a worker of a master. It waits for its master, and joins again after losing it.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  drumline worker --master https://10.0.0.1:7077 --listen 10.0.0.2:0 --tls ./drumline-tls\n  \
    drumline worker --cores 4\n  drumline worker drain worker-2"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<WorkerCommand>,
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
    /// Name within the cluster; while a worker of that name answers, another is refused [default: a random one]
    #[arg(long, env = "DRUMLINE_WORKER__ID")]
    id: Option<String>,
    /// Cores to use [default: all of this machine's]
    #[arg(long, env = "DRUMLINE_WORKER__CORES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: Option<u32>,
    /// Memory for tasks and streams, e.g. 4GiB or 60%; beyond it they spill to the scratch space, or fail
    #[arg(long, default_value = "60%", value_name = "SIZE", env = "DRUMLINE_WORKER__MEMORY", value_parser = memory::parse)]
    memory: Memory,
    /// Of that, what streams may hold: records read ahead and open files; beyond it the largest files are closed
    /// early [default: a third]
    #[arg(long, value_name = "SIZE", env = "DRUMLINE_WORKER__INGEST_MEMORY", value_parser = memory::parse)]
    ingest_memory: Option<Memory>,
    /// Scratch space; emptied when the worker stops
    #[arg(
        long,
        default_value = "./drumline-data/work",
        env = "DRUMLINE_WORKER__WORK_DIR"
    )]
    work_dir: PathBuf,
    /// How long to finish running tasks, and to hand streams over, after SIGTERM or `drumline worker drain`
    #[arg(
        long,
        default_value_t = 60,
        value_name = "SECONDS",
        env = "DRUMLINE_WORKER__DRAIN_SECONDS"
    )]
    drain_seconds: u64,
    /// A folder whose files streams may name in Kafka settings (${file:…}), beside /run/secrets; may be repeated
    #[arg(
        long,
        value_name = "DIR",
        env = "DRUMLINE_WORKER__SECRETS",
        value_delimiter = ','
    )]
    secrets: Vec<PathBuf>,
    #[command(flatten)]
    exposure: Exposure,
    /// Shape of log lines on stderr; RUST_LOG filters them
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Stop when stdin ends
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

#[derive(Debug, clap::Subcommand)]
enum WorkerCommand {
    /// Let a worker leave: it takes no new tasks, finishes those it has, hands its streams over
    Drain {
        /// Its name, as the cluster's status and the master's log say it
        id: String,
    },
}

async fn drain(master: &MasterArg, id: &str) -> Result {
    let client = connect::connect(&master.resolve()?).await?;
    client.drain_worker(id).await?;
    output::print(&format!(
        "worker {id} drains: it leaves once its tasks have ended and its streams are handed over\n"
    ))
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    if let Some(WorkerCommand::Drain { id }) = &arguments.command {
        return drain(&arguments.master, id).await;
    }
    let id = arguments.id.unwrap_or_else(drumline_worker::random_id);
    let log = logging::start(arguments.log_format, &id, FILTER)?;
    arguments.exposure.check(arguments.listen)?;
    let Ending {
        in_order: drain,
        now: stop,
    } = signals::ending()?;
    if arguments.exit_with_parent {
        signals::end_with_parent(stop.clone())?;
    }
    let master = arguments.master.resolve()?;
    let mut options = drumline_worker::Options::new(master.url.clone(), &arguments.work_dir);
    options.token = token_source(&master);
    options.tls = arguments.exposure.tls;
    options.listen = arguments.listen;
    options.id = Some(id);
    options.log = log;
    options.secrets = arguments.secrets;
    options.drain_within = std::time::Duration::from_secs(arguments.drain_seconds);
    options.cores = arguments.cores.unwrap_or(options.cores);
    options.memory = arguments.memory.bytes()?;
    options.ingest_memory = match arguments.ingest_memory {
        Some(memory) => memory.bytes()?,
        None => None,
    };
    if let (Some(part), Some(whole)) = (options.ingest_memory, options.memory)
        && part > whole
    {
        return Err(Failure::usage(format!(
            "--ingest-memory of {part} bytes is more than --memory, of which it is a part: {whole} bytes"
        ))
        .hint("give less, or more with --memory"));
    }
    options.stores = config::stores()?;
    allocator::watch(options.memory);
    let worker = tokio::select! {
        worker = drumline_worker::start(options) => worker.map_err(|error| explain(error, arguments.listen))?,
        () = stop.cancelled() => return Ok(()),
        () = drain.cancelled() => return Ok(()),
    };
    let (url, master) = (shown(worker.url()), shown(&master.url));
    output::print(&format!("worker is at {url}, master {master}\n"))?;
    let (stopper, drainer) = (worker.stopper(), worker.drainer());
    let mut ended = std::pin::pin!(worker.wait());
    let result = tokio::select! {
        result = &mut ended => result,
        () = stop.cancelled() => {
            tracing::info!("stopping");
            stopper.cancel();
            ended.await
        }
        () = drain.cancelled() => {
            drainer.cancel();
            ended.await
        }
    };
    result.map_err(|error| explain(error, arguments.listen))
}

/// Looked for before each try to join: the master may make it in the meantime.
fn token_source(master: &Master) -> TokenSource {
    let Master { url, given } = master.clone();
    Arc::new(move || {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let environment = |name: &str| std::env::var(name).ok();
        let found = local::find(host, port, local::Wanted::Workers, &given, &environment)?;
        Ok(found.token)
    })
}

fn explain(error: drumline_worker::Error, listen: SocketAddr) -> Failure {
    match error {
        drumline_worker::Error::Listen { source, .. } => cannot_listen(listen, &source),
        other => Failure::failed(other.to_string()).hint(other.hint().unwrap_or_default()),
    }
}
