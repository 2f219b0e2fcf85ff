//! Opens the journal, whatever state it is in, and makes database and lines agree.
//!
//! A sound database is the truth; lines newer than it come from a master that was killed between the two, and
//! are taken in. A damaged one is made anew from the lines, and from those of its records that can be recognised by
//! themselves; what was let go does not come back. Damaged lines are written anew from the database. What is made
//! anew takes its place when it is whole, so that a repair can be interrupted at any moment and be made again.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::ledger::{Key, Ledger};
use super::lines::{self, Found, LineFile, Lines};
use super::mark::Mark;
use super::retention::Limits;
use super::store::{self, FORMAT, Opened, Refusal, Store};
use super::writer::now_millis;
use super::{Error, Fact, record};
use crate::facts::Event;

/// How long a database may take to be checked, and how much more for each of so many bytes. Some damage might make
/// the check go on for ever; but a slow disk is no damage, so nothing is repaired then.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND: u64 = 4 << 20;
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
    let aside = store::aside(&path, now_millis());
    let fresh = state_dir.join("journal.redb.new");
    remove_leftover(&fresh).map_err(io(&fresh))?;
    let mut damaged = false;
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
            let bytes = fs::read(&path).map_err(io(&path))?;
            damaged = true;
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
    let let_go = marked.let_go;
    let marked = marked.newest.filter(|_| store.is_some() || had_lines);
    let marked = marked.unwrap_or(0);
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
    missing.sort_unstable();
    let gone = match let_go {
        Some(let_go) if !reasons.is_empty() => let_go_again(&mut records, let_go, &found),
        _ => vec![],
    };
    let known = records.keys().next_back().copied().unwrap_or(0);
    if known < marked {
        dropped = dropped.max(1);
        reasons.push(format!(
            "the newest records are lost: {known} is the last of them, and {marked} was"
        ));
    }
    reasons.extend(repair_all_lines(&mut found, &records).map_err(io(&folder))?);
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
            remove(&store, &path, &gone)?;
            store
        }
        None => {
            let store = make(&fresh, &records)?;
            let placed = match damaged {
                true => lines::replace(&path, &fresh, &aside),
                false => fs::rename(&fresh, &path),
            };
            placed.map_err(io(&path))?;
            store
        }
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
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let within = CHECKED_WITHIN + Duration::from_secs(bytes / BYTES_PER_SECOND);
    let checked = path.to_owned();
    check_within(path, within, move || Store::open(&checked))
}

