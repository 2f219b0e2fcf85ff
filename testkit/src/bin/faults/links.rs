//! Links between network namespaces, cut in one direction or both while a query runs.
//!
//! Each process has a namespace of its own, all on one bridge. A cut is a route to nowhere: what is sent
//! vanishes, in that direction only.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drumline_testkit::cluster::drumline;
use drumline_testkit::{Process, poll};

use crate::{Arguments, HANGS_AFTER, QUERY, Tally, check_answer, spread, table};

const MASTER: u8 = 1;
const FIRST: u8 = 2;
const SECOND: u8 = 3;

/// Who does not reach whom any more.
const CUTS: [(&str, &[(u8, u8)]); 6] = [
    ("worker-to-master", &[(FIRST, MASTER)]),
    ("master-to-worker", &[(MASTER, FIRST)]),
    ("worker-and-master", &[(FIRST, MASTER), (MASTER, FIRST)]),
    ("worker-to-worker", &[(FIRST, SECOND)]),
    ("worker-from-worker", &[(SECOND, FIRST)]),
    ("worker-and-worker", &[(FIRST, SECOND), (SECOND, FIRST)]),
];

/// Whether this process may make namespaces.
pub(crate) fn may_run() -> bool {
    let name = format!("dl{}-may", std::process::id());
    let may = ip(&["netns", "add", &name]).is_ok();
    if may {
        let _ = ip(&["netns", "del", &name]);
    }
    may
}

pub(crate) fn seed(seed: u64, arguments: &Arguments, tally: &mut Tally) {
    for (name, cut) in CUTS.into_iter().filter(|(name, _)| !arguments.skips(name)) {
        tally.note(&format!("seed {seed} {name}"), one(seed, cut));
    }
}

fn one(seed: u64, cut: &[(u8, u8)]) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let network = Network::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("http://{}:7077", network.address(MASTER));
    let master = network.start(
        "master",
        MASTER,
        folder.path(),
        &[
            "master",
            &format!("--listen={}:7077", network.address(MASTER)),
            "--insecure-no-authentication",
            &format!("--lake={}", path("lake")),
            &format!("--state-dir={}", path("state")),
        ],
    )?;
    let mut workers = Vec::new();
    for place in [FIRST, SECOND] {
        let name = format!("worker-{}", place - 1);
        workers.push(network.start(
            &name,
            place,
            folder.path(),
            &[
                "worker",
                &format!("--id={name}"),
                &format!("--master={url}"),
                &format!("--listen={}:0", network.address(place)),
                "--insecure-no-authentication",
                "--cores=1",
                &format!("--work-dir={}", path(&name)),
            ],
        )?);
    }
    for worker in &workers {
        poll("workers join", Duration::from_secs(60), || {
            Ok(worker.log().contains("joined the cluster").then_some(()))
        })
        .with_context(|| format!("{}\n{}", worker.log_tail(), master.log_tail()))?;
    }
    let client = |arguments: &[&str]| {
        let mut command = Command::new(drumline());
        command
            .args(arguments)
            .env("DRUMLINE_MASTER", &url)
            .env("NO_COLOR", "1")
            .current_dir(folder.path());
        command
    };
    let made = client(&["sql", "-c", &table()]).output()?;
    ensure!(
        made.status.success(),
        "no table: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut query = Process::start("query", client(&spread(QUERY)), &folder.path().join("logs"))?;
    let first = workers.first().context("no worker")?;
    let before = cpu_ticks(first.pid());
    poll("the worker computes", HANGS_AFTER, || {
        Ok((cpu_ticks(first.pid()) >= before + 5 + seed % 10).then_some(()))
    })
    .with_context(|| query.log())?;
    ensure!(query.is_running(), "the query ended before its fault");
    for (from, to) in cut {
        network.cut(*from, *to)?;
    }
    let fired = Instant::now();
    let status = query.wait(HANGS_AFTER).context("the query hangs")?;
    let recovered = fired.elapsed();
    ensure!(status.success(), "the query failed: {}", query.log());
    check_answer(&query.log())?;
    for (from, to) in cut {
        network.mend(*from, *to)?;
    }
    let again = client(&spread(QUERY)).output()?;
    check_answer(&String::from_utf8_lossy(&again.stdout))?;
    Ok(recovered)
}

/// A bridge and a namespace per process; gone when dropped.
struct Network {
    tag: u32,
}

impl Network {
    fn new() -> Result<Self> {
        let network = Self {
            tag: std::process::id() % 10_000,
        };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &network.with_mask(254), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for place in [MASTER, FIRST, SECOND] {
            let (space, outside, inside) = (
                network.space(place),
                format!("dl{}o{place}", network.tag),
                format!("dl{}i{place}", network.tag),
            );
            ip(&["netns", "add", &space])?;
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", &inside,
            ])?;
            ip(&["link", "set", &inside, "netns", &space])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            ip(&[
                "-n",
                &space,
                "addr",
                "add",
                &network.with_mask(place),
                "dev",
                &inside,
            ])?;
            ip(&["-n", &space, "link", "set", &inside, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("dl{}b", self.tag)
    }

    fn space(&self, place: u8) -> String {
        format!("dl{}-{place}", self.tag)
    }

    fn address(&self, place: u8) -> String {
        format!("10.{}.{}.{place}", 100 + self.tag / 250, self.tag % 250)
    }

    fn with_mask(&self, place: u8) -> String {
        format!("{}/24", self.address(place))
    }

    fn start(&self, name: &str, place: u8, folder: &Path, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(place)])
            .arg(drumline())
            .args(arguments)
            .env("NO_COLOR", "1")
            .current_dir(folder);
        Process::start(name, command, &folder.join("logs"))
    }

    fn cut(&self, from: u8, to: u8) -> Result<()> {
        let (space, address) = (self.space(from), self.address(to));
        ip(&["-n", &space, "route", "add", "blackhole", &address])
    }

    fn mend(&self, from: u8, to: u8) -> Result<()> {
        let (space, address) = (self.space(from), self.address(to));
        ip(&["-n", &space, "route", "del", "blackhole", &address])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in [MASTER, FIRST, SECOND] {
            let _ = ip(&["link", "del", &format!("dl{}o{place}", self.tag)]);
            let _ = ip(&["netns", "del", &self.space(place)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// User and system time of a process, in clock ticks (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
