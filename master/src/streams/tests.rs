//! The coordinator, event by event; `model.rs` plays it against workers and tables in random order.

mod model;
mod schedules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::coordinator::{Action, CommitId, Coordinator, Event};
use super::stream::{Phase, Report, Step};
use super::{Layout, Partition, TableOffsets};
use drumline_proto::v1::{
    Offer, OfferedTable, OffsetRange, PartitionOffset, Position, StreamDefinition, TopicDefinition,
};

fn definition() -> Arc<StreamDefinition> {
    let topic = TopicDefinition {
        topic: "t".to_owned(),
        table: "t".to_owned(),
        ..TopicDefinition::default()
    };
    Arc::new(StreamDefinition {
        name: "s".to_owned(),
        dead_letters: "dead".to_owned(),
        topics: vec![topic],
        ..StreamDefinition::default()
    })
}

fn layout(partitions: u32) -> Layout {
    Layout {
        topics: BTreeMap::from([("t".to_owned(), partitions)]),
        ..Layout::default()
    }
}

fn partition(partition: i32) -> Partition {
    Partition {
        topic: "t".to_owned(),
        partition,
    }
}

fn came(worker: &str) -> Event {
    Event::WorkerCame {
        worker: worker.to_owned(),
    }
}

fn gone(worker: &str) -> Event {
    Event::WorkerGone {
        worker: worker.to_owned(),
    }
}

fn put(partitions: u32) -> Event {
    Event::StreamPut {
        definition: definition(),
        layout: Some(layout(partitions)),
    }
}

fn offer(epoch: u64, id: u64, ranges: &[(i32, i64, i64)]) -> Offer {
    let ranges: Vec<OffsetRange> = ranges
        .iter()
        .map(|(partition, from, to)| OffsetRange {
            topic: "t".to_owned(),
            partition: *partition,
            from: *from,
            to: *to,
            ..OffsetRange::default()
        })
        .collect();
    let table = |table: &str| OfferedTable {
        table: table.to_owned(),
        ranges: ranges.clone(),
        ..OfferedTable::default()
    };
    Offer {
        stream: "s".to_owned(),
        epoch,
        id,
        tables: vec![table("t"), table("dead")],
    }
}

/// Answers reads at once with empty tables; returns the other actions.
fn run(coordinator: &mut Coordinator, now: Instant, event: Event) -> Vec<Action> {
    let mut rest = Vec::new();
    let mut queue = coordinator.step(now, event);
    while !queue.is_empty() {
        for action in std::mem::take(&mut queue) {
            match action {
                Action::ReadTables { definition, read } => {
                    let stream = definition.name.clone();
                    let result = Ok(TableOffsets::default());
                    queue.extend(coordinator.step(
                        now,
                        Event::TablesRead {
                            stream,
                            read,
                            result,
                        },
                    ));
                }
                other => rest.push(other),
            }
        }
    }
    rest
}

fn shares(actions: &[Action]) -> BTreeMap<String, (u64, usize)> {
    let shares = actions.iter().filter_map(|action| match action {
        Action::AssignPartitions {
            worker,
            epoch,
            partitions,
            ..
        } => Some((worker.clone(), (*epoch, partitions.len()))),
        _ => None,
    });
    shares.collect()
}

#[test]
fn stream_is_shared_among_the_workers() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(10);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, came("b"));
    let actions = run(&mut coordinator, now, put(4));
    assert_eq!(
        shares(&actions),
        BTreeMap::from([("a".to_owned(), (10, 2)), ("b".to_owned(), (11, 2))])
    );
}