fn check_within(
    path: &Path,
    within: Duration,
    open: impl FnOnce() -> Result<Opened, Refusal> + Send + 'static,
) -> Result<Checked, Error> {
    let (sender, answer) = mpsc::channel();
    std::thread::Builder::new()
        .name("drumline-journal-check".to_owned())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(open))
                .unwrap_or_else(|panic| Err(Refusal::Damaged(said(&*panic))));
            // Whoever has waited too long does not listen any more.
            let _ = sender.send(opened);
        })
        .map_err(|source| Error::Files {
            path: path.to_owned(),
            source,
        })?;
    match answer.recv_timeout(within) {
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
        Err(_) => Err(Error::CheckTooSlow {
            path: path.to_owned(),
            within,
        }),
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

/// What was over and let go, and came back with a repair: taken out of the records, and told. An application of which
/// only a damaged database knows parts, all of them older than what was let go, was let go too: its end is not among
/// them, and it must not run again.
fn let_go_again(records: &mut Records, let_go: i64, found: &[Found]) -> Vec<u64> {
    let in_lines: BTreeSet<u64> = found
        .iter()
        .flat_map(|file| file.records.iter().map(|(sequence, _)| *sequence))
        .collect();
    let mut groups: BTreeMap<Key, Salvaged> = BTreeMap::new();
    for (sequence, json) in &*records {
        // Of a newer build: it is left alone.
        let Ok(fact) = serde_json::from_slice::<Fact>(json) else {
            continue;
        };
        let key = Key::of(&fact);
        let is_application = matches!(key, Key::Application(_));
        let group = groups.entry(key).or_insert_with(|| Salvaged {
            is_over: !is_application,
            is_in_lines: false,
            last_at: fact.at,
            sequences: vec![],
        });
        group.is_over |= matches!(fact.event, Event::ApplicationFinished { .. });
        group.is_in_lines |= in_lines.contains(sequence);
        group.last_at = group.last_at.max(fact.at);
        group.sequences.push(*sequence);
    }
    let gone: Vec<u64> = groups
        .into_values()
        .filter(|group| group.last_at <= let_go && (group.is_over || !group.is_in_lines))
        .flat_map(|group| group.sequences)
        .collect();
    for sequence in &gone {
        records.remove(sequence);
    }
    gone
}

/// What a repair found of an application, or of an hour.
struct Salvaged {
    is_over: bool,
    is_in_lines: bool,
    last_at: i64,
    sequences: Vec<u64>,
}

/// Repairs each file of lines; says what was more than the end of a master that was killed.
fn repair_all_lines(found: &mut [Found], records: &Records) -> std::io::Result<Vec<String>> {
    let mut reasons = Vec::new();
    let mut before = 0;
    for index in 0..found.len() {
        let later = &found[index + 1..];
        let until = match later {
            [] => None,
            later => {
                let mut firsts = later.iter().filter_map(|file| file.records.first());
                Some(firsts.next().map_or(u64::MAX, |(sequence, _)| *sequence))
            }
        };
        let file = &mut found[index];
        reasons.extend(repair_lines(file, before, until, records)?);
        before = before.max(file.file.last_sequence);
    }
    Ok(reasons)
}

/// Cuts off a line that was being written, or writes a file anew from what is known; says so where that is more
/// than the end of a master that was killed. `before`: the last sequence number of the files before; `until`: the
/// first one of those after it, for a file that is not the newest.
fn repair_lines(
    found: &mut Found,
    before: u64,
    until: Option<u64>,
    records: &Records,
) -> std::io::Result<Option<String>> {
    let path: PathBuf = found.file.path.clone();
    let is_newest = until.is_none();
    if found.damaged.is_empty() && (is_newest || found.torn == 0) {
        if found.torn > 0 {
            let good = found.file.bytes - found.torn;
            tracing::info!(path = %path.display(), bytes = found.torn, "a line that was not written to its end is cut off");
            fs::File::options().write(true).open(&path)?.set_len(good)?;
            found.file.bytes = good;
        }
        return Ok(None);
    }
    let count = found.damaged.len() + usize::from(!is_newest && found.torn > 0);
    let first = found.records.first().map(|(sequence, _)| *sequence);
    let last = found.records.last().map(|(sequence, _)| *sequence);
    // What the damaged lines held, as far as the database knows. Nobody wrote to a file that is not the newest after
    // its last line, so what is between it and the next one was in it; what the newest lacks at its end is added later.
    let end = until.or_else(|| Some(last? + 1)).unwrap_or(0);
    let begin = match (before, first) {
        (0, Some(first)) => first,
        // The oldest file, and none of its lines can be read: it held so many.
        (0, None) => {
            let mut newest = records.range(..end).rev();
            let begin = newest.nth(count.saturating_sub(1));
            begin.map_or(0, |(sequence, _)| *sequence)
        }
        (before, _) => before + 1,
    };
    let mut whole = Records::new();
    if begin < end {
        whole.extend(
            records
                .range(begin..end)
                .map(|(sequence, json)| (*sequence, json.clone())),
        );
    }
    whole.extend(found.records.iter().cloned());
    let whole: Vec<(u64, Vec<u8>)> = whole.into_iter().collect();
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

fn remove(store: &Store, path: &Path, sequences: &[u64]) -> Result<(), Error> {
    if sequences.is_empty() {
        return Ok(());
    }
    store
        .write([], sequences)
        .map_err(|source| Error::Database {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

/// What a repair that was interrupted had begun to make.
fn remove_leftover(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_takes_too_long_is_an_error_and_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.redb");
        fs::write(&path, "as it is").unwrap();
        let slow = || {
            std::thread::sleep(Duration::from_millis(500));
            Err(Refusal::Damaged("it came too late".to_owned()))
        };
        let Err(error) = check_within(&path, Duration::from_millis(20), slow) else {
            panic!("it was judged");
        };
        let said = error.to_string();
        assert!(
            said.contains("journal.redb") && said.contains("checked"),
            "{said}"
        );
        let error = crate::Error::from(error);
        assert_eq!(error.kind(), drumline_lake::ErrorKind::Retryable);
        assert!(error.hint().unwrap().contains("start it again"));
    }

    #[test]
    fn what_only_a_damaged_database_knows_and_is_older_than_what_was_let_go_does_not_run_again() {
        let accepted = |id: &str, sequence: u64, at: i64| {
            let event = crate::journal::tests::accepted(id);
            let fact = Fact {
                sequence,
                at,
                event,
            };
            (sequence, record::json(&fact).unwrap())
        };
        let over = Fact {
            sequence: 4,
            at: 6,
            event: Event::ApplicationFinished {
                application: "over".to_owned(),
                state: crate::facts::State::Succeeded,
                failure: None,
                statement: 0,
            },
        };
        let in_lines = accepted("runs since long", 2, 5);
        let mut records = Records::from([
            accepted("its end is lost", 1, 5),
            in_lines.clone(),
            accepted("over", 3, 5),
            (4, record::json(&over).unwrap()),
            accepted("young", 5, 50),
        ]);
        let found = [Found {
            file: LineFile {
                path: PathBuf::new(),
                number: 1,
                bytes: 0,
                last_sequence: 2,
                last_at: 5,
            },
            records: vec![in_lines],
            damaged: vec![],
            torn: 0,
        }];
        let mut gone = let_go_again(&mut records, 10, &found);
        gone.sort_unstable();
        assert_eq!(gone, [1, 3, 4]);
        assert_eq!(records.into_keys().collect::<Vec<_>>(), [2, 5]);
    }
}
