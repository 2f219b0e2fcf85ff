//! A stream under every fault, and the count at the end: each record once, whatever broke.
//!
//! `cargo xtask chaos stream --seeds N --from-seed S` goes through all pairs of step and fault, for Delta and plain
//! tables, on a store that fails and on a disk that fills. Without `DRUMLINE_SEEDS` a few pairs run, as CI does.
//! `DRUMLINE_ONLY=<part of a pair's name>` narrows. A pair counts only when its fault is seen to have fired and the
//! stream has then read what Kafka had at that moment.
//!
//! Read next: `faults.rs` (what breaks), `load.rs` (what is produced meanwhile), `account.rs` (the count).

mod account;
mod faults;
mod load;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Gcs, Kafka, poll};
use serde_json::Value;

use faults::{Pair, Place};
use load::Load;

const PARTITIONS: u32 = 3;
/// From a fault to a stream that has read all that was there.
const RECOVERED_WITHIN: Duration = Duration::from_secs(150);
const BUCKET: &str = "chaos";
/// A disk that is filled in one of the pairs.
const DISK: &str = "48m";

#[test]
fn a_stream_holds_every_record_once_whatever_breaks() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds: Option<u64> = number("DRUMLINE_SEEDS");
    let from: u64 = number("DRUMLINE_FROM_SEED").unwrap_or(0);
    let only = std::env::var("DRUMLINE_ONLY").unwrap_or_default();
    let mut kafka = Kafka::start().unwrap();
    let mut tally = Tally::default();
    for seed in from..from + seeds.unwrap_or(1) {
        for place in [Place::Store, Place::Disk] {
            let is_delta = (seed % 2 == 0) == (place == Place::Store);
            let pairs = faults::pairs(place, seed, seeds.is_none());
            let pairs: Vec<_> = pairs
                .into_iter()
                .filter(|p| p.name().contains(&only))
                .collect();
            if pairs.is_empty() {
                continue;
            }
            let run = Run {
                seed,
                place,
                is_delta,
            };
            if let Err(error) = run.run(&pairs, &mut kafka, &mut tally) {
                tally.failures.push(format!("{run}: {error:#}"));
            }
        }
    }
    println!("{tally}");
    assert!(
        tally.failures.is_empty(),
        "go on with DRUMLINE_FROM_SEED\n{}",
        tally.failures.join("\n")
    );
}

/// How often each pair ran and was survived.
#[derive(Default)]
struct Tally {
    pairs: BTreeMap<String, Vec<Duration>>,
    skipped: BTreeMap<String, String>,
    counted: u64,
    failures: Vec<String>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<44} {:>5} {:>9}", "STEP × FAULT", "RUNS", "LONGEST")?;
        for (pair, took) in &self.pairs {
            let longest = took.iter().max().copied().unwrap_or_default();
            writeln!(f, "{pair:<44} {:>5} {longest:>9.1?}", took.len())?;
        }
        for (pair, why) in &self.skipped {
            writeln!(f, "{pair:<44} skipped: {why}")?;
        }
        write!(
            f,
            "{} records counted, {} failures",
            self.counted,
            self.failures.len()
        )
    }
}

/// One cluster through some pairs.
#[derive(Clone, Copy)]
struct Run {
    seed: u64,
    place: Place,
    is_delta: bool,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.is_delta {
            true => "delta",
            false => "plain",
        };
        write!(f, "seed {} {kind} on {:?}", self.seed, self.place)
    }
}

/// What faults are done to.
pub(crate) struct Bed<'a> {
    pub(crate) run: String,
    pub(crate) topic: String,
    pub(crate) kafka: &'a mut Kafka,
    pub(crate) cluster: Cluster,
    pub(crate) store: Option<Gcs>,
    pub(crate) disk: Option<faults::Disk>,
    pub(crate) load: Load,
    pub(crate) partitions: u32,
}

