use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::facts::{Body, Event, Facts, State};

pub(super) const LIMITS: Limits = Limits {
    age: Duration::from_secs(30 * 24 * 3600),
    bytes: 256 << 20,
};

pub(super) fn accepted(application: &str) -> Event {
    Event::ApplicationAccepted {
        application: application.to_owned(),
        name: "nightly".to_owned(),
        source: String::new(),
        submitted_by: String::new(),
        body: Body::Sql("SELECT 1".to_owned()),
        settings: [("drumline.cores".to_owned(), "1".to_owned())].into(),
    }
}

fn finished(application: &str) -> Event {
    Event::ApplicationFinished {
        application: application.to_owned(),
        state: State::Succeeded,
        failure: None,
        statement: 0,
    }
}

/// A bus that writes to this folder, as a master has it.
fn start(folder: &Path, limits: Limits) -> (Facts, Option<Repaired>) {
    let opened = open(folder, limits).unwrap();
    let repaired = opened.repaired.clone();
    (Facts::journaled(opened).unwrap(), repaired)
}

/// What has to come, and does not hold up the tests where it never does.
async fn soon<T>(coming: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(Duration::from_secs(20), coming);
    within.await.expect("it does not come")
}

fn sequences(folder: &Path) -> Vec<u64> {
    let opened = open(folder, LIMITS).unwrap();
    opened.facts.iter().map(|fact| fact.sequence).collect()
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart_in_both_copies() {
    let folder = tempfile::tempdir().unwrap();
    let (facts, repaired) = start(folder.path(), LIMITS);
    assert_eq!(repaired, None);
    facts.record(accepted("a")).await.unwrap();
    facts.publish(Event::JobQueued {
        application: "a".to_owned(),
        statement: 1,
        attempt: 1,
        position: 1,
        table: String::new(),
    });
    facts.record(finished("a")).await.unwrap();
    let before = facts.history();
    drop(facts);

    let (facts, repaired) = start(folder.path(), LIMITS);
    assert_eq!(repaired, None);
    assert_eq!(facts.history().applications["a"].state, State::Succeeded);
    assert!(facts.log("a").unwrap().is_complete());
    let sequence = facts.history().sequence;
    // Above what was told and not kept, too.
    assert!(sequence > before.sequence);
    facts.record(accepted("b")).await.unwrap();
    assert!(facts.history().sequence > sequence, "numbers grow");
    drop(facts);

    let lines = fs::read_to_string(folder.path().join("events/00000001.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["checksum"].is_string() && line["event"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_journal_of_a_newer_build_is_refused_by_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    store::fixture::of_format(&path, 7, &[]);
    let Err(error) = open(folder.path(), LIMITS) else {
        panic!("it was opened");
    };
    let said = error.to_string();
    assert!(
        said.contains("format 7") && said.contains("up to 1"),
        "{said}"
    );
    assert!(path.exists(), "it is left alone");
    let error = crate::Error::from(error);
    assert!(
        error.hint().unwrap().contains("newer"),
        "{:?}",
        error.hint()
    );
}

#[test]
fn a_journal_of_format_0_is_brought_to_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let json = r#"{"sequence":5,"at":7,"event":"application_accepted","application":"a","name":"n","source":"","submitted_by":"","body":{"sql":"SELECT 1"},"settings":{}}"#;
    let deleted = r#"{"sequence":9,"at":8,"event":"stream_deleted","stream":"s"}"#;
    store::fixture::format_0(&path, &[(5, json), (9, deleted)]);
    for _ in 0..2 {
        let opened = open(folder.path(), LIMITS).unwrap();
        assert_eq!(opened.repaired, None);
        let sequences: Vec<u64> = opened.facts.iter().map(|fact| fact.sequence).collect();
        assert_eq!(sequences, [5, 9]);
        assert!(
            matches!(&opened.facts[0].event, Event::ApplicationAccepted { application, .. } if application == "a")
        );
    }
}

#[tokio::test]
async fn a_lost_database_is_made_anew_from_the_lines_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (facts, _) = start(folder.path(), LIMITS);
    facts.record(accepted("a")).await.unwrap();
    drop(facts);
    let before = sequences(folder.path());
    let path = folder.path().join("journal.redb");
    fs::write(&path, b"rubbish").unwrap();
    let (facts, repaired) = start(folder.path(), LIMITS);
    let repaired = repaired.unwrap();
    assert_eq!((repaired.kept, repaired.dropped), (1, 0));
    assert!(
        repaired.reason.contains("journal.redb.damaged-"),
        "{repaired:?}"
    );
    assert_eq!(facts.history().applications.len(), 1);
    drop(facts);
    assert_eq!(sequences(folder.path())[..1], before);
    fs::remove_file(&path).unwrap();
    let (facts, repaired) = start(folder.path(), LIMITS);
    assert!(repaired.unwrap().reason.contains("is missing"));
    assert_eq!(facts.history().applications.len(), 1);
    // What was repaired is history too.
    assert_eq!(facts.history().repairs.len(), 2);
}

#[tokio::test]
async fn while_the_disk_is_full_nothing_is_acknowledged_and_afterwards_all_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (facts, _) = start(folder.path(), LIMITS);
    facts.record(accepted("a")).await.unwrap();
    drop(facts);
    // Writes to this device fail as on a full disk.
    let file = folder.path().join("events/00000001.jsonl");
    let kept = folder.path().join("kept");
    let opened = open(folder.path(), LIMITS).unwrap();
    fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let facts = Facts::journaled(opened).unwrap();
    facts.accepts().unwrap();
    let error = facts.record(accepted("b")).await.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(facts.accepts().is_err());
    let mut tries = facts.tries();
    facts.publish(accepted("c"));
    // Nor does another try.
    soon(tries.changed()).await.unwrap();
    facts.publish(Event::WorkerReported {
        worker: "w".to_owned(),
        running_tasks: 0,
        memory_bytes: 0,
    });
    assert!(
        facts.accepts().is_err(),
        "a fact that is not kept says nothing of the disk"
    );
    assert_eq!(facts.history().applications.len(), 3, "what runs goes on");

    fs::rename(&kept, &file).unwrap();
    let recovered = tries.wait_for(|progress| progress.failing.is_none());
    soon(recovered).await.unwrap();
    facts.record(accepted("d")).await.unwrap();
    drop(facts);
    let (facts, repaired) = start(folder.path(), LIMITS);
    assert_eq!(repaired, None);
    assert_eq!(facts.history().applications.len(), 4);
}

