//! What breaks, and where: each pair of a step and a fault, and how it is done.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drumline_testkit::cluster::rows;
use drumline_testkit::gcs::{Effect, Operation};
use drumline_testkit::poll;

use super::Bed;

/// A fault that does not fire within this is a failed run.
const FIRES_WITHIN: Duration = Duration::from_secs(60);
/// Longer than a member may be silent (5 s).
const BEYOND_TIME_OUT: Duration = Duration::from_secs(8);
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// Where a cluster's lake lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Store,
    Disk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Kill,
    Stop,
}

/// Which put of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Commit,
    Stage,
}

/// How it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    UnavailableAfterLanding,
    TooMany,
    CutBefore,
    CutAfter,
    Stall,
}

/// Whom it hits while a commit's put is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Worker,
    Master,
}

/// A step and what goes wrong at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    Worker(&'static str, Signal),
    Master(&'static str, Signal),
    Store(Put, Wrong),
    StalledCommit(Victim),
    WorkerAtAnyTime(Signal),
    MasterAtAnyTime(Signal),
    WorkerJoinsAndLeaves,
    BrokerRestarts,
    BrokerFreezes,
    PartitionsAdded,
    DiskFull,
}

use Pair::*;

const WORKER: [&str; 4] = [
    "stream-assigned",
    "stream-staged",
    "stream-offered",
    "stream-answered",
];
const MASTER: [&str; 4] = [
    "offer-taken",
    "commit-begun",
    "commit-between",
    "commit-landed",
];
const WRONGS: [Wrong; 5] = [
    Wrong::UnavailableAfterLanding,
    Wrong::TooMany,
    Wrong::CutBefore,
    Wrong::CutAfter,
    Wrong::Stall,
];

