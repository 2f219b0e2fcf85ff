//! Proofs that the checks of a seed are worth something: a store that lies takes one guard of the product away, and
//! the checks must see it. The product itself is as it ships.
//!
//! | proof | the lie | the guard it takes away |
//! |---|---|---|
//! | [`own_commit_is_not_recognised`] | the entry lands under another's name, and the answer is 503 | looking, after an error, whether the entry that is there is ours: the attempt's id, and the statement's |
//! | [`identity_is_lost`] | the entry lands under another's name, and all seems well | looking, before a statement is repeated, whether it is committed already |
//! | [`creating_overwrites`] | a put that must create lands over what somebody else created meanwhile | the create-only put: one entry per number, for ever |
//! | [`staging_is_visible`] | every file that lies in the folder is named by the entry | a file that was staged is not visible unless its commit names it |

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::bench::Bench;
use super::plan::{Fault, Format, Kind, Plan, Step};
use super::seed::{self, Timing, is_entry};
use super::table;
use super::{BUCKET, ROOT, rows};
use crate::gcs::{Effect, Gate, Rewrite};

fn plan(seed: u64, step: Step, fault: Fault) -> Plan {
    Plan {
        seed,
        step,
        fault,
        format: Format::Delta,
        kind: Kind::Insert,
        real_minute: false,
    }
}

/// What the checks say of a seed in a store that lies; an error where they see nothing.
fn seen(bench: &mut Bench, plan: &Plan, timing: Timing, lie: Effect) -> Result<String> {
    let ran = seed::run_after(bench, plan, timing, |bench| {
        bench.gcs.faults().plant(lie, 1, is_entry)
    });
    match ran {
        Ok(_) => bail!("the guard is gone, and the checks see nothing"),
        Err(error) => {
            // What the processes said stands before the reason.
            let reason = error.root_cause().to_string();
            let is_ours = [
                "a second time",
                "commits",
                "neither before nor after",
                "and counted are",
            ];
            ensure!(
                is_ours.iter().any(|word| reason.contains(word)),
                "the checks see something else: {reason}"
            );
            Ok(reason)
        }
    }
}

/// Without it a commit whose answer is lost is made once more.
pub fn own_commit_is_not_recognised(bench: &mut Bench, timing: Timing) -> Result<String> {
    let plan = plan(900_001, Step::Commit, Fault::LandedThenFailed);
    let lie = Effect::KeepAndFail(Rewrite::new(disguised), 503);
    seen(bench, &plan, timing, lie)
}

/// Without it an application that is replayed does everything again.
pub fn identity_is_lost(bench: &mut Bench, timing: Timing) -> Result<String> {
    let plan = plan(900_002, Step::Staging, Fault::Busy);
    seen(bench, &plan, timing, Effect::Keep(Rewrite::new(disguised)))
}

/// Without it what a dead worker left behind is counted.
pub fn staging_is_visible(bench: &mut Bench, timing: Timing) -> Result<String> {
    let plan = plan(900_003, Step::Staged, Fault::WorkerKilled);
    let store = bench.gcs.peek();
    let folder = format!("{ROOT}/default/{}/", plan.table());
    let lie = Rewrite::new(move |entry| {
        let entries = store.keys(BUCKET, &format!("{folder}_delta_log/"));
        let entries = entries
            .iter()
            .filter_map(|key| store.bytes(BUCKET, key))
            .chain([entry.clone()]);
        let named: BTreeSet<String> = entries.flat_map(|entry| paths(&entry)).collect();
        let keys = store.keys(BUCKET, &folder);
        let more = keys.iter().filter_map(|key| {
            let path = key.strip_prefix(&folder)?;
            let is_new = path.ends_with(".parquet") && !named.contains(path);
            is_new.then(|| added(path, &store.bytes(BUCKET, key)?))?
        });
        let more: String = more.map(|line| format!("\n{line}")).collect();
        Bytes::from([&entry[..], more.as_bytes()].concat())
    });
    seen(bench, &plan, timing, Effect::Keep(lie))
}