impl Run {
    fn run(&self, pairs: &[Pair], kafka: &mut Kafka, tally: &mut Tally) -> Result<()> {
        let kind = if self.is_delta { "delta" } else { "parquet" };
        let topic = format!("chaos-{}-{kind}", self.seed);
        kafka.create_topics(&[(topic.as_str(), PARTITIONS)])?;
        let (store, disk) = match self.place {
            Place::Store => (Some(Gcs::start(&[BUCKET])?), None),
            Place::Disk => (None, Some(faults::Disk::mount(DISK)?)),
        };
        let lake = match (&store, &disk) {
            (Some(_), _) => Some(format!("gs://{BUCKET}/lake")),
            (None, disk) => disk.as_ref().and_then(faults::Disk::path),
        };
        let cluster = Cluster::start(Options {
            workers: 2,
            cores: 1,
            lake,
            environment: store.as_ref().map(Gcs::environment).unwrap_or_default(),
        })?;
        cluster.apply_stream(&format!(
            "name = \"chaos\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nformat = \"{kind}\"\n\
             dead_letters = \"letters\"\n\
             kafka = {{ \"topic.metadata.refresh.interval.ms\" = \"1000\" }}\n\
             [[topic]]\ntopic = \"{topic}\"\ntable = \"events\"\nschema = {{ n = \"bigint\" }}\n\
             transform = \"SELECT n, n % 3 AS part FROM input WHERE n % 10 <> 7\"\n\
             partition_by = [\"part\"]\n",
            kafka.brokers()
        ))?;
        let load = Load::start(&kafka.brokers(), &topic, self.seed)?;
        let mut bed = Bed {
            run: self.to_string(),
            topic,
            kafka,
            cluster,
            store,
            disk,
            load,
            partitions: PARTITIONS,
        };
        let outcome = self.through(pairs, &mut bed, tally);
        outcome.with_context(|| {
            let status = bed.cluster.run(&["stream", "status", "chaos"]);
            let status = status.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            );
            format!("{status}\n{}", bed.cluster.log_tails())
        })
    }

    fn through(&self, pairs: &[Pair], bed: &mut Bed<'_>, tally: &mut Tally) -> Result<()> {
        bed.caught_up().context("before the first fault")?;
        for pair in pairs {
            let name = pair.name();
            let begun = Instant::now();
            match pair.strike(bed, self.seed).with_context(|| name.clone())? {
                None => {
                    bed.caught_up().with_context(|| format!("after {name}"))?;
                    println!("{self}: {name}: survived in {:.1?}", begun.elapsed());
                    tally.pairs.entry(name).or_default().push(begun.elapsed());
                }
                Some(why) => {
                    tally.skipped.insert(name, why);
                }
            }
        }
        bed.load.stop()?;
        bed.caught_up().context("at the end")?;
        let counted = account::check(bed, self.is_delta)?;
        println!("{self}: {counted}");
        tally.counted += counted.records;
        let verified = bed.cluster.run(&["stream", "verify", "chaos"])?;
        ensure!(
            verified.status.success(),
            "stream verify: {}{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&verified.stderr)
        );
        Ok(())
    }
}

impl Bed<'_> {
    /// Waits until the stream has committed all that Kafka held when this was called.
    pub(crate) fn caught_up(&mut self) -> Result<()> {
        let wanted = account::ends(&self.kafka.brokers(), &self.topic, self.partitions)?;
        let mut last = Value::Null;
        let found = poll("the stream catches up", RECOVERED_WITHIN, || {
            let output = self
                .cluster
                .run(&["stream", "status", "chaos", "-o", "json"])?;
            // The master may be away.
            let Ok(mut status) = rows(&output) else {
                return Ok(None);
            };
            last = status.pop().unwrap_or_default();
            let committed: BTreeMap<i64, i64> = last["partitions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| Some((row["partition"].as_i64()?, row["committed"].as_i64()?)))
                .collect();
            let there = wanted.iter().all(|(partition, end)| {
                *end == 0
                    || committed
                        .get(&i64::from(*partition))
                        .is_some_and(|next| next >= end)
            });
            Ok(there.then_some(()))
        });
        found.with_context(|| format!("wanted {wanted:?}, last: {last}"))
    }
}