/// One application that runs, and of fifty that are over the newest: the rest was let go for want of room.
async fn shrunk(folder: &Path) -> Facts {
    let (facts, _) = start(folder, LIMITS);
    facts.record(accepted("runs")).await.unwrap();
    for number in 0..50 {
        let id = format!("over-{number:02}");
        facts.publish(accepted(&id));
        facts.record(finished(&id)).await.unwrap();
    }
    drop(facts);
    let small = Limits {
        bytes: 4000,
        ..LIMITS
    };
    let (facts, _) = start(folder, small);
    let deadline = Instant::now() + Duration::from_secs(20);
    while facts.history().applications.len() > 20 {
        assert!(Instant::now() < deadline, "nothing is let go");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    facts
}

#[tokio::test]
async fn the_oldest_applications_that_are_over_are_let_go_from_disk_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let facts = shrunk(folder.path()).await;
    drop(facts);
    let (facts, repaired) = start(folder.path(), LIMITS);
    assert_eq!(repaired, None);
    let history = facts.history();
    assert!(history.applications.contains_key("runs"));
    assert!(history.applications.contains_key("over-49"));
    assert!(!history.applications.contains_key("over-00"));
}

#[tokio::test]
async fn dropped_applications_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let (facts, _) = start(folder.path(), LIMITS);
    facts.publish(accepted("a"));
    facts.record(finished("a")).await.unwrap();
    drop(facts);
    let told = Arc::new(Mutex::new(vec![]));
    let heard = Arc::clone(&told);
    let none = Limits {
        age: Duration::ZERO,
        ..LIMITS
    };
    // What ended in this very moment is not old yet.
    let ended = writer::now_millis();
    while writer::now_millis() <= ended {
        tokio::task::yield_now().await;
    }
    let journal = open(folder.path(), none)
        .unwrap()
        .start(
            0,
            Box::new(move |ids: &[String]| heard.lock().unwrap().extend_from_slice(ids)),
        )
        .unwrap();
    drop(journal);
    assert_eq!(*told.lock().unwrap(), ["a"]);
}

