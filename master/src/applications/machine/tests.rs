use proptest::prelude::*;

use super::*;

fn id(ordinal: u32, attempt: u32) -> AttemptId {
    AttemptId { ordinal, attempt }
}

fn set(workers: &[&str]) -> BTreeSet<String> {
    workers.iter().map(|worker| worker.to_string()).collect()
}

fn started(ordinal: u32, attempt: u32, workers: &[&str]) -> Event {
    Event::Started {
        id: id(ordinal, attempt),
        workers: set(workers),
    }
}

fn ended(ordinal: u32, attempt: u32, outcome: Outcome) -> Event {
    Event::Ended {
        id: id(ordinal, attempt),
        outcome,
    }
}

fn lost(worker: &str) -> Outcome {
    Outcome::WorkerLost {
        worker: Some(worker.into()),
        reason: "gone".into(),
    }
}

fn user(message: &str) -> Failure {
    Failure::new(ErrorKind::User, message)
}

fn alive(workers: &[&str]) -> Event {
    Event::WorkersChanged {
        alive: set(workers),
    }
}

/// Short form of an action, so that a table fits on a screen.
fn shown(action: &Action) -> String {
    match action {
        Action::AnnounceApplication { statements } => format!("application of {statements}"),
        Action::AnnounceStatement { ordinal } => format!("statement {ordinal}"),
        Action::AnnounceRetry { id, worker, .. } => {
            format!("retry {}.{} without `{worker}`", id.ordinal, id.attempt)
        }
        Action::RunAttempt {
            id,
            avoid,
            merge_joins,
            ..
        } => {
            let joins = if *merge_joins { ", joins sort" } else { "" };
            format!(
                "run {}.{} avoiding {avoid:?}{joins}",
                id.ordinal, id.attempt
            )
        }
        Action::StopAttempt { id } => format!("stop {}.{}", id.ordinal, id.attempt),
        Action::CommitStaged { id } => format!("commit {}.{}", id.ordinal, id.attempt),
        Action::FinishStatement { ordinal, .. } => format!("finished {ordinal}"),
        Action::Finish(End::Failed(failure)) => {
            format!("failed {:?}: {}", failure.kind, failure.message)
        }
        Action::Finish(end) => format!("{end:?}"),
    }
}

fn check(steps: &[(Event, &[&str])]) {
    let now = Instant::now();
    let mut machine = Machine::new(now, 0);
    for (index, (event, expected)) in steps.iter().enumerate() {
        let actions = machine.step(now, event.clone()).unwrap();
        let actions: Vec<_> = actions.iter().map(shown).collect();
        assert_eq!(actions, *expected, "step {index}: {event:?}");
    }
}

const READ_ONE: (Event, &[&str]) = (
    Event::Read { statements: 1 },
    &["application of 1", "statement 1", "run 1.1 avoiding {}"],
);
const READ_TWO: (Event, &[&str]) = (
    Event::Read { statements: 2 },
    &["application of 2", "statement 1", "run 1.1 avoiding {}"],
);

#[test]
fn a_restarted_application_begins_with_the_first_statement_that_is_not_done() {
    let mut machine = Machine::new(Instant::now(), 0).beginning_at(2);
    let actions = machine
        .step(Instant::now(), Event::Read { statements: 2 })
        .unwrap();
    assert!(actions.contains(&Action::AnnounceStatement { ordinal: 2 }));
    let mut machine = Machine::new(Instant::now(), 0).beginning_at(3);
    let actions = machine
        .step(Instant::now(), Event::Read { statements: 2 })
        .unwrap();
    assert_eq!(actions.last(), Some(&Action::Finish(End::Succeeded)));
}

#[test]
fn statements_run_one_after_another() {
    check(&[
        READ_TWO,
        (started(1, 1, &["a"]), &[]),
        (
            ended(1, 1, Outcome::Done),
            &["finished 1", "statement 2", "run 2.1 avoiding {}"],
        ),
        (ended(2, 1, Outcome::Staged), &["commit 2.1"]),
        (
            Event::Committed { id: id(2, 1) },
            &["finished 2", "Succeeded"],
        ),
    ]);
}

#[test]
fn empty_script_succeeds() {
    check(&[(
        Event::Read { statements: 0 },
        &["application of 0", "Succeeded"],
    )]);
}

#[test]
fn text_that_cannot_be_read_fails_at_once() {
    check(&[(Event::Refused(user("no")), &["failed User: no"])]);
}

