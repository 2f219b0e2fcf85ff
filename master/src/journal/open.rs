//! Opens the journal, whatever state it is in, and makes database and lines agree.
//!
//! A sound database is the truth; lines newer than it come from a master that was killed between the two, and
//! are taken in. A damaged one is moved aside and made anew from the lines, and from those of its records that
//! can be recognised by themselves. Damaged lines are written anew from the database.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::ledger::Ledger;
use super::lines::{self, Found, LineFile, Lines};
use super::mark::Mark;
use super::retention::Limits;
use super::store::{self, FORMAT, Opened, Refusal, Store};
use super::writer::now_millis;
use super::{Error, Fact, record};

/// How long a database may take to be checked. One that takes longer is taken for damaged.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);
/// Facts that are written in one transaction while a database is made anew.
const BATCH: usize = 5000;
/// Bytes of a file of lines.
const ROTATE_AT: u64 = 16 << 20;

/// What opening found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) ledger: Ledger,
    /// In order.
    pub(super) facts: Vec<Fact>,
    pub(super) repaired: Option<Repaired>,
}

/// What was damaged, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// Records that are there.
    pub(crate) kept: u64,
    /// Records that were there and cannot be read anywhere any more.
    pub(crate) dropped: u64,
    pub(crate) reason: String,
}

/// Facts' JSON by sequence number.
type Records = BTreeMap<u64, Vec<u8>>;

/// Opens the journal of a state folder.
pub(super) fn open(state_dir: &Path, limits: Limits) -> Result<Recovered, Error> {
    let path = state_dir.join("journal.redb");
    let folder = state_dir.join("events");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Files { path, source }
    };
    let mut found = lines::read(&folder).map_err(io(&folder))?;
    let had_lines = !found.is_empty();
    let mut reasons = Vec::new();
    let (store, mut records) = match check(&path)? {
        Checked::Absent => {
            let lines: usize = found.iter().map(|file| file.records.len()).sum();
            if lines > 0 {
                reasons.push(format!("{} is missing", path.display()));
            }
            (None, Records::new())
        }
        Checked::Sound(opened) => {
            if let Some(from) = opened.migrated_from {
                tracing::info!(
                    from,
                    to = FORMAT,
                    "the journal has been brought to this format"
                );
            }
            (Some(opened.store), opened.records.into_iter().collect())
        }
        Checked::Damaged(reason) => {
            let aside = store::aside(&path, now_millis());
            fs::rename(&path, &aside).map_err(io(&path))?;
            let bytes = fs::read(&aside).map_err(io(&aside))?;
            reasons.push(format!(
                "{} was damaged ({reason}) and is now {}",
                path.display(),
                aside.display()
            ));
            (None, record::salvage(&bytes).into_iter().collect())
        }
    };
    let newest = match store {
        Some(_) => records.keys().next_back().copied().unwrap_or(0),
        None => 0,
    };
    let (mark, marked) = Mark::open(&state_dir.join("journal.mark"));
    let marked = marked.filter(|_| store.is_some() || had_lines).unwrap_or(0);
    let in_lines = found.iter().map(|file| file.file.last_sequence).max();
    let known = newest.max(in_lines.unwrap_or(0));
    let mut missing = Vec::new();
    if marked > known && store.is_some() {
        // A database can be sound and of yesterday: damage to its newest pages takes it back to the state before.
        for (sequence, json) in record::salvage(&fs::read(&path).map_err(io(&path))?) {
            if sequence > known && records.insert(sequence, json).is_none() {
                missing.push(sequence);
            }
        }
        reasons.push(format!("{} had lost its newest records", path.display()));
    }
    let (mut dropped, in_lines) = take_lines(&found, &mut records, store.is_some(), newest);
    missing.extend(in_lines);
    let known = records.keys().next_back().copied().unwrap_or(0);
    if known < marked {
        dropped = dropped.max(1);
        reasons.push(format!(
            "the newest records are lost: {known} is the last of them, and {marked} was"
        ));
    }
    let mut before = 0;
    for file in &mut found {
        if let Some(reason) = repair_lines(file, before, &records).map_err(io(&folder))? {
            reasons.push(reason);
        }
        before = file.file.last_sequence;
    }
    let files: Vec<LineFile> = found.into_iter().map(|file| file.file).collect();
    let mut lines = Lines::new(&folder, files, ROTATE_AT.min(limits.bytes / 8).max(4096));
    let lost = append_missing(&mut lines, &records).map_err(io(&folder))?;
    if lost > 0 && had_lines && newest > 0 {
        reasons.push(format!("{lost} lines were missing in {}", folder.display()));
    }
    let store = match store {
        Some(store) => {
            write(
                &store,
                &path,
                missing
                    .iter()
                    .filter_map(|sequence| Some((*sequence, records.get(sequence)?.as_slice()))),
            )?;
            store
        }
        None => make(&path, &records)?,
    };
    let mut ledger = Ledger::new(path, store, lines, mark, limits);
    let facts = parse(&records, &mut ledger);
    ledger.mark();
    let repaired = (!reasons.is_empty()).then(|| Repaired {
        kept: records.len() as u64,
        dropped,
        reason: reasons.join("; "),
    });
    Ok(Recovered {
        ledger,
        facts,
        repaired,
    })
}

