//! `drumline demo`: Kafka, lake, distributed SQL, answers; on this machine, in under a minute.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drumline_client::proto::StreamDefinition;
use drumline_client::{Client, stream_file};
use tokio_util::sync::CancellationToken;

use crate::application::{self, Script, View};
use crate::commands::up;
use crate::config::{DEFAULT_PORT, shown};
use crate::connect::connect;
use crate::demo::{Events, caught_up, questions, reset};
use crate::failure::{Failure, Result};
use crate::local::{Folder, LocalCluster, Options, lake_url};
use crate::logging::{self, LogFormat};
use crate::output::{self, Format};
use crate::signals::{self, StopSignals};
use crate::terminal::Terminal;

const STREAM_FILE: &str = "examples/beatlytica/beatlytica.toml";
const STREAM: &str = include_str!("../../../examples/beatlytica/beatlytica.toml");
/// The shipped stream commits every two minutes; a demo should not last that long.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);
/// How long the stream may take until every event is in its tables.
const CONSUME_DEADLINE: Duration = Duration::from_secs(120);
const FORGET_DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// Show the whole path on real listening events: Kafka, lake, distributed SQL, answers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline demo\n  drumline demo --keep       # the cluster stays up, for `drumline sql`\n  \
    drumline demo --brokers localhost:9092 --lake gs://bucket/demo"
)]
pub(crate) struct Arguments {
    /// Leave the cluster up until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Kafka brokers, host:port, comma separated [default: librdkafka's mock cluster in this process]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Root of the lake: gs://bucket/prefix, s3://bucket/prefix, or a folder [default: <DATA_DIR>/lake]
    #[arg(long, value_name = "URL")]
    lake: Option<String>,
    /// Everything of this cluster; emptied at the start if an earlier demo made it
    #[arg(long, default_value = "./drumline-demo")]
    data_dir: PathBuf,
    /// Worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Port of the master on 127.0.0.1; 0 picks a free one [default: 7077 if it is free]
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    logging::start(LogFormat::Text, "demo", "error")?;
    let stop = signals::stop_token()?;
    let lake = arguments.lake.as_deref().map(lake_url).transpose()?;
    let folder = Folder::open(&arguments.data_dir)?;
    reset(folder.path())?;
    let options = Options {
        port: arguments.port.unwrap_or_else(default_port),
        workers: arguments.workers,
        cores: Options::share_of_cores(arguments.workers),
        lake: lake.map_or_else(|| folder.lake(), Ok)?,
        tls: None,
        log_format: LogFormat::Text,
        tuning: None,
    };
    let events = tokio::select! {
        events = Events::open(arguments.brokers.as_deref()) => events?,
        () = stop.cancelled() => return Err(Failure::cancelled()),
    };
    let mut demo = Demo {
        terminal: Terminal::new(false),
        began: Instant::now(),
        cluster: LocalCluster::new(folder, options.clone()),
        events,
        options,
        stop: stop.clone(),
        data_dir: arguments.data_dir,
    };
    let shown = tokio::select! {
        shown = demo.show(arguments.keep) => shown,
        () = stop.cancelled() => Err(Failure::cancelled()),
    };
    let result = match shown {
        Ok(()) if arguments.keep => demo.keep().await,
        shown => shown,
    };
    demo.forget_stream().await;
    demo.cluster.stop().await;
    demo.events.close().await?;
    result
}

/// 7077 unless somebody has it: a demo beside another cluster should just work.
fn default_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT)).map_or(0, |_| DEFAULT_PORT)
}

struct Demo {
    terminal: Terminal,
    began: Instant,
    cluster: LocalCluster,
    events: Events,
    options: Options,
    stop: CancellationToken,
    data_dir: PathBuf,
}

impl Demo {
    async fn show(&mut self, keep: bool) -> Result {
        self.say(match self.events.is_embedded() {
            true => format!(
                "Kafka: a mock cluster inside this process at {} (it keeps 5 MiB per partition, in memory)",
                self.events.brokers()
            ),
            false => format!("Kafka: {}", self.events.brokers()),
        });
        self.events.ensure_topics().await?;
        let quiet = Terminal::new(true);
        let sent = if self.events.is_embedded() {
            let (cluster, sent) = tokio::join!(
                self.cluster.launch(),
                self.events.replay(quiet, self.stop.clone())
            );
            let ((url, workers), sent) = (cluster?, sent?);
            self.say(format!(
                "cluster: master at {} and {} workers, lake {}",
                shown(&url),
                workers.len(),
                self.options.lake
            ));
            self.say(format!(
                "replay: {sent} events of November 2018 sent to three topics"
            ));
            Some(sent)
        } else {
            let (url, workers) = self.cluster.launch().await?;
            self.say(format!(
                "cluster: master at {} and {} workers, lake {}",
                shown(&url),
                workers.len(),
                self.options.lake
            ));
            None
        };
        let client = connect(&self.cluster.master()?).await?;
        let definition = definition(self.events.brokers())?;
        let stream = definition.name.clone();
        client.streams().apply(definition).await?;
        self.say(format!(
            "stream: {stream} applied ({STREAM_FILE}, committing every {} s)",
            FLUSH_INTERVAL.as_secs()
        ));
        let expected = match sent {
            Some(sent) => sent,
            None => self.send_once(&client, &stream).await?,
        };
        let events = self.consume(&client, &stream, expected).await?;
        self.say(format!("stream: {events} events are in the lake"));
        self.ask(&client).await?;
        self.say("done".to_owned());
        if !keep {
            output::print(&next_steps(&self.data_dir))?;
        }
        Ok(())
    }