/// All pairs of a place in an order of the seed's; `few`: those that CI has time for.
pub(crate) fn pairs(place: Place, seed: u64, few: bool) -> Vec<Pair> {
    if few {
        return match place {
            Place::Store => vec![
                Store(Put::Commit, Wrong::UnavailableAfterLanding),
                Store(Put::Commit, Wrong::CutAfter),
                Worker("stream-staged", Signal::Kill),
            ],
            Place::Disk => vec![Master("commit-between", Signal::Kill), PartitionsAdded],
        };
    }
    let signals = [Signal::Kill, Signal::Stop];
    let mut pairs: Vec<Pair> = Vec::new();
    pairs.extend(WORKER.iter().flat_map(|at| signals.map(|s| Worker(at, s))));
    pairs.extend(MASTER.iter().flat_map(|at| signals.map(|s| Master(at, s))));
    pairs.extend(signals.map(WorkerAtAnyTime));
    pairs.extend(signals.map(MasterAtAnyTime));
    pairs.push(WorkerJoinsAndLeaves);
    match place {
        Place::Store => {
            for put in [Put::Commit, Put::Stage] {
                pairs.extend(WRONGS.map(|wrong| Store(put, wrong)));
            }
            pairs.extend([Victim::Worker, Victim::Master].map(StalledCommit));
        }
        Place::Disk => pairs.extend([BrokerRestarts, BrokerFreezes, PartitionsAdded, DiskFull]),
    }
    let mut state = seed;
    for left in (1..pairs.len()).rev() {
        state = random(state);
        pairs.swap(left, (state % (left as u64 + 1)) as usize);
    }
    pairs
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Pair {
    pub(crate) fn name(&self) -> String {
        let signal = |signal: &Signal| match signal {
            Signal::Kill => "SIGKILL",
            Signal::Stop => "SIGSTOP beyond the time-out",
        };
        match self {
            Worker(at, s) => format!("worker at {at} × {}", signal(s)),
            Master(at, s) => format!("master at {at} × {}", signal(s)),
            Store(put, wrong) => format!("{put:?} put × {wrong:?}"),
            StalledCommit(victim) => format!("commit put held up × {victim:?} killed"),
            WorkerAtAnyTime(s) => format!("worker at any time × {}", signal(s)),
            MasterAtAnyTime(s) => format!("master at any time × {}", signal(s)),
            WorkerJoinsAndLeaves => "any time × worker joins and leaves".to_owned(),
            BrokerRestarts => "any time × broker killed and back".to_owned(),
            BrokerFreezes => "any time × broker frozen and back".to_owned(),
            PartitionsAdded => "any time × partitions added".to_owned(),
            DiskFull => "any time × disk full and free again".to_owned(),
        }
    }

    /// Breaks it, sees that it broke, and mends it. Gives why this cannot be done here, if it cannot.
    pub(crate) fn strike(&self, bed: &mut Bed<'_>, seed: u64) -> Result<Option<String>> {
        let moment = Duration::from_millis(random(seed ^ 0x5eed) % 700);
        match self {
            Worker(at, signal) => at_a_worker(bed, at, *signal, 1 + seed % 3)?,
            Master(at, signal) => at_the_master(bed, at, *signal, 1 + seed % 3)?,
            Store(put, wrong) => in_the_store(bed, *put, *wrong)?,
            StalledCommit(victim) => while_a_commit_is_held_up(bed, *victim)?,
            WorkerAtAnyTime(signal) => {
                std::thread::sleep(moment);
                let worker = newest(bed)?;
                match signal {
                    Signal::Kill => {
                        bed.cluster.worker(worker)?.kill()?;
                        join(bed, &[])?;
                    }
                    Signal::Stop => {
                        bed.cluster.worker(worker)?.freeze()?;
                        std::thread::sleep(BEYOND_TIME_OUT);
                        bed.cluster.worker(worker)?.thaw()?;
                    }
                }
            }
            MasterAtAnyTime(signal) => {
                std::thread::sleep(moment);
                match signal {
                    Signal::Kill => {
                        bed.cluster.kill_master()?;
                        bed.cluster.start_master()?;
                    }
                    Signal::Stop => {
                        bed.cluster.master()?.freeze()?;
                        std::thread::sleep(BEYOND_TIME_OUT);
                        bed.cluster.master()?.thaw()?;
                    }
                }
            }
            WorkerJoinsAndLeaves => {
                let worker = join(bed, &[])?;
                std::thread::sleep(moment + Duration::from_secs(1));
                let status = bed.cluster.worker(worker)?.terminate(GONE_WITHIN)?;
                ensure!(status.success(), "the worker left with {status}");
            }
            BrokerRestarts => {
                std::thread::sleep(moment);
                bed.kafka.restart()?;
            }
            BrokerFreezes => {
                bed.kafka.process().freeze()?;
                std::thread::sleep(BEYOND_TIME_OUT);
                bed.kafka.process().thaw()?;
            }
            PartitionsAdded => {
                bed.partitions += 1;
                bed.kafka.grow_topic(&bed.topic, bed.partitions)?;
                wait_for_rows_of(bed, bed.partitions - 1)?;
            }
            DiskFull => match bed.disk.as_ref().and_then(Disk::path) {
                Some(path) => fill_the_disk(bed, &path)?,
                None => return Ok(Some("no small disk can be mounted here".to_owned())),
            },
        }
        Ok(None)
    }
}

fn fault(place: &str, signal: Signal, nth: u64) -> Vec<(String, String)> {
    let signal = match signal {
        Signal::Kill => "kill",
        Signal::Stop => "stop",
    };
    let fault = format!("{place}:{signal}:{nth}");
    vec![("DRUMLINE_FAULT".to_owned(), fault)]
}

/// One more worker; its index, once it has joined.
fn join(bed: &mut Bed<'_>, environment: &[(String, String)]) -> Result<usize> {
    let worker = bed.cluster.start_worker_with(environment)?;
    poll("the worker joins", FIRES_WITHIN, || {
        let worker = bed.cluster.worker(worker)?;
        // One that is to end early may have ended.
        Ok((worker.log().contains("joined the cluster") || !worker.is_running()).then_some(()))
    })?;
    Ok(worker)
}

/// The newest worker that runs.
fn newest(bed: &mut Bed<'_>) -> Result<usize> {
    for worker in (0..bed.cluster.started_workers()).rev() {
        if bed.cluster.worker(worker)?.is_running() {
            return Ok(worker);
        }
    }
    bail!("no worker runs")
}

fn at_a_worker(bed: &mut Bed<'_>, place: &str, signal: Signal, nth: u64) -> Result<()> {
    // A share is given to a worker once per change of members.
    let nth = if place == "stream-assigned" { 1 } else { nth };
    let worker = join(bed, &fault(place, signal, nth))?;
    poll("the fault fires", FIRES_WITHIN, || {
        let log = bed.cluster.worker(worker)?.log();
        Ok(log.contains("fault fires").then_some(()))
    })?;
    if signal == Signal::Stop {
        std::thread::sleep(BEYOND_TIME_OUT);
        bed.cluster.worker(worker)?.thaw()?;
        // What it does after its sleep must change nothing; then it goes.
        std::thread::sleep(Duration::from_secs(1));
        bed.cluster.worker(worker)?.kill()?;
    }
    Ok(())
}

fn at_the_master(bed: &mut Bed<'_>, place: &str, signal: Signal, nth: u64) -> Result<()> {
    bed.cluster.kill_master()?;
    let before = fired(bed, "master.log");
    bed.cluster.start_master_with(&fault(place, signal, nth))?;
    poll("the fault fires", FIRES_WITHIN, || {
        Ok((fired(bed, "master.log") > before).then_some(()))
    })?;
    match signal {
        Signal::Kill => {
            bed.cluster.kill_master()?;
            bed.cluster.start_master()
        }
        Signal::Stop => {
            std::thread::sleep(BEYOND_TIME_OUT);
            bed.cluster.master()?.thaw()
        }
    }
}

/// How often a log tells of a fault.
fn fired(bed: &Bed<'_>, log: &str) -> usize {
    let text = std::fs::read_to_string(bed.cluster.path("logs").join(log));
    text.unwrap_or_default().matches("fault fires").count()
}

fn in_the_store(bed: &mut Bed<'_>, put: Put, wrong: Wrong) -> Result<()> {
    let store = bed.store.as_ref().context("no store stand-in")?;
    let (effect, times) = match wrong {
        Wrong::UnavailableAfterLanding => (Effect::StatusAfter(503), 1),
        Wrong::TooMany => (Effect::StatusBefore(429), 3),
        Wrong::CutBefore => (Effect::CutBefore, 2),
        Wrong::CutAfter => (Effect::CutAfter, 1),
        Wrong::Stall => (Effect::Delay(BEYOND_TIME_OUT), 1),
    };
    let fault = store.faults().plant(effect, times, move |call| {
        let is_commit = call.key.contains("_delta_log/") || call.key.contains("_drumline/commits/");
        let is_data = call.key.ends_with(".parquet");
        call.operation == Operation::Put
            && match put {
                Put::Commit => is_commit && call.key.ends_with(".json"),
                Put::Stage => is_data && !is_commit,
            }
    });
    poll("the fault fires", FIRES_WITHIN, || {
        Ok((fault.fired() >= times).then_some(()))
    })
}

fn while_a_commit_is_held_up(bed: &mut Bed<'_>, victim: Victim) -> Result<()> {
    let store = bed.store.as_ref().context("no store stand-in")?;
    let wait = Duration::from_secs(3);
    let fault = store.faults().plant(Effect::Delay(wait), 1, |call| {
        let is_commit = call.key.contains("_delta_log/") || call.key.contains("_drumline/commits/");
        call.operation == Operation::Put && is_commit && call.key.ends_with(".json")
    });
    poll("a commit is held up", FIRES_WITHIN, || {
        Ok((fault.fired() > 0).then_some(()))
    })?;
    match victim {
        Victim::Master => {
            bed.cluster.kill_master()?;
            bed.cluster.start_master()
        }
        Victim::Worker => {
            // Whichever offered: all of them go, and others come.
            for worker in 0..bed.cluster.started_workers() {
                if bed.cluster.worker(worker)?.is_running() {
                    bed.cluster.worker(worker)?.kill()?;
                }
            }
            join(bed, &[])?;
            join(bed, &[]).map(drop)
        }
    }
}

fn wait_for_rows_of(bed: &Bed<'_>, partition: u32) -> Result<()> {
    let sql = format!("SELECT count(*) FROM events WHERE _partition = {partition}");
    poll("the new partition is read", FIRES_WITHIN, || {
        Ok(bed.cluster.number(&sql).ok().filter(|rows| *rows > 0))
    })
    .map(drop)
}

fn fill_the_disk(bed: &mut Bed<'_>, lake: &str) -> Result<()> {
    let ballast = PathBuf::from(lake).join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", ballast.display()))
        .output()
        .context("cannot run dd")?;
    ensure!(!filled.status.success(), "the disk took all of it");
    let failing = poll("the stream cannot write", FIRES_WITHIN, || {
        let status = bed
            .cluster
            .run(&["stream", "status", "chaos", "-o", "json"])?;
        let status = rows(&status)?.pop().unwrap_or_default();
        Ok((status["state"] == "failing").then(|| status["last_error"].to_string()))
    });
    std::fs::remove_file(&ballast)?;
    println!("{}: disk full: {}", bed.run, failing?);
    Ok(())
}

/// A small disk of its own. It goes when dropped.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    /// Mounts one, where that is allowed; elsewhere there is a folder only.
    pub(crate) fn mount(size: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        ensure!(begun.elapsed() < FIRES_WITHIN, "mount hangs");
        Ok(Self { folder, mounted })
    }

    /// Where, if it is small.
    pub(crate) fn path(&self) -> Option<String> {
        self.mounted
            .then(|| self.folder.path().display().to_string())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.folder.path())
                .output();
        }
    }
}