/// `cargo test -p drumline-master --lib opening_many -- --nocapture` says how long it takes.
#[test]
fn opening_many_facts_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let count: u64 = std::env::var("DRUMLINE_FACTS").map_or(5_000, |count| count.parse().unwrap());
    let mut opened = open(folder.path(), LIMITS).unwrap();
    let facts: Vec<Arc<Fact>> = (1..=count)
        .map(|sequence| {
            Arc::new(Fact {
                sequence,
                at: writer::now_millis(),
                event: accepted(&format!("application-{}", sequence / 20)),
            })
        })
        .collect();
    for batch in facts.chunks(1000) {
        opened.ledger.write(batch).unwrap();
    }
    drop(opened);
    let started = Instant::now();
    let opened = open(folder.path(), LIMITS).unwrap();
    let elapsed = started.elapsed();
    println!("{count} facts are open after {elapsed:?}");
    assert_eq!(opened.facts.len() as u64, count);
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

/// Damages a database so that it does not open, and leaves its records where they are.
fn behead(folder: &Path) {
    let path = folder.join("journal.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..512].fill(0xff);
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn what_was_let_go_does_not_come_back_with_a_repair() {
    let folder = tempfile::tempdir().unwrap();
    let facts = shrunk(folder.path()).await;
    let kept: Vec<String> = facts.history().applications.keys().cloned().collect();
    drop(facts);
    behead(folder.path());
    // Its lines are all there: one of them is of an application that runs.
    let lines = fs::read_to_string(folder.path().join("events/00000001.jsonl")).unwrap();
    assert!(lines.contains("over-00"));
    let (facts, repaired) = start(folder.path(), LIMITS);
    assert!(repaired.is_some());
    let found: Vec<String> = facts.history().applications.keys().cloned().collect();
    assert_eq!(found, kept);
}

#[test]
fn a_repair_that_was_interrupted_loses_nothing_when_it_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), LIMITS).unwrap();
    for sequence in 1..=3 {
        let event = accepted(&format!("application-{sequence}"));
        let fact = Fact {
            sequence,
            at: 0,
            event,
        };
        opened.ledger.write(&[Arc::new(fact)]).unwrap();
    }
    drop(opened);
    behead(folder.path());
    // The database alone knows the second one.
    let lines = folder.path().join("events/00000001.jsonl");
    let text = fs::read_to_string(&lines).unwrap();
    fs::write(&lines, text.replace("application-2", "application-X")).unwrap();
    // The repair does not come to its end.
    let in_the_way = folder.path().join("events/00000001.jsonl.new");
    fs::create_dir(&in_the_way).unwrap();
    assert!(open(folder.path(), LIMITS).is_err());
    fs::remove_dir(&in_the_way).unwrap();
    fs::write(folder.path().join("journal.redb.new"), "half").unwrap();
    assert_eq!(sequences(folder.path()), [1, 2, 3]);
    assert_eq!(open(folder.path(), LIMITS).unwrap().repaired, None);
    let left: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("journal.redb.damaged-"))
        .collect();
    assert_eq!(left.len(), 1, "the damaged one is kept, once");
}

#[test]
fn damage_at_the_end_of_a_file_that_is_not_the_newest_is_told_and_made_good() {
    let several = Limits {
        bytes: 32 << 10,
        ..LIMITS
    };
    for cut_off in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open(folder.path(), several).unwrap();
        for sequence in 1..=60 {
            let event = accepted(&format!("application-{sequence}"));
            let fact = Fact {
                sequence,
                at: 0,
                event,
            };
            opened.ledger.write(&[Arc::new(fact)]).unwrap();
        }
        drop(opened);
        let file = |number: u32| folder.path().join(format!("events/{number:08}.jsonl"));
        assert!(file(3).exists());
        for number in [1, 2] {
            let whole = fs::read(file(number)).unwrap();
            let mut damaged = whole.clone();
            match cut_off {
                true => damaged.truncate(whole.len() - 10),
                false => damaged[whole.len() - 10] ^= 1,
            }
            fs::write(file(number), damaged).unwrap();
            let opened = open(folder.path(), several).unwrap();
            assert_eq!(opened.facts.len(), 60);
            let said = opened.repaired.unwrap();
            assert!(said.reason.contains("1 lines"), "{said:?}");
            assert_eq!(said.dropped, 0, "{said:?}");
            drop(opened.ledger);
            assert_eq!(fs::read(file(number)).unwrap(), whole);
        }
    }
}
