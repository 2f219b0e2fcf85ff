//! Kills a master under load, brings it back, and counts: what was accepted must have happened once.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Options;
use crate::streams::{EXAMPLE_TOPICS, example_stream};
use crate::{Cluster, Kafka, poll};

/// A restarted master accepts again within this.
pub const ACCEPTING_WITHIN: Duration = Duration::from_secs(10);

/// Debug builds on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(240);

/// Our applications among those that ask.
const OURS: &str = "name LIKE 'client-%'";

/// Statements of an application.
const STATEMENTS: i64 = 5;

/// What runs when the master is killed.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Applications, submitted at once: some run, the others wait in line.
    pub applications: u64,
    /// The kill comes at a random moment up to this long after the first is submitted.
    pub within: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            applications: 60,
            within: Duration::from_secs(14),
        }
    }
}

/// What one kill came to.
#[derive(Debug)]
pub struct Round {
    /// When after the first submission the master was killed.
    pub killed_after: Duration,
    /// Applications that were accepted, by either master.
    pub accepted: u64,
    /// Of them, those that were over at the kill.
    pub over: u64,
    /// Of them, those that the later master went on with.
    pub resumed: i64,
    /// From the start of the new process to its first answer.
    pub accepting: Duration,
    /// From the kill to the end of the last application.
    pub settled: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            killed_after,
            accepted,
            over,
            resumed,
            accepting,
            settled,
        } = self;
        write!(
            f,
            "killed after {killed_after:.1?} with {accepted} accepted and {over} over; accepting again after \
             {accepting:.1?}, {resumed} went on, all over after {settled:.1?}; no row lost or doubled"
        )
    }
}