#[test]
fn stream_without_a_layout_is_looked_at_first() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    let start = Event::StreamPut {
        definition: definition(),
        layout: None,
    };
    assert!(
        run(&mut coordinator, now, start).is_empty(),
        "nobody is there to look"
    );
    let actions = run(&mut coordinator, now, came("a"));
    assert!(matches!(&actions[..], [Action::ProbeStream { worker, .. }] if worker == "a"));
    let probed = Event::StreamProbed {
        stream: "s".to_owned(),
        worker: "a".to_owned(),
        result: Ok(layout(3)),
    };
    assert_eq!(shares(&run(&mut coordinator, now, probed))["a"].1, 3);
}

#[test]
fn offer_of_a_lost_worker_is_refused() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    run(&mut coordinator, now, gone("a"));
    let late = Event::Offered {
        worker: "a".to_owned(),
        offer: offer(0, 1, &[(0, 0, 5)]),
    };
    let actions = run(&mut coordinator, now, late);
    assert!(
        matches!(
            &actions[..],
            [Action::AnswerOffer {
                refusal: Some(_),
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn lost_workers_partitions_all_go_to_those_that_are_left() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    for worker in ["a", "b", "c"] {
        run(&mut coordinator, now, came(worker));
    }
    run(&mut coordinator, now, put(5));
    run(&mut coordinator, now, gone("c"));
    let held = coordinator.streams()["s"].shares.values();
    assert_eq!(held.map(|share| share.partitions.len()).sum::<usize>(), 5);
}

#[test]
fn draining_worker_commits_what_it_has_and_gets_nothing_new() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(10);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, came("b"));
    run(&mut coordinator, now, put(4));
    let draining = Event::WorkerDraining {
        worker: "a".to_owned(),
    };
    assert_eq!(run(&mut coordinator, now, draining), []);
    let offered = Event::Offered {
        worker: "a".to_owned(),
        offer: offer(10, 1, &[(0, 0, 5)]),
    };
    let actions = run(&mut coordinator, now, offered);
    assert!(
        matches!(&actions[..], [Action::CommitOffer { .. }]),
        "{actions:?}"
    );
    let ended = Event::CommitEnded {
        stream: "s".to_owned(),
        commit: CommitId {
            worker: "a".to_owned(),
            epoch: 10,
            offer: 1,
        },
        result: Ok(TableOffsets::default()),
    };
    run(&mut coordinator, now, ended);
    let actions = run(&mut coordinator, now, gone("a"));
    let shares = shares(&actions);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(shares["b"].1, 4);
}

#[test]
fn lost_workers_open_commit_is_waited_for_before_its_partitions_move() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    run(
        &mut coordinator,
        now,
        Event::Offered {
            worker: "a".to_owned(),
            offer: offer(0, 1, &[(0, 0, 5)]),
        },
    );
    run(&mut coordinator, now, came("b"));
    assert!(
        shares(&run(&mut coordinator, now, gone("a"))).is_empty(),
        "its commit is still under way"
    );
    let commit = CommitId {
        worker: "a".to_owned(),
        epoch: 0,
        offer: 1,
    };
    let ended = Event::CommitEnded {
        stream: "s".to_owned(),
        commit,
        result: Ok(TableOffsets::default()),
    };
    assert_eq!(shares(&run(&mut coordinator, now, ended))["b"].1, 1);
}

#[test]
fn offer_of_a_partition_of_somebody_else_is_refused() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    let foreign = Event::Offered {
        worker: "a".to_owned(),
        offer: offer(0, 1, &[(7, 0, 5)]),
    };
    let actions = run(&mut coordinator, now, foreign);
    assert!(
        matches!(
            &actions[..],
            [Action::AnswerOffer {
                refusal: Some(_),
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn failed_commit_restarts_its_worker_after_a_pause() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    run(
        &mut coordinator,
        now,
        Event::Offered {
            worker: "a".to_owned(),
            offer: offer(0, 1, &[(0, 0, 5)]),
        },
    );
    let commit = CommitId {
        worker: "a".to_owned(),
        epoch: 0,
        offer: 1,
    };
    let ended = Event::CommitEnded {
        stream: "s".to_owned(),
        commit,
        result: Err("the store is away".to_owned()),
    };
    let actions = run(&mut coordinator, now, ended);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::RevokeEpoch { epoch: 0, .. }))
    );
    assert!(matches!(
        coordinator.streams()["s"].phase,
        Phase::Waiting { .. }
    ));
    let later = run(&mut coordinator, now + Duration::from_secs(2), Event::Tick);
    assert_eq!(shares(&later)["a"], (1, 1));
}

