//! `drumline up`: a cluster of processes on this machine, in the foreground.

use std::path::PathBuf;

use crate::commands::tuning::Tuning;
use crate::failure::{Failure, Result};
use crate::local::{Folder, Joined, LocalCluster, Lost, Options, lake_url};
use crate::logging::{self, LogFormat};
use crate::output;
use crate::signals;
use crate::terminal::Terminal;

/// Start a master and workers on this machine, until Ctrl-C, which cancels what runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline up\n  drumline up --workers 4 --cores 2 --lake gs://bucket/lake\n  \
    drumline up --port 0 --data-dir /tmp/second   # beside another one"
)]
pub(crate) struct Arguments {
    /// Worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Cores of each worker [default: an equal share of this machine's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: Option<u32>,
    /// Root of the lake: gs://bucket/prefix, s3://bucket/prefix, or a folder [default: <DATA_DIR>/lake]
    #[arg(long, value_name = "URL")]
    lake: Option<String>,
    /// Everything of this cluster: state/ work/ logs/, and lake/ unless --lake says otherwise
    #[arg(long, default_value = "./drumline-data")]
    data_dir: PathBuf,
    /// Port of the master on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = crate::config::DEFAULT_PORT)]
    port: u16,
    /// Encrypt all connections, with the certificates in this folder (`drumline init` makes them)
    #[arg(long, value_name = "DIR", env = "DRUMLINE_TLS")]
    tls: Option<PathBuf>,
    /// Shape of log lines, of all processes
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    tuning: Tuning,
    /// No messages besides where everything is
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    logging::start(arguments.log_format, "up", "warn")?;
    let terminal = Terminal::new(arguments.quiet);
    let lake = arguments.lake.as_deref().map(lake_url).transpose()?;
    let folder = Folder::open(&arguments.data_dir)?;
    let options = Options {
        port: arguments.port,
        workers: arguments.workers,
        cores: arguments
            .cores
            .unwrap_or_else(|| Options::share_of_cores(arguments.workers)),
        lake: lake.map_or_else(|| folder.lake(), Ok)?,
        tls: arguments.tls,
        log_format: arguments.log_format,
        tuning: Some(arguments.tuning),
    };
    let stop = signals::stop_token()?;
    let mut cluster = LocalCluster::new(folder, options.clone());
    let result = tokio::select! {
        result = serve(&mut cluster, &options, terminal) => result,
        () = stop.cancelled() => Ok(()),
    };
    if stop.is_cancelled() {
        terminal.say("stopping");
    }
    cluster.stop().await;
    result
}

async fn serve(cluster: &mut LocalCluster, options: &Options, terminal: Terminal) -> Result {
    terminal.say(format!("starting a master and {} workers", options.workers));
    let (url, workers) = cluster.launch().await?;
    output::print(&places(
        url.as_str(),
        &workers,
        options.lake.as_str(),
        &cluster.folder().logs().display().to_string(),
    ))?;
    let master = match options.port {
        crate::config::DEFAULT_PORT if options.tls.is_none() => String::new(),
        _ => format!(" --master {}", crate::config::shown(&url)),
    };
    terminal.say(format!(
        "ready; ask with `drumline sql{master}`, stop with Ctrl-C"
    ));
    watch(cluster, terminal).await
}

/// Until the master ends. A lost worker is reported and the others go on.
pub(crate) async fn watch(cluster: &mut LocalCluster, terminal: Terminal) -> Result {
    loop {
        match cluster.lost().await? {
            Lost::Master(failure) => return Err(failure),
            Lost::Worker { failure, left } => {
                Failure {
                    hint: None,
                    ..failure
                }
                .report();
                terminal.say(format!(
                    "the cluster goes on with the other workers: {left} left"
                ));
            }
        }
    }
}

/// One line for each thing: what it is, where it is.
pub(crate) fn places(master: &str, workers: &[Joined], lake: &str, logs: &str) -> String {
    let mut text = format!("master    {}\n", master.trim_end_matches('/'));
    for worker in workers {
        let Joined {
            name,
            url,
            cores,
            pid,
        } = worker;
        text.push_str(&format!(
            "{name:<8}  {}  cores {cores}, pid {pid}\n",
            url.trim_end_matches('/')
        ));
    }
    text.push_str(&format!("lake      {lake}\nlogs      {logs}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_line() {
        let worker = Joined {
            name: "worker-1".to_owned(),
            url: "http://127.0.0.1:4000/".to_owned(),
            cores: 2,
            pid: 77,
        };
        insta::assert_snapshot!(places("http://127.0.0.1:7077/", &[worker], "file:///d/lake", "/d/logs"), @r"
        master    http://127.0.0.1:7077
        worker-1  http://127.0.0.1:4000  cores 2, pid 77
        lake      file:///d/lake
        logs      /d/logs
        ");
    }
}