#[test]
fn users_mistake_is_not_retried_and_ends_the_script() {
    check(&[
        READ_TWO,
        (
            ended(1, 1, Outcome::Failed(user("no such table"))),
            &["failed User: no such table"],
        ),
    ]);
}

#[test]
fn failure_that_may_pass_is_tried_three_times() {
    let failed = |attempt| {
        ended(
            1,
            attempt,
            Outcome::Failed(Failure::retryable("store is busy")),
        )
    };
    check(&[
        READ_ONE,
        (failed(1), &["retry 1.2 without ``", "run 1.2 avoiding {}"]),
        (failed(2), &["retry 1.3 without ``", "run 1.3 avoiding {}"]),
        (failed(3), &["failed Retryable: store is busy"]),
    ]);
}

/// The waits before the attempts that a failure leads to.
fn waits(outcome: Outcome) -> Vec<Duration> {
    let now = Instant::now();
    let mut machine = Machine::new(now, 7);
    let mut waits = vec![];
    let mut event = Event::Read { statements: 1 };
    loop {
        let actions = machine.step(now, event).unwrap();
        let run = actions.iter().find_map(|action| match action {
            Action::RunAttempt { id, after, .. } => Some((*id, *after)),
            _ => None,
        });
        let Some((id, after)) = run else { return waits };
        waits.push(after);
        event = ended(id.ordinal, id.attempt, outcome.clone());
    }
}

#[test]
fn failure_that_may_pass_is_tried_again_after_a_while_that_grows() {
    let waits = waits(Outcome::Failed(Failure::retryable("store is busy")));
    assert_eq!(waits.len(), 3);
    assert_eq!(waits[0], Duration::ZERO);
    let (second, third) = (waits[1].as_millis(), waits[2].as_millis());
    assert!((250..=500).contains(&second), "{second} ms");
    assert!((1000..=2000).contains(&third), "{third} ms");
}

#[test]
fn lost_worker_is_replaced_without_a_wait() {
    assert_eq!(waits(lost("a")), [Duration::ZERO; 3]);
    let unknown = Outcome::WorkerLost {
        worker: None,
        reason: "gone".into(),
    };
    assert!(waits(unknown)[1] >= Duration::from_millis(250));
}

fn exhausted(is_join_side: bool) -> Outcome {
    Outcome::OutOfMemory {
        is_join_side,
        failure: user("out of memory"),
    }
}

#[test]
fn join_that_is_out_of_memory_sorts_once() {
    check(&[
        READ_TWO,
        (
            ended(1, 1, exhausted(true)),
            &["retry 1.2 without ``", "run 1.2 avoiding {}, joins sort"],
        ),
        (
            ended(1, 2, lost("a")),
            &[
                "retry 1.3 without `a`",
                "run 1.3 avoiding {\"a\"}, joins sort",
            ],
        ),
        (
            ended(1, 3, Outcome::Done),
            &["finished 1", "statement 2", "run 2.1 avoiding {}"],
        ),
    ]);
    check(&[
        READ_ONE,
        (
            ended(1, 1, exhausted(true)),
            &["retry 1.2 without ``", "run 1.2 avoiding {}, joins sort"],
        ),
        (
            ended(1, 2, exhausted(false)),
            &["failed User: out of memory; with joins that sort it was tried, too"],
        ),
    ]);
}

#[test]
fn operator_without_another_way_is_out_of_memory_at_once() {
    check(&[
        READ_ONE,
        (
            ended(1, 1, exhausted(false)),
            &["failed User: out of memory"],
        ),
    ]);
}

#[test]
fn worker_whose_task_failed_is_avoided() {
    let outcome = Outcome::FailedOn {
        worker: "a".into(),
        failure: Failure::retryable("disk full"),
    };
    check(&[
        READ_ONE,
        (
            ended(1, 1, outcome),
            &["retry 1.2 without ``", "run 1.2 avoiding {\"a\"}"],
        ),
    ]);
}

#[test]
fn rows_that_were_delivered_are_not_joined_again() {
    check(&[
        READ_ONE,
        (Event::Delivered { id: id(1, 1) }, &[]),
        (
            ended(1, 1, exhausted(true)),
            &["failed User: out of memory"],
        ),
    ]);
}