fn says(worker: &str, epoch: u64, report: Report) -> Event {
    Event::Reported {
        worker: worker.to_owned(),
        stream: "s".to_owned(),
        epoch,
        report,
    }
}

fn away() -> Report {
    Report {
        waiting: Some("nobody answers".to_owned()),
        ..Report::default()
    }
}

/// The step that failed, if one did, and since when.
fn trouble(coordinator: &Coordinator) -> Option<(Option<Step>, Instant)> {
    let trouble = coordinator.streams()["s"].trouble.as_ref()?;
    Some((trouble.failed, trouble.since))
}

#[test]
fn stream_waits_while_a_worker_reaches_no_broker_and_keeps_its_shares() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, came("b"));
    run(&mut coordinator, now, put(2));
    assert!(run(&mut coordinator, now, says("a", 0, away())).is_empty());
    let later = now + Duration::from_secs(60);
    run(&mut coordinator, later, says("b", 1, away()));
    assert_eq!(trouble(&coordinator), Some((None, now)));
    // The other one still waits.
    run(&mut coordinator, later, says("a", 0, Report::default()));
    assert_eq!(trouble(&coordinator), Some((None, now)));
    run(&mut coordinator, later, says("b", 1, Report::default()));
    assert_eq!(trouble(&coordinator), None);
    assert_eq!(coordinator.streams()["s"].shares.len(), 2);
}

#[test]
fn failed_reading_is_mended_once_it_has_gone_well_for_a_while() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    let failed = Event::AssignmentFailed {
        worker: "a".to_owned(),
        stream: "s".to_owned(),
        epoch: 0,
        reason: "nobody answers".to_owned(),
    };
    run(&mut coordinator, now, failed);
    let again = now + 2 * second;
    assert_eq!(
        shares(&run(&mut coordinator, again, Event::Tick))["a"],
        (1, 1)
    );
    run(
        &mut coordinator,
        again + second,
        says("a", 1, Report::default()),
    );
    assert_eq!(trouble(&coordinator), Some((Some(Step::Reading), now)));
    run(
        &mut coordinator,
        again + 6 * second,
        says("a", 1, Report::default()),
    );
    assert_eq!(trouble(&coordinator), None);
}

#[test]
fn failed_commit_is_mended_by_a_commit_alone() {
    let now = Instant::now();
    let minute = Duration::from_secs(60);
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    let end = |epoch, result| Event::CommitEnded {
        stream: "s".to_owned(),
        commit: CommitId {
            worker: "a".to_owned(),
            epoch,
            offer: 1,
        },
        result,
    };
    let offered = |epoch| Event::Offered {
        worker: "a".to_owned(),
        offer: offer(epoch, 1, &[(0, 0, 5)]),
    };
    run(&mut coordinator, now, offered(0));
    run(
        &mut coordinator,
        now,
        end(0, Err("the store is away".to_owned())),
    );
    run(&mut coordinator, now + minute, Event::Tick);
    run(
        &mut coordinator,
        now + 2 * minute,
        says("a", 1, Report::default()),
    );
    assert_eq!(trouble(&coordinator), Some((Some(Step::Committing), now)));
    run(&mut coordinator, now + 2 * minute, offered(1));
    run(
        &mut coordinator,
        now + 2 * minute,
        end(1, Ok(TableOffsets::default())),
    );
    assert_eq!(trouble(&coordinator), None);
}

