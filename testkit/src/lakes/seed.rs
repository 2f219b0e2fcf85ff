//! One seed: a table, a statement, a fault, and what is left.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ROOT;
use super::bench::Bench;
use super::plan::{Fault, Kind, PAIRS, Plan, Step};
use super::rows::{self, Checksum};
use super::table::{self, Table, data_under, waiting};
use crate::gcs::{Call, Effect, Fault as Planted, Gate, Operation};
use crate::{Process, cluster, poll};

/// Debug builds on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(240);

/// Tries of a commit whose answers are all lost, before it is given up (`lake/src/record_log.rs`).
const TRIES: u64 = 6;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// After which a client of the store gives a request up.
    pub request_timeout: Duration,
    /// After which a call lands that was given up.
    pub landing: Duration,
}

impl Timing {
    /// Two seconds stand for the half minute that clients wait, so that many seeds fit into an hour.
    pub fn short(landing: Duration) -> Self {
        Self {
            request_timeout: Duration::from_secs(2),
            landing,
        }
    }

    /// As it is.
    pub fn real() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            landing: Duration::from_secs(60),
        }
    }

    /// Longer than a client waits for an answer.
    fn stall(self) -> Duration {
        self.request_timeout + Duration::from_millis(1500)
    }
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The statement is done.
    Done,
    /// It failed.
    Failed(String),
    /// Nobody can say, or nobody told.
    Unknown(String),
}

/// What the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What it held before the statement.
    Before,
    /// What it holds after it.
    After,
}

/// How a seed went.
#[derive(Debug)]
pub struct Report {
    /// What the client was told.
    pub told: Told,
    /// What was there.
    pub answer: Answer,
    /// What was there after the application had been replayed.
    pub replayed: Answer,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = match &self.told {
            Told::Done => "done".to_owned(),
            Told::Failed(why) => format!("failed ({why})"),
            Told::Unknown(why) => format!("unknown ({why})"),
        };
        write!(
            f,
            "told {told}, answer {:?}, replayed {:?}; {:.1?}",
            self.answer, self.replayed, self.elapsed
        )
    }
}

/// Goes through a seed. None where its fault did not fire: then it proves nothing.
pub fn run(bench: &mut Bench, plan: &Plan, timing: Timing) -> Result<Option<Report>> {
    run_after(bench, plan, timing, |_| ())
}

/// The same, with something done to the store once the table is there.
pub(super) fn run_after<T>(
    bench: &mut Bench,
    plan: &Plan,
    timing: Timing,
    prepare: impl FnOnce(&Bench) -> T,
) -> Result<Option<Report>> {
    let ran = go(bench, plan, timing, prepare);
    bench.gcs.faults().clear();
    ran.with_context(|| bench.cluster.log_tails())
}

fn go<T>(
    bench: &mut Bench,
    plan: &Plan,
    timing: Timing,
    prepare: impl FnOnce(&Bench) -> T,
) -> Result<Option<Report>> {
    let started = Instant::now();
    bench.settle()?;
    bench.cluster.sql(&rows::setup(plan))?;
    let judge = Judge::new(bench, plan)?;

    prepare(bench);
    // Held until its application's state is copied, so that the copy is of a statement that is not done.
    let first = Gate::default();
    let held = bench
        .gcs
        .faults()
        .plant(Effect::HoldBefore(first.clone()), 1, |call| {
            !call.door.is_empty()
        });
    let trap = Trap::set(bench, plan, timing);
    let mut client = start_statement(bench, plan)?;
    await_fired(&held, &mut client)?;
    let state = bench.copy_state()?;
    first.open();
    if !await_fired(&trap.fault, &mut client)? {
        client.wait(PATIENCE)?;
        return Ok(None);
    }
    trap.spring(bench, plan)?;
    let told = told(&mut client)?;
    bench.settle()?;

    let answer = judge.look(bench)?;
    judge.agrees(&told, answer)?;
    if let Some(landed) = &trap.landed {
        poll("the late call lands", timing.landing * 2, || {
            Ok(landed.is_open().then_some(()))
        })?;
        let later = judge.look(bench)?;
        judge.agrees(&told, later)?;
        ensure!(
            later == answer || matches!(told, Told::Unknown(_)),
            "{answer:?} became {later:?}, although the client had been told"
        );
    }
    bench.gcs.faults().clear();
    let answer = judge.look(bench)?;
    let replayed = replay(bench, &judge, &state, answer)?;
    vacuum(bench, plan, &judge)?;
    Ok(Some(Report {
        told,
        answer,
        replayed,
        elapsed: started.elapsed(),
    }))
}

