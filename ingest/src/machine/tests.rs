use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn rolling() -> Rolling {
    Rolling {
        interval: INTERVAL,
        aligned_to: None,
        file_size: 1000,
        file_rows: u64::MAX,
    }
}

fn started(now: Instant) -> Machine {
    let mut machine = Machine::new(1, rolling());
    let tables = vec![Positions::from([(0, 100)]), Positions::from([(0, 80)])];
    assert_eq!(machine.step(now, Event::Started { topic: 0, tables }), []);
    machine
}

fn at(next: i64) -> Positions {
    Positions::from([(0, next)])
}

fn advanced(next: i64, file: u64) -> Event {
    Event::Advanced {
        topic: 0,
        next: at(next),
        written: Written { file, rows: 0 },
    }
}

fn range(from: i64, to: i64) -> Vec<Range> {
    vec![Range {
        partition: 0,
        from,
        to,
    }]
}

#[test]
fn an_interval_closes_offers_and_goes_on_from_what_was_committed() {
    let now = Instant::now();
    let mut machine = started(now);
    assert_eq!(machine.wake_at(), None);
    assert_eq!(machine.step(now, advanced(120, 10)), []);
    assert_eq!(machine.wake_at(), Some(now + INTERVAL));
    let due = now + INTERVAL;
    assert_eq!(
        machine.step(due, Event::Ticked),
        [Action::CloseFiles { topic: 0 }]
    );
    let offer = Action::Offer {
        topic: 0,
        id: 1,
        tables: vec![range(100, 120), range(80, 120)],
    };
    assert_eq!(
        machine.step(
            due,
            Event::Closed {
                topic: 0,
                next: at(120)
            }
        ),
        [offer]
    );
    assert_eq!(machine.wake_at(), None);
    let answered = Event::Answered {
        id: 1,
        committed: true,
    };
    assert_eq!(
        machine.step(due, answered),
        [Action::Acknowledge {
            topic: 0,
            next: at(120)
        }]
    );
    assert_eq!(
        machine.step(due, advanced(130, 5000)),
        [Action::CloseFiles { topic: 0 }]
    );
    let offer = Action::Offer {
        topic: 0,
        id: 2,
        tables: vec![range(120, 130), range(120, 130)],
    };
    assert_eq!(
        machine.step(
            due,
            Event::Closed {
                topic: 0,
                next: at(130)
            }
        ),
        [offer]
    );
}

#[test]
fn a_table_that_is_ahead_is_left_out_until_it_is_reached() {
    let now = Instant::now();
    let mut machine = started(now);
    machine.step(now, advanced(90, 5000));
    let offer = Action::Offer {
        topic: 0,
        id: 1,
        tables: vec![vec![], range(80, 90)],
    };
    assert_eq!(
        machine.step(
            now,
            Event::Closed {
                topic: 0,
                next: at(90)
            }
        ),
        [offer]
    );
    machine.step(
        now,
        Event::Answered {
            id: 1,
            committed: true,
        },
    );
    machine.step(now, advanced(110, 5000));
    let offer = Action::Offer {
        topic: 0,
        id: 2,
        tables: vec![range(100, 110), range(90, 110)],
    };
    assert_eq!(
        machine.step(
            now,
            Event::Closed {
                topic: 0,
                next: at(110)
            }
        ),
        [offer]
    );
}

#[test]
fn full_files_with_an_unanswered_offer_pause_until_the_answer() {
    let now = Instant::now();
    let mut machine = started(now);
    machine.step(now, advanced(120, 5000));
    machine.step(
        now,
        Event::Closed {
            topic: 0,
            next: at(120),
        },
    );
    assert_eq!(machine.step(now, advanced(140, 500)), []);
    assert_eq!(
        machine.step(now, advanced(150, 1000)),
        [Action::Pause { topic: 0 }]
    );
    assert_eq!(
        machine.step(
            now,
            Event::Answered {
                id: 1,
                committed: true
            }
        ),
        [
            Action::Acknowledge {
                topic: 0,
                next: at(120)
            },
            Action::Resume { topic: 0 },
            Action::CloseFiles { topic: 0 }
        ]
    );
}

#[test]
fn a_drain_offers_what_was_read_and_ends_with_its_commit() {
    let now = Instant::now();
    let mut machine = started(now);
    machine.step(now, advanced(120, 10));
    assert_eq!(
        machine.step(now, Event::DrainRequested),
        [Action::Pause { topic: 0 }, Action::CloseFiles { topic: 0 }]
    );
    // Rows that were on their way when reading stopped belong to it, too.
    assert_eq!(machine.step(now, advanced(130, 20)), []);
    let closed = |next| Event::Closed {
        topic: 0,
        next: at(next),
    };
    assert!(matches!(
        machine.step(now, closed(120))[..],
        [Action::Offer { id: 1, .. }]
    ));
    let committed = |id| Event::Answered {
        id,
        committed: true,
    };
    assert_eq!(
        machine.step(now, committed(1)),
        [
            Action::Acknowledge {
                topic: 0,
                next: at(120)
            },
            Action::CloseFiles { topic: 0 }
        ]
    );
    machine.step(now, closed(130));
    let last = machine.step(now, committed(2));
    assert_eq!(last.last(), Some(&Action::Stop), "{last:?}");
}

#[test]
fn a_drain_of_a_stream_that_has_read_nothing_ends_at_once() {
    let now = Instant::now();
    let mut machine = started(now);
    assert_eq!(
        machine.step(now, Event::DrainRequested),
        [Action::Pause { topic: 0 }, Action::Stop]
    );
}