#[test]
fn new_partitions_are_shared_out_while_the_stream_runs() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, came("b"));
    run(&mut coordinator, now, put(2));
    let seen = |count| Report {
        partitions: BTreeMap::from([("t".to_owned(), count)]),
        ..Report::default()
    };
    assert!(run(&mut coordinator, now, says("a", 0, seen(2))).is_empty());
    let actions = run(&mut coordinator, now, says("a", 0, seen(3)));
    let total: usize = coordinator.streams()["s"]
        .shares
        .values()
        .map(|share| share.partitions.len())
        .sum();
    assert_eq!((shares(&actions).len(), total), (1, 3));
    // A worker that has old metadata takes nothing away.
    assert!(run(&mut coordinator, now, says("b", 1, seen(2))).is_empty());
}

#[test]
fn paused_stream_holds_no_share() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(2));
    let paused = StreamDefinition {
        paused: true,
        ..(*definition()).clone()
    };
    let actions = run(
        &mut coordinator,
        now,
        Event::StreamPut {
            definition: paused.into(),
            layout: None,
        },
    );
    assert!(matches!(&actions[..], [Action::RevokeEpoch { .. }]));
    assert!(run(&mut coordinator, now, came("b")).is_empty());
}

#[test]
fn partition_is_read_from_the_smallest_offset_of_its_tables() {
    let targets = BTreeSet::from(["t".to_owned(), "dead".to_owned()]);
    let mut offsets = TableOffsets::default();
    assert_eq!(offsets.resume_from(&partition(0), &targets), None);
    offsets
        .0
        .entry("t".to_owned())
        .or_default()
        .insert(partition(0), 9);
    assert_eq!(
        offsets.resume_from(&partition(0), &targets),
        None,
        "dead letters have none: they need all that there is"
    );
    offsets
        .0
        .entry("dead".to_owned())
        .or_default()
        .insert(partition(0), 4);
    assert_eq!(offsets.resume_from(&partition(0), &targets), Some(4));
}

#[test]
fn a_topic_that_comes_to_match_a_pattern_is_read_while_the_stream_runs() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(1);
    let mut changed = (*definition()).clone();
    changed.topics.push(TopicDefinition {
        pattern: "new.*".to_owned(),
        table: "new".to_owned(),
        ..TopicDefinition::default()
    });
    run(&mut coordinator, now, came("a"));
    let put = Event::StreamPut {
        definition: Arc::new(changed),
        layout: Some(layout(1)),
    };
    let first = shares(&run(&mut coordinator, now, put));
    assert_eq!(first["a"].1, 1);
    run(&mut coordinator, now, Event::Tick);
    // Not before its time, and only one look at a time.
    let early = run(&mut coordinator, now + Duration::from_secs(14), Event::Tick);
    assert_eq!(early, []);
    let later = now + Duration::from_secs(16);
    let asked = run(&mut coordinator, later, Event::Tick);
    assert!(matches!(&asked[..], [Action::ProbeStream { worker, .. }] if worker == "a"));
    assert_eq!(run(&mut coordinator, later, Event::Tick), []);
    let seen = Layout {
        topics: BTreeMap::from([("t".to_owned(), 1), ("new1".to_owned(), 2)]),
        matched: BTreeMap::from([("new1".to_owned(), 1)]),
    };
    let probed = Event::StreamProbed {
        stream: "s".to_owned(),
        worker: "a".to_owned(),
        result: Ok(seen),
    };
    let actions = run(&mut coordinator, later, probed);
    assert_eq!(shares(&actions)["a"].1, 3, "{actions:?}");
    let definition = actions.iter().find_map(|action| match action {
        Action::AssignPartitions { definition, .. } => Some(Arc::clone(definition)),
        _ => None,
    });
    assert_eq!(definition.unwrap().topics[1].topics, ["new1"]);
    // A look that fails, or sees less, takes nothing away.
    let again = later + Duration::from_secs(16);
    run(&mut coordinator, again, Event::Tick);
    let failed = Event::StreamProbed {
        stream: "s".to_owned(),
        worker: "a".to_owned(),
        result: Err("no broker".to_owned()),
    };
    assert_eq!(run(&mut coordinator, again, failed), []);
    assert_eq!(coordinator.streams()["s"].phase, Phase::Running);
}