/// The application again, as a master does that knows nothing of its end.
fn replay(bench: &mut Bench, judge: &Judge, state: &Path, answer: Answer) -> Result<Answer> {
    bench.go_back_to(state)?;
    bench.settle()?;
    bench.wait_for_applications()?;
    let again = "SELECT count(*) FROM system.applications WHERE resumed > 0";
    ensure!(bench.cluster.number(again)? > 0, "nothing was replayed");
    let replayed = judge.look(bench).context("after the replay")?;
    ensure!(
        replayed == Answer::After || replayed == answer,
        "the replay undid the statement"
    );
    Ok(replayed)
}

/// Throws away all that can be, and looks for what nobody names.
fn vacuum(bench: &Bench, plan: &Plan, judge: &Judge) -> Result<()> {
    let mut names = vec![plan.table()];
    if plan.kind == Kind::CreateAs && judge.asked(bench)?.is_some() {
        names.push(plan.target());
    }
    let vacuums = names
        .iter()
        .map(|name| format!("; VACUUM {name} RETAIN 0 HOURS"));
    bench.cluster.sql(&format!(
        "SET drumline.vacuum_shortest = 0{}; VACUUM RETAIN 0 HOURS",
        vacuums.collect::<String>()
    ))?;
    for name in [plan.table(), plan.target()] {
        let named = match names.contains(&name) {
            true => judge.read(bench, &name)?.context("no log")?.files,
            false => Default::default(),
        };
        let folder = format!("{ROOT}/default/{name}");
        let there = data_under(&bench.gcs, &format!("{folder}/"))
            .into_iter()
            .chain(data_under(&bench.gcs, &format!("{folder}-")));
        let orphans: Vec<String> = there.filter(|key| !named.contains(key)).collect();
        ensure!(orphans.is_empty(), "VACUUM leaves orphans: {orphans:?}");
    }
    let left = waiting(&bench.gcs);
    ensure!(
        left.is_empty(),
        "VACUUM leaves files that nobody names: {left:?}"
    );
    judge.look(bench).context("after VACUUM").map(drop)
}

pub(super) fn start_statement(bench: &Bench, plan: &Plan) -> Result<Process> {
    let sql = rows::statement(plan);
    bench.cluster.spawn(
        &format!("client-{}", plan.seed),
        &["sql", "--settings", "drumline.bytes_per_task=1", "-c", &sql],
    )
}

/// Whether a fault fires before the client ends.
pub(super) fn await_fired(fault: &Planted, client: &mut Process) -> Result<bool> {
    poll("the fault fires", PATIENCE, || {
        Ok(match (fault.fired() > 0, client.is_running()) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        })
    })
}

pub(super) fn told(client: &mut Process) -> Result<Told> {
    let status = client.wait(PATIENCE).context("the statement hangs")?;
    if status.success() {
        return Ok(Told::Done);
    }
    let said = client.log();
    let mut lines = said.lines();
    let why = lines.find(|line| line.contains("error")).unwrap_or(&said);
    let why = why.trim().to_owned();
    Ok(match status.code() {
        Some(1) if !said.contains("unknown whether") => Told::Failed(why),
        Some(1 | 3) => Told::Unknown(why),
        _ => bail!("the client ended with {status}: {said}"),
    })
}

/// What the answers may be, and which of them there is.
pub(super) struct Judge {
    plan: Plan,
    version: Option<u64>,
}

impl Judge {
    /// Looks at the table before its statement.
    pub(super) fn new(bench: &Bench, plan: &Plan) -> Result<Self> {
        let found = table::read(&bench.gcs, plan.format, &plan.table())?;
        let found = found.context("the table has no log")?;
        ensure!(
            found.rows == rows::before(),
            "the table does not begin as it should: {} rows",
            found.rows.len()
        );
        let version = (plan.kind != Kind::CreateAs).then_some(found.version);
        Ok(Self {
            plan: *plan,
            version,
        })
    }

    pub(super) fn read(&self, bench: &Bench, name: &str) -> Result<Option<Table>> {
        table::read(&bench.gcs, self.plan.format, name)
    }

