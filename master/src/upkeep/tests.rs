//! When upkeep does what, and how it says it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use chrono::{DateTime, Utc};
use drumline_lake::{Format, Retention, TableName, TableSnapshot, Wishes};
use proptest::prelude::*;
use uuid::Uuid;

use super::machine::{Action, Event, Machine, Patient};
use super::needs::{self, Kind, Need};

fn need(kind: Kind, key: &str) -> Need {
    Need {
        kind,
        key: key.to_owned(),
        name: String::new(),
        script: format!("{kind:?} {key}"),
    }
}

fn table(number: u128, needs: &[Need]) -> Patient {
    Patient {
        id: Some(Uuid::from_u128(number)),
        needs: needs.to_vec(),
    }
}

fn ended(number: u128, failed: bool) -> Event {
    let id = Some(Uuid::from_u128(number));
    Event::Ended { id, failed }
}

/// Scripts that are submitted, and how often to look again.
fn told(actions: Vec<Action>) -> (Vec<String>, usize) {
    let looks = actions.iter().filter(|action| **action == Action::Look);
    let looks = looks.count();
    let scripts = actions.into_iter().filter_map(|action| match action {
        Action::Submit { need, .. } => Some(need.script),
        Action::Look => None,
    });
    (scripts.collect(), looks)
}

fn owner(now: Instant) -> Machine {
    let mut machine = Machine::default();
    assert_eq!(machine.step(now, Event::Owns(Some(1))), [Action::Look]);
    machine
}

#[test]
fn who_is_no_owner_does_nothing() {
    let now = Instant::now();
    let mut machine = Machine::default();
    let one = || vec![table(1, &[need(Kind::Compact, "a")])];
    assert!(machine.step(now, Event::Looked(one())).is_empty());
    machine.step(now, Event::Owns(Some(7)));
    let actions = machine.step(now, Event::Looked(one()));
    let epochs = actions.iter().map(|action| match action {
        Action::Submit { epoch, .. } => *epoch,
        Action::Look => 0,
    });
    assert_eq!(epochs.collect::<Vec<_>>(), [7]);
    machine.step(now, ended(1, false));
    machine.step(now, Event::Owns(None));
    let other = vec![table(1, &[need(Kind::Compact, "b")])];
    assert!(machine.step(now, Event::Looked(other)).is_empty());
}

#[test]
fn a_table_has_one_thing_done_at_a_time_and_the_lake_a_few() {
    let now = Instant::now();
    let mut machine = owner(now);
    let needs = [need(Kind::Expire, "today"), need(Kind::Compact, "1")];
    let all = || (1..=4).map(|number| table(number, &needs)).collect();
    let (scripts, _) = told(machine.step(now, Event::Looked(all())));
    assert_eq!(scripts, ["Expire today", "Expire today"]);
    assert!(machine.step(now, Event::Looked(all())).is_empty());
    assert_eq!(told(machine.step(now, ended(1, false))), (vec![], 1));
    let (scripts, _) = told(machine.step(now, Event::Looked(all())));
    assert_eq!(scripts, ["Compact 1"], "its old rows are gone for today");
}

#[test]
fn a_failure_is_waited_out_longer_each_time() {
    let mut now = Instant::now();
    let mut machine = owner(now);
    let one = || vec![table(1, &[need(Kind::Compact, "a")])];
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(machine.step(now, Event::Looked(one())).len(), 1);
        assert!(machine.step(now, ended(1, true)).is_empty());
        now += Duration::from_secs(60 * minutes - 1);
        assert!(
            machine.step(now, Event::Looked(one())).is_empty(),
            "{minutes}"
        );
        now += Duration::from_secs(1);
    }
    machine.step(now, Event::Looked(one()));
    machine.step(now, ended(1, false));
    let next = vec![table(1, &[need(Kind::Compact, "b")])];
    assert_eq!(machine.step(now, Event::Looked(next)).len(), 1, "forgiven");
}

#[test]
fn what_was_done_is_not_done_again_for_nothing() {
    let start = Instant::now();
    let mut machine = owner(start);
    let hours = |hours: u64| start + Duration::from_secs(3600 * hours);
    let look = |machine: &mut Machine, now, need: Need| {
        let (scripts, _) = told(machine.step(now, Event::Looked(vec![table(1, &[need])])));
        if !scripts.is_empty() {
            machine.step(now, ended(1, false));
        }
        scripts.len()
    };
    for (now, need, runs) in [
        (hours(0), need(Kind::Vacuum, ""), 1),
        (hours(23), need(Kind::Vacuum, ""), 0),
        (hours(24), need(Kind::Vacuum, ""), 1),
        (hours(24), need(Kind::Expire, "monday"), 1),
        (hours(40), need(Kind::Expire, "monday"), 0),
        (hours(48), need(Kind::Expire, "tuesday"), 1),
        (hours(48), need(Kind::Compact, "version 1"), 1),
        (hours(48), need(Kind::Compact, "version 1"), 0),
        (hours(48), need(Kind::Compact, "version 2"), 1),
    ] {
        assert_eq!(look(&mut machine, now, need.clone()), runs, "{need:?}");
    }
}