fn held(rows: i64, dead: Option<i64>) -> TableOffsets {
    let at = |offset| BTreeMap::from([(partition(0), offset)]);
    TableOffsets(BTreeMap::from([
        ("t".to_owned(), at(rows)),
        ("dead".to_owned(), dead.map(at).unwrap_or_default()),
    ]))
}

fn tables_read(coordinator: &Coordinator, result: TableOffsets) -> Event {
    let Phase::Reading { read } = coordinator.streams()["s"].phase else {
        panic!("{:?}", coordinator.streams()["s"].phase)
    };
    Event::TablesRead {
        stream: "s".to_owned(),
        read,
        result: Ok(result),
    }
}

#[test]
fn a_definition_changes_where_all_tables_stand_at_the_same_offset() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    let hold = || Event::HoldRequested {
        stream: "s".to_owned(),
    };
    let actions = coordinator.step(now, hold());
    assert!(
        matches!(&actions[0], Action::RevokeEpoch { epoch: 0, .. }),
        "{actions:?}"
    );
    // Uneven: a commit broke off between the two. The old definition goes on, and only it.
    let event = tables_read(&coordinator, held(100, Some(80)));
    let actions = coordinator.step(now, event);
    let Some(Action::AssignPartitions {
        definition: old,
        epoch: 1,
        offsets,
        ..
    }) = actions.first()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((old.revision, old.flush_interval_millis), (0, 200));
    assert_eq!(offsets, &held(100, Some(80)));
    // One table more, and they are even: nobody may go on reading.
    let offer = offer(1, 1, &[(0, 80, 120)]);
    coordinator.step(
        now,
        Event::Offered {
            worker: "a".to_owned(),
            offer,
        },
    );
    let commit = CommitId {
        worker: "a".to_owned(),
        epoch: 1,
        offer: 1,
    };
    let ended = Event::CommitEnded {
        stream: "s".to_owned(),
        commit,
        result: Ok(held(120, Some(120))),
    };
    let actions = coordinator.step(now, ended);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::RevokeEpoch { epoch: 1, .. })),
        "{actions:?}"
    );
    let event = tables_read(&coordinator, held(120, Some(120)));
    let confirmed = Action::ConfirmHold {
        stream: "s".to_owned(),
    };
    assert_eq!(coordinator.step(now, event), [confirmed]);
    // Whatever happens, it is not read.
    assert_eq!(coordinator.step(now, came("b")), []);
    assert_eq!(
        coordinator.step(now + Duration::from_secs(60), Event::Tick),
        []
    );
    let changed = Event::StreamPut {
        definition: Arc::new(StreamDefinition {
            revision: 2,
            ..(*definition()).clone()
        }),
        layout: Some(layout(1)),
    };
    coordinator.step(now, changed);
    let event = tables_read(&coordinator, held(120, Some(120)));
    let actions = coordinator.step(now, event);
    let assigned = actions.iter().find_map(|action| match action {
        Action::AssignPartitions { definition, .. } => Some(definition.revision),
        _ => None,
    });
    assert_eq!(assigned, Some(2));
}

#[test]
fn a_hold_that_is_released_lets_the_stream_go_on() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(0);
    run(&mut coordinator, now, came("a"));
    run(&mut coordinator, now, put(1));
    let hold = Event::HoldRequested {
        stream: "s".to_owned(),
    };
    let confirmed = run(&mut coordinator, now, hold);
    assert!(
        matches!(confirmed.last(), Some(Action::ConfirmHold { .. })),
        "{confirmed:?}"
    );
    let release = Event::HoldReleased {
        stream: "s".to_owned(),
    };
    assert_eq!(shares(&run(&mut coordinator, now, release)).len(), 1);
    let unknown = Event::HoldRequested {
        stream: "other".to_owned(),
    };
    assert!(matches!(
        &run(&mut coordinator, now, unknown)[..],
        [Action::ConfirmHold { .. }]
    ));
}