#[test]
fn lost_worker_is_avoided_although_it_is_still_listed() {
    check(&[
        READ_ONE,
        (started(1, 1, &["a", "b"]), &[]),
        (
            ended(1, 1, lost("b")),
            &["retry 1.2 without `b`", "run 1.2 avoiding {\"b\"}"],
        ),
        (alive(&["a", "b"]), &[]),
        (ended(1, 2, Outcome::Done), &["finished 1", "Succeeded"]),
    ]);
}

#[test]
fn attempt_is_stopped_when_one_of_its_workers_is_missing() {
    check(&[
        READ_ONE,
        (started(1, 1, &["a", "b"]), &[]),
        (alive(&["a", "b", "c"]), &[]),
        (alive(&["a", "c"]), &["stop 1.1"]),
        (
            Event::Stopped { id: id(1, 1) },
            &["retry 1.2 without `b`", "run 1.2 avoiding {\"b\"}"],
        ),
    ]);
}

#[test]
fn attempt_that_starts_on_a_worker_already_missing_is_stopped() {
    check(&[
        (alive(&["a"]), &[]),
        READ_ONE,
        (started(1, 1, &["a", "b"]), &["stop 1.1"]),
        (
            Event::Stopped { id: id(1, 1) },
            &["retry 1.2 without `b`", "run 1.2 avoiding {\"b\"}"],
        ),
    ]);
}

#[test]
fn worker_that_has_no_part_in_the_job_may_go() {
    check(&[READ_ONE, (started(1, 1, &["a"]), &[]), (alive(&["a"]), &[])]);
}

#[test]
fn next_statement_may_use_a_worker_that_failed_an_earlier_one() {
    check(&[
        READ_TWO,
        (
            ended(1, 1, lost("b")),
            &["retry 1.2 without `b`", "run 1.2 avoiding {\"b\"}"],
        ),
        (
            ended(1, 2, Outcome::Done),
            &["finished 1", "statement 2", "run 2.1 avoiding {}"],
        ),
    ]);
}

#[test]
fn third_loss_fails_the_statement() {
    check(&[
        READ_ONE,
        (
            ended(1, 1, lost("a")),
            &["retry 1.2 without `a`", "run 1.2 avoiding {\"a\"}"],
        ),
        (
            ended(1, 2, lost("b")),
            &["retry 1.3 without `b`", "run 1.3 avoiding {\"a\", \"b\"}"],
        ),
        (
            ended(1, 3, lost("c")),
            &["failed Retryable: gone; the statement was tried 3 times"],
        ),
    ]);
}

#[test]
fn loss_after_rows_were_delivered_cannot_be_retried() {
    check(&[
        READ_ONE,
        (started(1, 1, &["a"]), &[]),
        (Event::Delivered { id: id(1, 1) }, &[]),
        (
            ended(1, 1, lost("a")),
            &["failed Retryable: gone, after rows of the result had been delivered"],
        ),
    ]);
}

#[test]
fn cancel_waits_until_the_attempt_has_stopped() {
    check(&[
        READ_TWO,
        (Event::CancelRequested, &["stop 1.1"]),
        (Event::CancelRequested, &[]),
        (ended(1, 1, Outcome::Done), &[]),
        (Event::Stopped { id: id(1, 1) }, &["Cancelled"]),
        (Event::Stopped { id: id(1, 1) }, &[]),
    ]);
}

#[test]
fn cancel_wins_over_a_retry_that_waits_for_the_attempt_to_stop() {
    check(&[
        READ_ONE,
        (started(1, 1, &["a"]), &[]),
        (alive(&[]), &["stop 1.1"]),
        (Event::CancelRequested, &[]),
        (Event::Stopped { id: id(1, 1) }, &["Cancelled"]),
    ]);
}

#[test]
fn commit_is_not_called_back_by_a_cancel() {
    check(&[
        READ_TWO,
        (ended(1, 1, Outcome::Staged), &["commit 1.1"]),
        (Event::CancelRequested, &[]),
        (
            Event::Committed { id: id(1, 1) },
            &["finished 1", "Cancelled"],
        ),
    ]);
}

