//! `drumline doctor`: what a cluster needs, looked at from this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drumline_ingest::kafka;
use drumline_lake::{Finding, Health, probe};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::commands::setting;
use crate::config::{self, MasterArg};
use crate::failure::{Failure, Result};
use crate::local::lake_url;
use crate::output;
use crate::records::{Client, bytes};
use crate::terminal::Terminal;

/// Below this a disk may fill up within a spilling join.
const LITTLE_SPACE: u64 = 5 << 30;
/// Clocks of master and this machine may differ by this.
const CLOCKS_WITHIN: Duration = Duration::from_secs(5);

/// Look at what a cluster needs, and say what to do about what is wrong. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline doctor --lake gs://bucket/lake --brokers kafka-1:9092\n  drumline doctor \
    --kafka security.protocol=SASL_SSL --kafka 'sasl.password=${file:./password}' --brokers kafka-1:9093\n\nExit code 0: nothing is bad; 1: something is."
)]
pub(crate) struct Arguments {
    /// Root of a lake: gs://bucket/prefix, s3://bucket/prefix, or a folder
    #[arg(long, value_name = "URL")]
    lake: Option<String>,
    /// Kafka brokers, e.g. kafka-1:9092,kafka-2:9092
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// A librdkafka property for the brokers; ${env:NAME} and ${file:PATH} in it are opened; may be repeated
    #[arg(long = "kafka", value_name = "KEY=VALUE", value_parser = setting)]
    kafka: Vec<(String, String)>,
    /// Folder in which a cluster on this machine keeps its state and spills
    #[arg(long, default_value = "./drumline-data", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    master: MasterArg,
    /// Shape of what was found on stdout
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Shape {
    /// A line for each thing, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let mut report = Report {
        shape: arguments.output,
        color: Terminal::new(false).color(),
        bad: 0,
    };
    let version = format!("drumline {}", env!("CARGO_PKG_VERSION"));
    report.tell(&Finding::good("version", version))?;
    report.tell(&memory())?;
    report.tell(&disk("disk", &arguments.data_dir))?;
    if let Some(lake) = &arguments.lake {
        let url = lake_url(lake)?;
        if let Ok(path) = url.to_file_path() {
            report.tell(&disk("lake disk", &path))?;
        }
        for finding in probe(url.as_str(), config::stores()?).await {
            report.tell(&finding)?;
        }
    }
    if let Some(brokers) = &arguments.brokers {
        let settings = arguments.kafka.iter().cloned().collect();
        report.tell(&look_at_brokers(brokers, &settings).await)?;
    }
    for finding in look_at_master(&arguments.master).await? {
        report.tell(&finding)?;
    }
    match report.bad {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing is bad")),
        bad => Err(Failure::failed(format!("{bad} things are bad"))),
    }
}

/// Tells findings as they come: some take their time.
struct Report {
    shape: Shape,
    color: bool,
    bad: usize,
}

impl Report {
    fn tell(&mut self, finding: &Finding) -> Result {
        let (word, color) = match finding.state {
            Health::Good => ("good", "32"),
            Health::Doubtful => ("doubtful", "33"),
            Health::Bad => ("bad", "31"),
        };
        self.bad += usize::from(finding.state == Health::Bad);
        if let Shape::Json = self.shape {
            return output::print_json(&json!({
                "what": finding.what,
                "state": word,
                "seen": finding.seen,
                "advice": finding.advice,
            }));
        }
        let word = match self.color {
            true => format!("\x1b[{color}m{word:<8}\x1b[0m"),
            false => format!("{word:<8}"),
        };
        output::print(&format!("{word}  {:<20}  {}\n", finding.what, finding.seen))?;
        match finding.advice.is_empty() {
            true => Ok(()),
            false => output::print(&format!("{:32}{}\n", "", finding.advice)),
        }
    }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemAvailable:")?;
        rest.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match available {
        Some(kib) if kib >> 20 >= 1 => Finding::good(
            "machine",
            format!("{cores} cores, {} of memory free", bytes(kib << 10)),
        ),
        Some(kib) => Finding::doubtful(
            "machine",
            format!("{cores} cores, {} of memory free", bytes(kib << 10)),
            "a worker wants 1 GiB and more; see --memory",
        ),
        None => Finding::good("machine", format!("{cores} cores")),
    }
}

/// Free space where a folder is, or will be.
fn disk(what: &str, folder: &Path) -> Finding {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let Some(there) = whole.ancestors().find(|folder| folder.exists()) else {
        return Finding::bad(what, format!("{} is on no disk", whole.display()), "");
    };
    let shown = there.display();
    match statvfs(there) {
        Ok(disk) => {
            // Both are narrower on some systems.
            #[allow(clippy::unnecessary_cast)]
            let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
            let seen = format!("{} free at {shown}", bytes(free));
            match free {
                0..LITTLE_SPACE => Finding::doubtful(
                    what,
                    seen,
                    "joins and sorts that exceed memory spill there, and so does a local lake: make room",
                ),
                _ => Finding::good(what, seen),
            }
        }
        Err(error) => Finding::bad(what, format!("{shown}: {error}"), "is the disk mounted?"),
    }
}

async fn look_at_brokers(brokers: &str, settings: &BTreeMap<String, String>) -> Finding {
    match kafka::look(brokers, settings).await {
        Ok(found) => {
            let seen = format!("{} brokers, {} topics", found.count, found.topics);
            match found.leaderless {
                0 => Finding::good("kafka", seen),
                lost => Finding::doubtful(
                    "kafka",
                    format!("{seen}, {lost} partitions without a leader"),
                    "streams wait for those partitions: bring their brokers back",
                ),
            }
        }
        Err(error) => Finding::bad(
            "kafka",
            error.to_string(),
            error.hint().unwrap_or_else(|| {
                "check the address, and with SASL or TLS the --kafka properties".to_owned()
            }),
        ),
    }
}

/// The master, if there is one or one was named.
async fn look_at_master(argument: &MasterArg) -> Result<Vec<Finding>> {
    let master = argument.resolve()?;
    let at = config::shown(&master.url).to_owned();
    let client = Client::new(&master)?;
    let answer = match client.get(&["cluster"]).await {
        Ok(answer) => answer,
        Err(failure) => {
            let advice = failure.hint.unwrap_or_default();
            return Ok(vec![match argument.is_named() {
                true => Finding::bad("master", failure.message, advice),
                false => Finding::good("master", format!("none at {at}")),
            }]);
        }
    };
    let cluster: Value = serde_json::from_str(answer.get()).unwrap_or_default();
    let workers = cluster["workers"].as_u64().unwrap_or_default();
    let build = cluster["build"].as_str().unwrap_or_default();
    let seen = format!(
        "{at}: {workers} workers, {} cores, lake {}",
        cluster["cores"],
        cluster["lake"].as_str().unwrap_or_default()
    );
    let mut findings = vec![match workers {
        0 => Finding::doubtful(
            "master",
            seen,
            "start workers: `drumline worker --master URL`",
        ),
        _ => Finding::good("master", seen),
    }];
    if build != env!("CARGO_PKG_VERSION") {
        findings.push(Finding::doubtful(
            "master version",
            format!("it runs {build}"),
            "use the same version on master, workers and clients",
        ));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let theirs = Duration::from_millis(cluster["now"].as_u64().unwrap_or_default());
    let apart = now.abs_diff(theirs);
    if apart > CLOCKS_WITHIN {
        findings.push(Finding::doubtful(
            "master clock",
            format!("{} s apart from this machine's", apart.as_secs()),
            "set the clocks, e.g. with chrony",
        ));
    }
    Ok(findings)
}