#[test]
fn tables_are_even_where_all_that_share_a_partition_hold_the_same() {
    let even = |held: TableOffsets| super::cutover::is_even(&definition(), &held);
    assert!(even(TableOffsets::default()));
    assert!(even(held(7, Some(7))));
    assert!(!even(held(7, Some(8))));
    assert!(!even(held(7, None)));
    // Others' topics in a table that is shared are others' concern.
    let mut foreign = held(7, Some(7));
    let other = Partition {
        topic: "other".to_owned(),
        partition: 0,
    };
    foreign
        .0
        .entry("t".to_owned())
        .or_default()
        .insert(other, 3);
    assert!(even(foreign));
}

#[test]
fn a_stream_with_an_end_holds_nothing_once_its_tables_are_there() {
    let now = Instant::now();
    let mut coordinator = Coordinator::new(10);
    run(&mut coordinator, now, came("a"));
    let bound = |partition, offset| PartitionOffset {
        topic: "t".to_owned(),
        partition,
        offset,
    };
    let bounded = StreamDefinition {
        until: Some(Position::default()),
        bounds: vec![bound(0, 5), bound(1, 7)],
        ..(*definition()).clone()
    };
    let put = || Event::StreamPut {
        definition: bounded.clone().into(),
        layout: Some(layout(9)),
    };
    let actions = run(&mut coordinator, now, put());
    assert_eq!(
        shares(&actions)["a"],
        (10, 2),
        "later partitions are left out"
    );
    let commit = |offer: Offer| {
        let held = offer.tables[0].ranges.iter();
        let held: BTreeMap<Partition, i64> = held
            .map(|range| (partition(range.partition), range.to))
            .collect();
        TableOffsets(BTreeMap::from([
            ("t".to_owned(), held.clone()),
            ("dead".to_owned(), held),
        ]))
    };
    let mut ended = |id, ranges: &[(i32, i64, i64)]| {
        let offer = offer(10, id, ranges);
        let worker = "a".to_owned();
        run(
            &mut coordinator,
            now,
            Event::Offered {
                worker: worker.clone(),
                offer: offer.clone(),
            },
        );
        let commit_id = CommitId {
            worker,
            epoch: 10,
            offer: id,
        };
        run(
            &mut coordinator,
            now,
            Event::CommitEnded {
                stream: "s".to_owned(),
                commit: commit_id,
                result: Ok(commit(offer)),
            },
        )
    };
    let actions = ended(1, &[(0, 0, 5)]);
    assert!(
        matches!(&actions[..], [Action::AnswerOffer { .. }]),
        "{actions:?}"
    );
    let actions = ended(2, &[(1, 0, 7)]);
    assert!(
        matches!(
            &actions[..],
            [Action::AnswerOffer { .. }, Action::RevokeEpoch { .. }]
        ),
        "{actions:?}"
    );
    assert_eq!(coordinator.streams()["s"].phase, Phase::Finished);
    assert!(run(&mut coordinator, now, came("b")).is_empty());

    // A master that is started later finds it so in the tables.
    let mut later = Coordinator::new(20);
    later.step(now, came("a"));
    let actions = later.step(now, put());
    let [Action::ReadTables { read, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let all = commit(offer(0, 1, &[(0, 0, 5), (1, 0, 7)]));
    let read = Event::TablesRead {
        stream: "s".to_owned(),
        read: *read,
        result: Ok(all),
    };
    assert!(later.step(now, read).is_empty());
    assert_eq!(later.streams()["s"].phase, Phase::Finished);
}