#[test]
fn change_of_names_is_not_called_back_by_a_cancel() {
    let defining = (Event::Defining { id: id(1, 1) }, &[][..]);
    check(&[
        READ_TWO,
        defining.clone(),
        (Event::CancelRequested, &[]),
        (ended(1, 1, Outcome::Done), &["finished 1", "Cancelled"]),
    ]);
    check(&[
        READ_ONE,
        defining.clone(),
        (Event::CancelRequested, &[]),
        (ended(1, 1, Outcome::Done), &["finished 1", "Succeeded"]),
    ]);
    check(&[
        READ_ONE,
        defining.clone(),
        (Event::CancelRequested, &[]),
        (ended(1, 1, Outcome::Failed(user("exists"))), &["Cancelled"]),
    ]);
    // Not cancelled, it is tried again like anything else.
    check(&[
        READ_ONE,
        defining,
        (
            ended(1, 1, Outcome::Failed(Failure::retryable("busy"))),
            &["retry 1.2 without ``", "run 1.2 avoiding {}"],
        ),
    ]);
}

#[test]
fn names_are_changed_by_an_attempt_that_goes_on_only() {
    let now = Instant::now();
    let mut machine = Machine::new(now, 0);
    machine.step(now, Event::Read { statements: 1 }).unwrap();
    machine.step(now, Event::CancelRequested).unwrap();
    machine.step(now, Event::Defining { id: id(1, 1) }).unwrap();
    assert!(!machine.may_define(id(1, 1)));
}

#[test]
fn commit_that_fails_fails_the_script() {
    let failed = Event::CommitFailed {
        id: id(1, 1),
        failure: user("table is gone"),
    };
    check(&[
        READ_TWO,
        (ended(1, 1, Outcome::Staged), &["commit 1.1"]),
        (failed, &["failed User: table is gone"]),
    ]);
}

#[test]
fn commit_that_loses_its_race_is_planned_anew_and_counts_against_nothing_else() {
    let conflicted = |attempt| Event::Conflicted {
        id: id(1, attempt),
        failure: Failure::retryable("version 7, MERGE"),
    };
    let busy = |attempt| {
        ended(
            1,
            attempt,
            Outcome::Failed(Failure::retryable("store is busy")),
        )
    };
    let staged = |attempt| ended(1, attempt, Outcome::Staged);
    check(&[
        READ_TWO,
        (staged(1), &["commit 1.1"]),
        (
            conflicted(1),
            &["retry 1.2 without ``", "run 1.2 avoiding {}"],
        ),
        (busy(2), &["retry 1.3 without ``", "run 1.3 avoiding {}"]),
        (busy(3), &["retry 1.4 without ``", "run 1.4 avoiding {}"]),
        (staged(4), &["commit 1.4"]),
        (
            conflicted(4),
            &["retry 1.5 without ``", "run 1.5 avoiding {}"],
        ),
        (busy(5), &["failed Retryable: store is busy"]),
    ]);
}

#[test]
fn commit_that_loses_every_race_fails_naming_who_won() {
    let now = Instant::now();
    let mut machine = Machine::new(now, 0);
    machine.step(now, Event::Read { statements: 1 }).unwrap();
    let mut end = Vec::new();
    for attempt in 1..=MAX_CONFLICTS + 1 {
        machine
            .step(now, ended(1, attempt, Outcome::Staged))
            .unwrap();
        let failure = Failure::retryable(format!("version {attempt}, MERGE"));
        let id = id(1, attempt);
        end = machine
            .step(now, Event::Conflicted { id, failure })
            .unwrap();
    }
    let [Action::Finish(End::Failed(failure))] = end.as_slice() else {
        panic!("{end:?}");
    };
    let expected = format!(
        "version {}, MERGE; it was planned anew {MAX_CONFLICTS} times",
        MAX_CONFLICTS + 1
    );
    assert_eq!(failure.message, expected);
}

#[test]
fn cancel_during_a_commit_that_loses_its_race_ends_the_application() {
    let conflicted = Event::Conflicted {
        id: id(1, 1),
        failure: Failure::retryable("version 7, MERGE"),
    };
    check(&[
        READ_TWO,
        (ended(1, 1, Outcome::Staged), &["commit 1.1"]),
        (Event::CancelRequested, &[]),
        (conflicted, &["Cancelled"]),
    ]);
}

#[test]
fn client_that_hangs_up_cancels() {
    check(&[READ_TWO, (ended(1, 1, Outcome::ClientGone), &["Cancelled"])]);
}

#[test]
fn events_of_an_earlier_attempt_change_nothing() {
    check(&[
        READ_ONE,
        (
            ended(1, 1, lost("a")),
            &["retry 1.2 without `a`", "run 1.2 avoiding {\"a\"}"],
        ),
        (ended(1, 1, Outcome::Done), &[]),
        (Event::Delivered { id: id(1, 1) }, &[]),
        (
            ended(1, 2, lost("b")),
            &["retry 1.3 without `b`", "run 1.3 avoiding {\"a\", \"b\"}"],
        ),
    ]);
}