/// A broker that holds the shipped events.
pub fn example_broker() -> Result<Kafka> {
    let kafka = Kafka::start()?;
    kafka.create_topics(&EXAMPLE_TOPICS)?;
    let output = std::process::Command::new(crate::cluster::drumline())
        .args(["replay", "--quiet", "--brokers", &kafka.brokers()])
        .output()
        .context("cannot run drumline replay")?;
    ensure!(
        output.status.success(),
        "replay: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(kafka)
}

/// SplitMix64 (Steele, Lea, Flood 2014): one number is all that a round needs.
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What application `number` does. Each statement builds on the one before, so one that is left out or done
/// twice shows in the counts; the settings show in the zone.
fn script(number: u64) -> String {
    format!(
        "SET datafusion.execution.time_zone = 'Europe/Zurich';\n\
         CREATE TABLE rows_{number} AS SELECT value AS n FROM generate_series(1, {rows});\n\
         INSERT INTO rows_{number} SELECT n + 1000000 FROM rows_{number};\n\
         SET datafusion.execution.batch_size = 512;\n\
         INSERT INTO totals SELECT {number}, count(*), max(arrow_typeof(CAST('2024-01-01T00:00:00Z' AS TIMESTAMP WITH TIME ZONE))) FROM rows_{number};\n",
        rows = rows(number)
    )
}

fn rows(number: u64) -> u64 {
    1000 + number
}

/// One round: a cluster of its own that runs ten jobs at a time, a stream, applications, a kill, and the count. An error has the logs with it.
pub fn kill_master(seed: u64, load: Load, kafka: &Kafka) -> Result<Round> {
    let mut cluster = Cluster::start(Options {
        cores: 5,
        environment: vec![(
            "DRUMLINE_MASTER__CONCURRENT_JOBS".to_owned(),
            "10".to_owned(),
        )],
        ..Options::default()
    })?;
    let round = round(&mut cluster, seed, load, kafka);
    round.with_context(|| {
        let streams = cluster.run(&["stream", "list"]);
        let streams = streams.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        format!("{streams}\n{}", cluster.log_tails())
    })
}

fn round(cluster: &mut Cluster, seed: u64, load: Load, kafka: &Kafka) -> Result<Round> {
    cluster.sql("CREATE TABLE totals (application BIGINT, rows BIGINT, zone VARCHAR)")?;
    cluster.apply_stream(&example_stream(
        &kafka.brokers(),
        Duration::from_millis(700),
    )?)?;

    let begun = Instant::now();
    let moment = load.within.mul_f64((random(seed) % 1000) as f64 / 1000.0);
    let mut clients = Vec::new();
    for number in 0..load.applications {
        // Killed while they are still being submitted.
        if begun.elapsed() >= moment {
            break;
        }
        let path = cluster.path(&format!("application-{number}.sql"));
        std::fs::write(&path, script(number))?;
        let path = path.display().to_string();
        let name = format!("client-{number}");
        let submit = ["submit", path.as_str(), "--name", name.as_str()];
        clients.push(cluster.spawn(&name, &submit)?);
    }
    std::thread::sleep(moment.saturating_sub(begun.elapsed()));
    let over = clients
        .iter_mut()
        .filter_map(|client| (!client.is_running()).then_some(()));
    let over = over.count() as u64;
    cluster.kill_master()?;
    let killed = Instant::now();
    let killed_after = begun.elapsed();

    let started = Instant::now();
    cluster.start_master()?;
    poll("the master accepts again", ACCEPTING_WITHIN * 3, || {
        Ok(is_healthy(&cluster.url()).then_some(()))
    })?;
    let accepting = started.elapsed();
    ensure!(
        accepting <= ACCEPTING_WITHIN,
        "the master accepted again after {accepting:?} only\n{}",
        cluster.master()?.log_tail()
    );

    for client in &mut clients {
        let status = client.wait(PATIENCE)?;
        // 3: it was never told an id, or no master was there yet.
        ensure!(
            status.success() || status.code() == Some(3),
            "{} ended with {status}\n{}\n{}",
            client.name(),
            client.log_tail(),
            cluster.master()?.log_tail()
        );
    }
    // One whose client was not told goes on by itself.
    let open =
        format!("SELECT count(*) FROM system.applications WHERE {OURS} AND ended_at IS NULL");
    cluster.wait_for_number(&open, 0, PATIENCE)?;
    let settled = killed.elapsed();
    let (accepted, resumed) = history(cluster)?;
    for client in &mut clients {
        let told = client.wait(PATIENCE)?.success();
        let name = client.name().to_owned();
        ensure!(
            !told || accepted.contains(&name),
            "{name} is not in the history"
        );
    }
    count(cluster, &accepted)?;
    cluster.wait_for_example(PATIENCE)?;
    Ok(Round {
        killed_after,
        accepted: accepted.len() as u64,
        over,
        resumed,
        accepting,
        settled,
    })
}

/// What every accepted application was to write is there once.
fn count(cluster: &Cluster, accepted: &[String]) -> Result<()> {
    let number = |name: &String| name.trim_start_matches("client-").to_owned();
    let tables: Vec<String> = accepted
        .iter()
        .map(number)
        .map(|number| {
            format!(
                "SELECT {number} AS application, count(*) AS rows, count(DISTINCT n) AS once FROM rows_{number}"
            )
        })
        .collect();
    let expected = "2 * (1000 + application)";
    // Not all at once: a statement has its limits.
    for tables in tables.chunks(20) {
        let wrong = cluster.sql(&format!(
            "SELECT * FROM ({}) WHERE rows <> {expected} OR once <> rows",
            tables.join(" UNION ALL ")
        ))?;
        ensure!(wrong.is_empty(), "rows are lost or doubled: {wrong:?}");
    }
    let totals = cluster.sql("SELECT * FROM totals ORDER BY application")?;
    ensure!(
        totals.len() == accepted.len(),
        "{} totals of {} applications: {totals:?}",
        totals.len(),
        accepted.len()
    );
    let right = cluster.number(&format!(
        "SELECT count(DISTINCT application) FROM totals WHERE rows = {expected} AND zone LIKE '%Europe/Zurich%'"
    ))?;
    ensure!(
        right == i64::try_from(accepted.len())?,
        "{right} totals of {} are right: {totals:?}",
        accepted.len()
    );
    Ok(())
}

/// The history is whole: every application, succeeded, with every statement of it. Gives their names, and how many
/// were taken up by a later master.
fn history(cluster: &Cluster) -> Result<(Vec<String>, i64)> {
    let applications = cluster.sql(&format!(
        "SELECT a.name, a.state, a.error, a.resumed, (SELECT count(*) FROM system.statements s \
         WHERE s.application = a.id AND s.state = 'succeeded') AS statements \
         FROM system.applications a WHERE {OURS}"
    ))?;
    let mut names = Vec::new();
    let mut resumed = 0;
    for application in &applications {
        ensure!(
            application["state"] == "succeeded" && application["statements"] == STATEMENTS,
            "not whole: {application}"
        );
        resumed += i64::from(application["resumed"].as_i64() > Some(0));
        names.push(application["name"].as_str().unwrap_or_default().to_owned());
    }
    let count = names.len();
    names.sort();
    names.dedup();
    ensure!(
        names.len() == count,
        "an application is there twice: {applications:?}"
    );
    Ok((names, resumed))
}

/// Whether `/healthz` answers.
fn is_healthy(url: &str) -> bool {
    let ask = || -> Result<String> {
        let address = url.trim_start_matches("http://");
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            socket,
            "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