proptest! {
    /// Whatever happens in whatever order: never two at once for a table, never more than a few, never without an epoch.
    #[test]
    fn no_more_than_is_allowed_runs(steps in prop::collection::vec((0..5_u8, 1..5_u128, 0..4_u8, any::<bool>()), 1..80)) {
        let mut now = Instant::now();
        let mut machine = Machine::default();
        let mut owned = None;
        let mut running = std::collections::BTreeSet::new();
        for (what, number, key, flag) in steps {
            now += Duration::from_secs(97);
            let event = match what {
                0 => { owned = flag.then_some(u64::from(key)); Event::Owns(owned) }
                1 | 2 => Event::Looked((1..=number).map(|one| table(one, &[need(Kind::Compact, &key.to_string())])).collect()),
                _ => { running.remove(&number); ended(number, flag) }
            };
            for action in machine.step(now, event) {
                if let Action::Submit { id, epoch, .. } = action {
                    prop_assert_eq!(Some(epoch), owned);
                    let number = id.map(|id| id.as_u128()).unwrap_or_default();
                    prop_assert!(running.insert(number), "twice for {number}");
                }
            }
            prop_assert!(running.len() <= 2);
            prop_assert_eq!(running.len(), machine.running());
        }
    }
}

fn snapshot(format: Format, fields: &[(&str, DataType)], partitions: &[&str]) -> TableSnapshot {
    let fields = fields
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true));
    TableSnapshot {
        name: TableName::new("music", "Plays"),
        location: "memory:///t/".parse().unwrap(),
        format,
        properties: BTreeMap::new(),
        version: 1,
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        partition_columns: partitions.iter().map(|name| (*name).to_owned()).collect(),
        files: Arc::default(),
        offsets: BTreeMap::new(),
        topic_ids: BTreeMap::new(),
    }
}

#[test]
fn old_rows_are_named_as_their_columns_tell_time() {
    let now: DateTime<Utc> = "2026-11-21T17:30:00Z".parse().unwrap();
    let utc = Some(Arc::from("UTC"));
    let cases = [
        (
            vec![("day", DataType::Date32)],
            "\"day\" < DATE '2026-11-11'",
        ),
        (
            vec![("at", DataType::Timestamp(TimeUnit::Microsecond, utc))],
            "\"at\" < TIMESTAMP '2026-11-11 00:00:00'",
        ),
        (
            vec![("day", DataType::Utf8)],
            "\"day\" < left('2026-11-11', character_length(\"day\"))",
        ),
        (
            vec![("year", DataType::Int32), ("month", DataType::Int32)],
            "(\"year\" < 2026) OR (\"year\" = 2026 AND \"month\" < 11)",
        ),
    ];
    for (columns, condition) in cases {
        let snapshot = snapshot(Format::Delta, &columns, &[]);
        let retention = Retention {
            keep: Duration::from_secs(10 * 24 * 3600),
            columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        let expired = drumline_lake::Expired {
            before: "2026-11-11T00:00:00Z".parse().unwrap(),
            partitions: None,
        };
        let script = needs::expire(&snapshot, &retention, &expired);
        assert_eq!(
            script,
            format!("DELETE FROM \"music\".\"Plays\" WHERE {condition}")
        );
    }
    let nothing = needs::of(
        &Wishes::default(),
        &snapshot(Format::Delta, &[("a", DataType::Utf8)], &[]),
        now,
    );
    assert_eq!(nothing.unwrap(), []);
}

#[test]
fn partitions_of_a_plain_table_are_emptied_one_by_one() {
    let columns = [
        ("a", DataType::Utf8),
        ("level", DataType::Utf8),
        ("day", DataType::Date32),
    ];
    let snapshot = snapshot(Format::Parquet, &columns, &["level", "day"]);
    let retention = Retention {
        keep: Duration::from_secs(10 * 24 * 3600),
        columns: vec!["day".to_owned()],
    };
    let partitions = [vec![Some("it's".to_owned()), Some("2026-01-01".to_owned())]];
    let expired = drumline_lake::Expired {
        before: "2026-11-11T00:00:00Z".parse().unwrap(),
        partitions: Some(partitions.into()),
    };
    assert_eq!(
        needs::expire(&snapshot, &retention, &expired),
        "INSERT OVERWRITE \"music\".\"Plays\" PARTITION (\"level\" = 'it''s', \"day\" = DATE '2026-01-01') SELECT \"a\" FROM \"music\".\"Plays\" WHERE false"
    );
}