#[test]
fn impossible_event_is_named_with_its_state() {
    let now = Instant::now();
    let mut machine = Machine::new(now, 0);
    machine.step(now, Event::Read { statements: 1 }).unwrap();
    let illegal = machine
        .step(now, Event::Read { statements: 1 })
        .unwrap_err();
    assert_eq!(
        illegal.to_string(),
        "an application cannot take `Read` while attempting"
    );
}

#[test]
fn statements_time_runs_from_its_first_attempt() {
    let start = Instant::now();
    let mut machine = Machine::new(start, 0);
    machine
        .step(
            start + Duration::from_secs(1),
            Event::Read { statements: 1 },
        )
        .unwrap();
    machine
        .step(start + Duration::from_secs(3), ended(1, 1, lost("a")))
        .unwrap();
    let actions = machine
        .step(start + Duration::from_secs(6), ended(1, 2, Outcome::Done))
        .unwrap();
    let elapsed = Duration::from_secs(5);
    assert_eq!(
        actions,
        [
            Action::FinishStatement {
                ordinal: 1,
                elapsed
            },
            Action::Finish(End::Succeeded)
        ]
    );
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ids = (1u32..4, 1u32..4).prop_map(|(ordinal, attempt)| id(ordinal, attempt));
    let outcome = prop_oneof![
        3 => Just(Outcome::Done),
        2 => Just(Outcome::Staged),
        2 => Just(lost("a")),
        1 => Just(Outcome::Failed(user("no"))),
        1 => Just(Outcome::Failed(Failure::retryable("busy"))),
        1 => Just(Outcome::ClientGone),
    ];
    let event = prop_oneof![
        1 => Just(Event::CancelRequested),
        2 => ids.clone().prop_map(|id| Event::Started { id, workers: set(&["a", "b"]) }),
        1 => ids.clone().prop_map(|id| Event::Delivered { id }),
        1 => ids.clone().prop_map(|id| Event::Defining { id }),
        6 => (ids.clone(), outcome).prop_map(|(id, outcome)| Event::Ended { id, outcome }),
        4 => ids.clone().prop_map(|id| Event::Stopped { id }),
        4 => ids.clone().prop_map(|id| Event::Committed { id }),
        1 => ids.clone().prop_map(|id| Event::CommitFailed { id, failure: user("no") }),
        2 => ids.prop_map(|id| Event::Conflicted { id, failure: user("late") }),
        1 => Just(alive(&["b"])),
    ];
    proptest::collection::vec(event, 0..120)
}

proptest! {
    #[test]
    fn one_attempt_at_a_time_one_commit_per_statement_one_end(events in events()) {
        let now = Instant::now();
        let mut machine = Machine::new(now, 0);
        let mut running: Option<AttemptId> = None;
        let mut commits = BTreeSet::new();
        let mut races = 0;
        let mut ends = 0;
        let first = machine.step(now, Event::Read { statements: 3 }).unwrap();
        let batches = events.into_iter().map(|event| {
            let Ok(actions) = machine.step(now, event.clone()) else { return (event, vec![]) };
            (event, actions)
        });
        for (event, actions) in std::iter::once((Event::Read { statements: 3 }, first)).chain(batches) {
            if let Event::Ended { id, .. } | Event::Stopped { id } = event && running == Some(id) {
                running = None;
            }
            if let Event::Conflicted { id, .. } = event && !actions.is_empty() {
                commits.remove(&id.ordinal);
                races += 1;
            }
            for action in actions {
                prop_assert_eq!(ends, 0, "nothing follows the end");
                match action {
                    Action::RunAttempt { id, .. } => {
                        prop_assert_eq!(running, None, "attempts do not overlap");
                        prop_assert!(id.attempt <= MAX_ATTEMPTS + races);
                        running = Some(id);
                    }
                    Action::CommitStaged { id } => {
                        prop_assert_eq!(running, None);
                        prop_assert!(commits.insert(id.ordinal), "a statement commits once");
                    }
                    Action::Finish(_) => {
                        prop_assert_eq!(running, None, "nothing runs after the end");
                        ends += 1;
                    }
                    _ => {}
                }
            }
        }
    }
}