    /// What Drumline answers; none where it knows no such table.
    fn asked(&self, bench: &Bench) -> Result<Option<Checksum>> {
        let sql = Checksum::query(&self.plan.target());
        let output = bench
            .cluster
            .run(&["sql", "--quiet", "-o", "json", "-c", &sql])?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && said.contains("does not exist") {
            return Ok(None);
        }
        let found = cluster::rows(&output)?;
        let row = found.first().context("no answer")?;
        let number = |name: &str| {
            let found = row.get(name).and_then(Value::as_i64);
            found.with_context(|| format!("no {name} in {row}"))
        };
        Ok(Some(Checksum {
            rows: number("rows")?,
            ids: number("ids")?,
            values: number("values")?,
            texts: number("texts")?,
        }))
    }

    /// Which answer there is: from Drumline, and counted without it.
    pub(super) fn look(&self, bench: &Bench) -> Result<Answer> {
        // Asked first: reading a table completes what a crash left half published.
        let asked = self.asked(bench)?;
        let found = self.read(bench, &self.plan.target())?;
        let after = rows::after(self.plan.kind);
        let Some(asked) = asked else {
            ensure!(self.plan.kind == Kind::CreateAs, "the table is gone");
            // Its log may be begun; without its name it is nobody's.
            let whole = found.is_none_or(|found| found.rows == after);
            ensure!(whole, "the log of a table without a name is not whole");
            return Ok(Answer::Before);
        };
        let found = found.context("Drumline answers of a table that has no log")?;
        ensure!(
            asked == Checksum::of(&found.rows),
            "Drumline answers {asked:?}, and counted are {:?}",
            Checksum::of(&found.rows)
        );
        let before = rows::before();
        // What no statement changes does not tell; that it was committed does.
        let is_after = match self.version {
            Some(version) => found.version > version,
            None => true,
        };
        if let Some(version) = self.version {
            ensure!(
                found.version <= version + 1,
                "one statement, {} commits",
                found.version - version
            );
        }
        match is_after {
            true if found.rows == after => Ok(Answer::After),
            false if found.rows == before => Ok(Answer::Before),
            _ => bail!(
                "neither before nor after: {} rows at version {}; before {}, after {}",
                found.rows.len(),
                found.version,
                before.len(),
                after.len()
            ),
        }
    }

    /// Whether what the client was told is so.
    pub(super) fn agrees(&self, told: &Told, answer: Answer) -> Result<()> {
        match (told, answer) {
            (Told::Done, Answer::Before) => bail!("the client was told it is done, and it is not"),
            (Told::Failed(why), Answer::After) => {
                bail!("the client was told that it failed ({why}), and it is done")
            }
            _ => Ok(()),
        }
    }
}

/// A fault that waits for its call.
struct Trap {
    fault: Planted,
    /// Opened when what is held may go on.
    gate: Gate,
    /// Opens when what was given up lands.
    landed: Option<Gate>,
}

/// A worker's file, whole.
pub(super) fn is_data(call: &Call) -> bool {
    let writes = matches!(call.operation, Operation::Put | Operation::CompleteUpload);
    writes && !call.door.is_empty() && call.key.ends_with(".parquet")
}

/// The put of a log's entry.
pub(super) fn is_entry(call: &Call) -> bool {
    let is_log = call.key.contains("/_delta_log/") || call.key.contains("/_drumline/commits/");
    call.operation == Operation::Put && is_log && call.key.ends_with(".json")
}

fn is_publishing(call: &Call) -> bool {
    call.operation == Operation::Copy && call.door.is_empty()
}

fn is_naming(call: &Call) -> bool {
    let is_catalog = call.key.contains("/_drumline/catalog/");
    call.operation == Operation::Put && is_catalog && call.door.is_empty()
}

/// The master's calls from the first on that begins something.
fn since(begins: fn(&Call) -> bool) -> impl Fn(&Call) -> bool + Send + Sync {
    let begun = AtomicBool::new(false);
    move |call| {
        if begins(call) {
            begun.store(true, Ordering::SeqCst);
        }
        begun.load(Ordering::SeqCst) && call.door.is_empty()
    }
}