/// Without it the slower of two writers takes the other's entry away. With it both are there.
pub fn creating_overwrites(bench: &mut Bench) -> Result<String> {
    let honest = race(bench, 900_004, Effect::HoldBefore)?;
    ensure!(honest.is_ok(), "with the guard, too: {honest:?}");
    match race(bench, 900_005, Effect::Overwrite)? {
        Ok(()) => bail!("the guard is gone, and the checks see nothing"),
        Err(seen) => Ok(seen),
    }
}

/// A statement whose put is held while another writer takes its number. Says what is lost, if anything.
fn race(bench: &mut Bench, seed: u64, hold: fn(Gate) -> Effect) -> Result<Result<(), String>> {
    bench.settle()?;
    let plan = plan(seed, Step::BeforePut, Fault::Stalls);
    let name = plan.table();
    bench.cluster.sql(&rows::setup(&plan))?;
    let read = |bench: &Bench| {
        let found = table::read(&bench.gcs, plan.format, &name)?;
        found.context("the table has no log")
    };
    let before = read(bench)?;
    let gate = Gate::default();
    let held = bench.gcs.faults().plant(hold(gate.clone()), 1, is_entry);
    let mut client = seed::start_statement(bench, &plan)?;
    ensure!(seed::await_fired(&held, &mut client)?, "nothing was put");

    // The other's rows: those of a file that is there, once more.
    let folder = format!("{ROOT}/default/{name}");
    let file = before.files.first().context("no file")?;
    let bytes = bench.gcs.bytes(BUCKET, file).context("no such file")?;
    let path = "p=0/another.parquet";
    let line = added(path, &bytes).context("it is no Parquet file")?;
    let theirs = line["add"]["stats"].as_str().unwrap_or_default();
    let theirs: Value = serde_json::from_str(theirs)?;
    bench.gcs.put(BUCKET, &format!("{folder}/{path}"), bytes)?;
    let info = json!({"commitInfo": {
        "timestamp": chrono::Utc::now().timestamp_millis(),
        "operation": "WRITE",
        "operationParameters": {"mode": "Append"},
        "isBlindAppend": true,
    }});
    let entry = format!("{folder}/_delta_log/{:020}.json", before.version + 1);
    bench
        .gcs
        .put(BUCKET, &entry, format!("{info}\n{line}").into())?;
    gate.open();

    let told = seed::told(&mut client)?;
    ensure!(told == seed::Told::Done, "the statement: {told:?}");
    bench.gcs.faults().clear();
    let expected = rows::after(plan.kind).len() as u64 + theirs["numRecords"].as_u64().unwrap_or(0);
    let found = read(bench)?;
    Ok(match found.rows.len() as u64 {
        rows if rows == expected => Ok(()),
        rows => Err(format!(
            "{expected} rows were committed, and {rows} are there"
        )),
    })
}

/// An entry as somebody else would have written it.
fn disguised(entry: Bytes) -> Bytes {
    let text = String::from_utf8_lossy(&entry);
    let lines = text.lines().map(|line| {
        let Ok(mut line) = serde_json::from_str::<Value>(line) else {
            return line.to_owned();
        };
        if let Some(info) = line.get_mut("commitInfo") {
            info["drumline.attempt"] = json!("00000000-0000-0000-0000-000000000000");
            info["drumline.statement"]["application"] = json!("somebody");
        }
        if let Some(transaction) = line.get_mut("txn") {
            transaction["appId"] = json!("drumline/somebody");
        }
        line.to_string()
    });
    Bytes::from(lines.collect::<Vec<_>>().join("\n"))
}

/// Paths that an entry names.
fn paths(entry: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(entry);
    let lines = text.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line.get("add")?.get("path")?.as_str()?.to_owned())
    });
    lines.collect()
}

/// The line that names a file of such a path.
fn added(path: &str, bytes: &Bytes) -> Option<Value> {
    let p = path.strip_prefix("p=")?.split_once('/')?.0;
    let rows = table::count_rows(bytes).ok()?;
    Some(json!({"add": {
        "path": path,
        "partitionValues": {"p": p},
        "size": bytes.len(),
        "modificationTime": chrono::Utc::now().timestamp_millis(),
        "dataChange": true,
        "stats": json!({"numRecords": rows}).to_string(),
    }}))
}