enum Checked {
    Absent,
    Sound(Box<Opened>),
    Damaged(String),
}

/// Opens the database on a thread of its own: damage must not take the master with it, nor hold it up.
fn check(path: &Path) -> Result<Checked, Error> {
    if !store::is_there(path) {
        return Ok(Checked::Absent);
    }
    let (sender, answer) = mpsc::channel();
    let checked = path.to_owned();
    std::thread::Builder::new()
        .name("drumline-journal-check".to_owned())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| Store::open(&checked)))
                .unwrap_or_else(|panic| Err(Refusal::Damaged(said(&*panic))));
            // Whoever has waited too long does not listen any more.
            let _ = sender.send(opened);
        })
        .map_err(|source| Error::Files {
            path: path.to_owned(),
            source,
        })?;
    match answer.recv_timeout(CHECKED_WITHIN) {
        Ok(Ok(opened)) => Ok(Checked::Sound(Box::new(opened))),
        Ok(Err(Refusal::TooNew { found })) => Err(Error::TooNew {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
        Ok(Err(Refusal::Unusable(source))) => Err(Error::Database {
            path: path.to_owned(),
            source: Box::new(source),
        }),
        Ok(Err(Refusal::Damaged(reason))) => Ok(Checked::Damaged(reason)),
        Err(_) => Ok(Checked::Damaged(format!(
            "its check did not end within {} s",
            CHECKED_WITHIN.as_secs()
        ))),
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it cannot be read".to_owned())
}

/// Takes facts from the lines: all, or with a sound database only those newer than it has, since older ones were
/// let go. Gives how many damaged lines nothing makes up for, and what the database lacks.
fn take_lines(
    found: &[Found],
    records: &mut Records,
    is_sound: bool,
    newest: u64,
) -> (u64, Vec<u64>) {
    let mut missing = Vec::new();
    let before: Records = match is_sound {
        true => Records::new(),
        false => std::mem::take(records),
    };
    let mut dropped = 0;
    let mut last = 0;
    let mut damaged = 0;
    for file in found {
        let torn = (file.torn > 0).then_some(file.records.len());
        let marks: Vec<usize> = file.damaged.iter().copied().chain(torn).collect();
        let mut marks = marks.into_iter().peekable();
        for (index, (sequence, json)) in file.records.iter().enumerate() {
            while marks.next_if(|mark| *mark <= index).is_some() {
                damaged += 1;
            }
            if damaged > 0 {
                dropped += lost(damaged, records, &before, last, *sequence);
                damaged = 0;
            }
            last = *sequence;
            if *sequence > newest && !records.contains_key(sequence) {
                records.insert(*sequence, json.clone());
                missing.push(*sequence);
            }
        }
        damaged += marks.count() as u64;
    }
    if damaged > 0 {
        dropped += lost(damaged, records, &before, last, u64::MAX);
    }
    for (sequence, json) in before {
        records.entry(sequence).or_insert(json);
    }
    (dropped, missing)
}

/// Of so many damaged lines between two sound ones: how many the database cannot make up for.
fn lost(damaged: u64, records: &Records, before: &Records, after: u64, until: u64) -> u64 {
    if after + 1 >= until {
        return damaged;
    }
    let between = after + 1..until;
    let known = records.range(between.clone()).count() + before.range(between).count();
    damaged.saturating_sub(known as u64)
}

/// Cuts off a line that was being written, or writes a file anew from what is known; says so where that is more
/// than the end of a master that was killed. `before`: the last sequence number of the file before.
fn repair_lines(
    found: &mut Found,
    before: u64,
    records: &Records,
) -> std::io::Result<Option<String>> {
    let path: PathBuf = found.file.path.clone();
    if found.damaged.is_empty() {
        if found.torn > 0 {
            let good = found.file.bytes - found.torn;
            tracing::info!(path = %path.display(), bytes = found.torn, "a line that was not written to its end is cut off");
            fs::File::options().write(true).open(&path)?.set_len(good)?;
            found.file.bytes = good;
        }
        return Ok(None);
    }
    let first = found.records.first().map(|(sequence, _)| *sequence);
    let last = found.records.last().map(|(sequence, _)| *sequence);
    // What the damaged lines held, as far as the database knows.
    let mut whole: Records = match (first, last) {
        (Some(first), Some(last)) => records
            .range(if before > 0 { before + 1 } else { first }..=last)
            .map(|(sequence, json)| (*sequence, json.clone()))
            .collect(),
        _ => Records::new(),
    };
    whole.extend(found.records.iter().cloned());
    let whole: Vec<(u64, Vec<u8>)> = whole.into_iter().collect();
    let count = found.damaged.len();
    let aside = store::aside(&path, now_millis());
    lines::rewrite(&mut found.file, &whole, &aside)?;
    Ok(Some(format!(
        "{count} lines of {} were damaged; the file as it was is now {}",
        path.display(),
        aside.display()
    )))
}

/// Adds to the lines what only the database has of the newest; how many.
fn append_missing(lines: &mut Lines, records: &Records) -> std::io::Result<usize> {
    let newest = lines.files().iter().map(|file| file.last_sequence).max();
    let missing: Vec<(u64, i64, &[u8])> = records
        .range(newest.unwrap_or(0) + 1..)
        .map(|(sequence, json)| (*sequence, lines::at(json), json.as_slice()))
        .collect();
    for batch in missing.chunks(BATCH) {
        lines.append(batch)?;
    }
    Ok(missing.len())
}

fn make(path: &Path, records: &Records) -> Result<Store, Error> {
    let store = Store::create(path).map_err(|source| Error::Database {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    write(
        &store,
        path,
        records
            .iter()
            .map(|(sequence, json)| (*sequence, json.as_slice())),
    )?;
    Ok(store)
}

fn write<'a>(
    store: &Store,
    path: &Path,
    records: impl Iterator<Item = (u64, &'a [u8])>,
) -> Result<(), Error> {
    let records: Vec<_> = records.collect();
    for batch in records.chunks(BATCH) {
        store
            .write(batch.iter().copied(), &[])
            .map_err(|source| Error::Database {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
    }
    Ok(())
}

fn parse(records: &Records, ledger: &mut Ledger) -> Vec<Fact> {
    let mut facts = Vec::with_capacity(records.len());
    let mut unknown = 0;
    for json in records.values() {
        match serde_json::from_slice::<Fact>(json) {
            Ok(fact) => {
                ledger.remember(&fact, json.len() as u64);
                facts.push(fact);
            }
            // Whole as written: of a newer build, then.
            Err(_) => unknown += 1,
        }
    }
    if unknown > 0 {
        tracing::warn!(
            facts = unknown,
            "the journal holds facts that this build does not know; they are left alone"
        );
    }
    facts
}