    /// Brokers that are given may hold the events from an earlier demo: sent again, they would count twice.
    async fn send_once(&self, client: &Client, stream: &str) -> Result<u64> {
        let (_, held) = self.wait(client, stream, |_, _| true).await?;
        if held > 0 {
            self.say(format!(
                "replay: left out, the topics hold {held} events already"
            ));
            return Ok(held);
        }
        let sent = self
            .events
            .replay(Terminal::new(true), self.stop.clone())
            .await?;
        self.say(format!(
            "replay: {sent} events of November 2018 sent to three topics"
        ));
        Ok(sent)
    }

    async fn consume(&self, client: &Client, stream: &str, expected: u64) -> Result<u64> {
        let (committed, _) = self
            .wait(client, stream, |committed, end| {
                committed == end && committed >= expected
            })
            .await?;
        Ok(committed)
    }

    /// Until the stream's `(committed, end)` satisfy `enough`.
    async fn wait(
        &self,
        client: &Client,
        stream: &str,
        enough: impl Fn(u64, u64) -> bool,
    ) -> Result<(u64, u64)> {
        let deadline = Instant::now() + CONSUME_DEADLINE;
        loop {
            let status = client.streams().status(stream).await?;
            let positions = caught_up(&status)?;
            match positions {
                Some((committed, end)) if enough(committed, end) => return Ok((committed, end)),
                _ if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                _ => {
                    let seen = match positions {
                        Some((committed, end)) => {
                            format!("{committed} of {end} events are committed")
                        }
                        None => "the ends of its partitions are not known".to_owned(),
                    };
                    return Err(Failure::failed(format!(
                        "stream {stream} is not done after {} s: {seen}",
                        CONSUME_DEADLINE.as_secs()
                    ))
                    .detail(status.last_error)
                    .hint(format!(
                        "logs are in {}",
                        self.cluster.folder().logs().display()
                    )));
                }
            }
        }
    }

    async fn ask(&self, client: &Client) -> Result {
        let view = View {
            terminal: self.terminal,
            format: Format::Table,
            facts: false,
        };
        let mut signals = StopSignals::listen()?;
        for (number, question) in questions().iter().enumerate() {
            output::print(&format!(
                "\n{}. {}\n\n{}\n\n",
                number + 1,
                question.title,
                indented(&question.sql)
            ))?;
            let script = Script {
                name: &question.title,
                sql: &question.sql,
                source: None,
                settings: HashMap::new(),
            };
            application::run(client, &script, view, &mut signals).await?;
        }
        output::print("\n")
    }

    /// Leaves the cluster up, in the foreground.
    async fn keep(&mut self) -> Result {
        let url = self.cluster.url().map(shown).unwrap_or_default().to_owned();
        let master = if self.options.port == DEFAULT_PORT {
            String::new()
        } else {
            format!(" --master {url}")
        };
        output::print(&format!(
            "The cluster stays up until Ctrl-C:\n  master   {url}\n  lake     {}\n  kafka    {}\n  ask      drumline sql{master}\n  \
             watch    drumline stream status beatlytica{master}\n",
            self.options.lake,
            self.events.brokers(),
        ))?;
        let stop = self.stop.clone();
        tokio::select! {
            ended = up::watch(&mut self.cluster, self.terminal) => ended,
            () = stop.cancelled() => Ok(()),
        }
    }

    /// The embedded Kafka ends with this process: a cluster started on this folder later should not look
    /// for it. Best effort, since the master may be gone.
    async fn forget_stream(&self) {
        let (Ok(master), true) = (self.cluster.master(), self.events.is_embedded()) else {
            return;
        };
        let forget = async {
            let streams = connect(&master).await.ok()?.streams();
            streams
                .delete(&definition(self.events.brokers()).ok()?.name)
                .await
                .ok()
        };
        let _ = tokio::time::timeout(FORGET_DEADLINE, forget).await;
    }

    fn say(&self, line: String) {
        self.terminal.say(format!(
            "[{:5.1} s] {line}",
            self.began.elapsed().as_secs_f64()
        ));
    }
}

/// The shipped stream, for these brokers and in a hurry.
fn definition(brokers: &str) -> Result<StreamDefinition> {
    let definition = stream_file::parse(STREAM, Path::new(STREAM_FILE))?;
    Ok(StreamDefinition {
        brokers: brokers.to_owned(),
        flush_interval_millis: FLUSH_INTERVAL.as_millis() as u64,
        ..definition
    })
}

fn indented(sql: &str) -> String {
    sql.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn next_steps(data_dir: &Path) -> String {
    let folder = data_dir.display();
    format!(
        "What to try next:\n  \
         drumline demo --keep                        the same, and the cluster stays up\n  \
         drumline up --data-dir {folder}\n                                              \
         a cluster on what this demo wrote; then: drumline sql\n  \
         drumline demo --brokers HOST:PORT --lake gs://BUCKET/demo\n                                              \
         the same on real ones\n  \
         drumline generate --events 100000 --output ./events\n                                              \
         more events, as many as you like\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_stream_file_holds() {
        let definition = definition("localhost:1").unwrap();
        assert_eq!(definition.brokers, "localhost:1");
        assert_eq!(definition.topics.len(), 3);
    }
}