impl Trap {
    fn set(bench: &Bench, plan: &Plan, timing: Timing) -> Self {
        let faults = bench.gcs.faults();
        let (gate, landed) = (Gate::default(), Gate::default());
        let burst = 3 + plan.seed / 7 % 4;
        let hold_before = || Effect::HoldBefore(gate.clone());
        let hold_after = || Effect::HoldAfter(gate.clone());
        let late = |after: Duration| Effect::LandLater(after, landed.clone());
        let fault = match (plan.step, plan.fault) {
            (Step::Staging, Fault::WorkerKilled | Fault::MasterKilled) => {
                faults.plant(hold_before(), 1, is_data)
            }
            (Step::Staging, Fault::LandedThenFailed) => {
                faults.plant(Effect::StatusAfter(503), 1, is_data)
            }
            (Step::Staging, Fault::Busy) => {
                let of_worker = |call: &Call| !call.door.is_empty();
                faults.plant(Effect::StatusBefore(429), burst, of_worker)
            }
            (Step::Staging, Fault::LandsLater | Fault::NeverAnswered) => {
                faults.plant(late(timing.landing), 1, is_data)
            }
            (Step::Staging, _) => {
                let reads = |call: &Call| {
                    let is_data = call.key.ends_with(".parquet") && !call.door.is_empty();
                    call.operation == Operation::Get && is_data
                };
                faults.plant(Effect::StallBody(timing.stall()), 1, reads)
            }
            (Step::Staged, Fault::Busy) => {
                faults.plant(Effect::StatusBefore(429), burst, since(is_data))
            }
            (Step::Staged, Fault::Stalls) => {
                faults.plant(Effect::Delay(timing.stall()), 1, since(is_data))
            }
            (Step::Staged, _) => faults.plant(hold_after(), 1, is_data),
            (Step::Publishing | Step::Naming, fault) => {
                let call = match plan.step {
                    Step::Naming => is_naming,
                    _ => is_publishing,
                };
                match fault {
                    // Before it lands and after, in turn.
                    Fault::MasterKilled if (plan.seed / PAIRS.len() as u64).is_multiple_of(2) => {
                        faults.plant(hold_before(), 1, call)
                    }
                    Fault::MasterKilled | Fault::Stalls => faults.plant(hold_after(), 1, call),
                    Fault::LandedThenFailed => faults.plant(Effect::StatusAfter(503), 1, call),
                    Fault::LandsLater => faults.plant(late(timing.landing), 1, call),
                    _ => faults.plant(Effect::StatusBefore(429), burst, call),
                }
            }
            (_, Fault::LandedThenFailed) => faults.plant(Effect::StatusAfter(503), 1, is_entry),
            (_, Fault::Busy) => faults.plant(Effect::StatusBefore(429), burst, since(is_entry)),
            (_, Fault::LandsLater) => faults.plant(late(timing.landing), 1, is_entry),
            // The first lands after the last was given up.
            (_, Fault::NeverAnswered) => {
                let all = timing.request_timeout * TRIES as u32 + Duration::from_secs(4);
                faults.plant(late(all), TRIES, is_entry)
            }
            // Before, while and after the next master looks what there is.
            (_, Fault::MasterKilledLandsLater) => {
                let after = Duration::from_millis(plan.seed / PAIRS.len() as u64 % 5 * 1200);
                faults.plant(late(after), 1, is_entry)
            }
            (Step::AfterPut, _) | (_, Fault::Stalls) => faults.plant(hold_after(), 1, is_entry),
            (Step::Commit | Step::BeforePut, _) => faults.plant(hold_before(), 1, is_entry),
        };
        let lands = matches!(
            plan.fault,
            Fault::LandsLater | Fault::NeverAnswered | Fault::MasterKilledLandsLater
        );
        Self {
            fault,
            gate,
            landed: lands.then_some(landed),
        }
    }

    /// What is done to processes once it has fired.
    fn spring(&self, bench: &mut Bench, plan: &Plan) -> Result<()> {
        match plan.fault {
            Fault::WorkerKilled => {
                let call = self.fault.call().context("the fault saw no call")?;
                bench.kill_worker(&call.door)?;
                // The master may learn of it before its own call goes on.
                std::thread::sleep(Duration::from_millis(200));
                self.gate.open();
            }
            Fault::MasterKilled | Fault::MasterKilledLandsLater => {
                bench.cluster.kill_master()?;
                // A call of the dead master that was held before it landed never does; a worker's goes on.
                if matches!(plan.step, Step::Staging | Step::Staged) {
                    self.gate.open();
                }
                bench.cluster.start_master()?;
            }
            Fault::Stalls => {}
            _ => self.gate.open(),
        }
        Ok(())
    }
}