#[test]
fn rejection_and_revocation_and_failure_end_everything() {
    let now = Instant::now();
    for end in [
        Event::Answered {
            id: 1,
            committed: false,
        },
        Event::Revoked,
        Event::Failed,
    ] {
        let mut machine = started(now);
        machine.step(now, advanced(120, 5000));
        machine.step(
            now,
            Event::Closed {
                topic: 0,
                next: at(120),
            },
        );
        assert_eq!(machine.step(now, end), [Action::Stop]);
        assert_eq!(machine.step(now, advanced(150, 5000)), []);
        assert_eq!(
            machine.step(
                now,
                Event::Closed {
                    topic: 0,
                    next: at(150)
                }
            ),
            []
        );
    }
}

#[test]
fn files_closed_with_nothing_new_are_not_offered() {
    let now = Instant::now();
    let mut machine = started(now);
    machine.step(now, advanced(80, 0));
    assert_eq!(
        machine.step(now + INTERVAL, Event::Ticked),
        [Action::CloseFiles { topic: 0 }]
    );
    assert_eq!(
        machine.step(
            now + INTERVAL,
            Event::Closed {
                topic: 0,
                next: at(80)
            }
        ),
        [Action::DiscardClosed { topic: 0 }]
    );
    assert_eq!(machine.wake_at(), None);
}

proptest! {
    #[test]
    fn ranges_follow_one_another_and_nothing_is_offered_after_the_end(
        steps in proptest::collection::vec((0..6u8, 0..2usize, 0..3i32, 1..50i64), 1..200),
    ) {
        let mut now = Instant::now();
        let mut machine = Machine::new(2, rolling());
        let starts = |topic: i64| vec![
            (0..3).map(|p| (p, topic * 10 + i64::from(p))).collect::<Positions>(),
            (0..3).map(|p| (p, 25)).collect::<Positions>(),
        ];
        let mut ends: Vec<Vec<Positions>> = (0..2).map(starts).collect();
        for topic in 0..2 {
            machine.step(now, Event::Started { topic, tables: starts(i64::try_from(topic).unwrap()) });
        }
        let mut read: Vec<Positions> = vec![(0..3).map(|p| (p, i64::from(p))).collect(); 2];
        let mut closing = [false; 2];
        let mut open: [Option<u64>; 2] = [None; 2];
        let mut ended = false;
        for (kind, topic, partition, amount) in steps {
            now += Duration::from_secs(3);
            let event = match kind {
                0 | 1 => {
                    *read[topic].entry(partition).or_default() += amount;
                    Event::Advanced { topic, next: read[topic].clone(), written: Written { file: u64::try_from(amount).unwrap() * 40, rows: 0 } }
                }
                2 if closing[topic] => { closing[topic] = false; Event::Closed { topic, next: read[topic].clone() } }
                3 => match open[topic].take() { Some(id) => Event::Answered { id, committed: true }, None => Event::Ticked },
                4 if amount == 49 => Event::Revoked,
                5 if amount == 49 => match open[topic].take() { Some(id) => Event::Answered { id, committed: false }, None => Event::Ticked },
                _ => Event::Ticked,
            };
            for action in machine.step(now, event) {
                prop_assert!(!ended, "{:?} after the end", action);
                match action {
                    Action::CloseFiles { topic } => { prop_assert!(!closing[topic] && open[topic].is_none()); closing[topic] = true; }
                    Action::Offer { topic, id, tables } => {
                        prop_assert!(open[topic].is_none());
                        open[topic] = Some(id);
                        for (table, ranges) in tables.iter().enumerate() {
                            for range in ranges {
                                let end = ends[topic][table].get_mut(&range.partition).unwrap();
                                prop_assert_eq!(*end, range.from);
                                prop_assert!(range.from < range.to);
                                *end = range.to;
                            }
                        }
                    }
                    Action::Stop => ended = true,
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn rows_close_files_too() {
    let now = Instant::now();
    let rolling = Rolling {
        file_rows: 100,
        ..rolling()
    };
    let mut machine = Machine::new(1, rolling);
    let advanced = |next, rows| Event::Advanced {
        topic: 0,
        next: at(next),
        written: Written { file: 10, rows },
    };
    assert_eq!(machine.step(now, advanced(99, 99)), []);
    assert_eq!(
        machine.step(now, advanced(100, 100)),
        [Action::CloseFiles { topic: 0 }]
    );
}

#[test]
fn aligned_files_are_closed_by_the_clock_however_late_they_began() {
    let anchor = Instant::now();
    let rolling = Rolling {
        aligned_to: Some(anchor),
        ..rolling()
    };
    for (began, due) in [(0, 10), (3, 10), (9, 10), (10, 20), (1234, 1240)] {
        let began = anchor + Duration::from_secs(began);
        assert_eq!(rolling.due(began), anchor + Duration::from_secs(due));
    }
    let mut machine = Machine::new(1, rolling);
    let seven = anchor + Duration::from_secs(7);
    machine.step(seven, advanced(120, 10));
    assert_eq!(machine.wake_at(), Some(anchor + INTERVAL));
    assert_eq!(
        machine.step(anchor + INTERVAL, Event::Ticked),
        [Action::CloseFiles { topic: 0 }]
    );
}

#[test]
fn a_topic_that_has_come_to_its_end_is_offered_at_once() {
    let now = Instant::now();
    let mut machine = started(now);
    machine.ends_at(0, at(130));
    assert_eq!(machine.step(now, advanced(129, 10)), []);
    assert_eq!(
        machine.step(now, advanced(130, 10)),
        [Action::CloseFiles { topic: 0 }]
    );
}
