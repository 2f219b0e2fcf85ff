use std::time::{Duration, Instant};

use drumline_proto::v1::Hello;
use proptest::prelude::*;

use super::membership::{Action, ConnectionId, Event, Membership};

const SILENCE: Duration = Duration::from_secs(5);

fn joined(worker: &str, connection: u64) -> Event {
    let hello = Hello {
        worker_id: worker.to_owned(),
        ..Hello::default()
    };
    Event::Joined {
        hello,
        connection: ConnectionId(connection),
    }
}

fn heard(worker: &str, connection: u64) -> Event {
    Event::Heard {
        worker: worker.to_owned(),
        connection: ConnectionId(connection),
        load: None,
    }
}

fn left(worker: &str, connection: u64) -> Event {
    let reason = "gone".to_owned();
    Event::Left {
        worker: worker.to_owned(),
        connection: ConnectionId(connection),
        reason,
    }
}

fn gone(actions: &[Action]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::AnnounceGone { worker, .. } => Some(worker.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn silent_worker_is_dropped_and_talking_one_stays() {
    let start = Instant::now();
    let mut membership = Membership::new(SILENCE);
    membership.step(start, joined("a", 1));
    membership.step(start, joined("b", 2));
    membership.step(start + Duration::from_secs(4), heard("b", 2));
    assert!(gone(&membership.step(start + SILENCE, Event::Tick)).is_empty());
    let actions = membership.step(start + Duration::from_secs(6), Event::Tick);
    assert_eq!(gone(&actions), ["a"]);
    assert!(actions.contains(&Action::CloseConnection {
        connection: ConnectionId(1)
    }));
    assert!(membership.members().contains_key("b"));
}

#[test]
fn worker_that_joins_again_is_lost_first() {
    let now = Instant::now();
    let mut membership = Membership::new(SILENCE);
    membership.step(now, joined("a", 1));
    let actions = membership.step(now, joined("a", 2));
    assert_eq!(gone(&actions), ["a"]);
    assert_eq!(
        actions.last(),
        Some(&Action::AnnounceCame {
            worker: "a".to_owned()
        })
    );
    // The end of the old call comes late and changes nothing.
    assert!(membership.step(now, left("a", 1)).is_empty());
    assert!(membership.members().contains_key("a"));
}

#[test]
fn worker_drains_once_and_stays_a_member_until_it_leaves() {
    let now = Instant::now();
    let mut membership = Membership::new(SILENCE);
    let drain = || Event::DrainRequested {
        worker: "a".to_owned(),
    };
    assert!(membership.step(now, drain()).is_empty(), "nobody is there");
    membership.step(now, joined("a", 1));
    let announced = Action::AnnounceDraining {
        worker: "a".to_owned(),
    };
    assert_eq!(
        membership.step(now, drain()),
        [Action::PublishMembers, announced]
    );
    assert!(membership.step(now, drain()).is_empty());
    assert!(membership.members()["a"].is_draining);
    membership.step(now, left("a", 1));
    membership.step(now, joined("a", 2));
    assert!(!membership.members()["a"].is_draining, "a new start");
}

fn hello(worker: &str, pid: u32) -> Hello {
    Hello {
        worker_id: worker.to_owned(),
        url: format!("http://host:{pid}"),
        pid,
        ..Hello::default()
    }
}

/// What happens in turn: for each of these, the actions that decide who may join.
struct Joining {
    membership: Membership,
    start: Instant,
}

impl Joining {
    fn new() -> Self {
        Self {
            membership: Membership::new(SILENCE),
            start: Instant::now(),
        }
    }

    fn at(&mut self, millis: u64, event: Event) -> Vec<String> {
        let now = self.start + Duration::from_millis(millis);
        let actions = self.membership.step(now, event);
        actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Admit { connection, .. } => Some(format!("admit {}", connection.0)),
                Action::Refuse { connection, reason } => {
                    Some(format!("refuse {}: {reason}", connection.0))
                }
                Action::AnnounceCame { worker } => Some(format!("{worker} came")),
                Action::AnnounceGone { worker, .. } => Some(format!("{worker} gone")),
                _ => None,
            })
            .collect()
    }

    fn asks(&mut self, millis: u64, pid: u32, connection: u64) -> Vec<String> {
        let connection = ConnectionId(connection);
        let hello = hello("a", pid);
        self.at(millis, Event::Asked { hello, connection })
    }

    fn joins(&mut self, millis: u64, pid: u32, connection: u64) -> Vec<String> {
        let connection = ConnectionId(connection);
        let hello = hello("a", pid);
        self.at(millis, Event::Joined { hello, connection })
    }
}

#[test]
fn second_worker_of_one_id_is_refused_once_the_first_has_answered() {
    let mut joining = Joining::new();
    assert_eq!(joining.asks(0, 1, 1), ["admit 1"]);
    assert_eq!(joining.joins(10, 1, 1), ["a came"]);
    assert!(joining.asks(1000, 2, 2).is_empty(), "it waits");
    // What was under way when the first may have died says nothing.
    assert!(joining.at(1900, heard("a", 1)).is_empty());
    let refused = joining.at(2900, heard("a", 1)).join("");
    for part in ["refuse 2", "`a`", "http://host:1", "process 1", "--id"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(joining.at(9000, Event::Tick).contains(&"a gone".to_owned()));
}

#[test]
fn worker_that_was_started_again_is_taken_when_the_old_call_ends_or_goes_silent() {
    for ends in [left("a", 1), Event::Tick] {
        let mut joining = Joining::new();
        joining.asks(0, 1, 1);
        joining.joins(0, 1, 1);
        assert!(joining.asks(1000, 2, 2).is_empty());
        assert_eq!(joining.at(5500, ends), ["a gone", "admit 2"]);
        assert_eq!(joining.joins(5600, 2, 2), ["a came"]);
    }
}

#[test]
fn worker_that_leaves_makes_room_for_the_next_of_its_id() {
    let mut joining = Joining::new();
    joining.asks(0, 1, 1);
    joining.joins(0, 1, 1);
    let worker = "a".to_owned();
    joining.at(100, Event::DrainRequested { worker });
    assert!(joining.asks(1000, 2, 2).is_empty());
    for seconds in 2..60 {
        assert!(joining.at(seconds * 1000, heard("a", 1)).is_empty());
    }
    assert_eq!(joining.at(60_000, left("a", 1)), ["a gone", "admit 2"]);
}

#[test]
fn worker_whose_call_broke_is_taken_at_once() {
    let mut joining = Joining::new();
    joining.asks(0, 1, 1);
    joining.joins(0, 1, 1);
    assert_eq!(joining.asks(100, 1, 2), ["admit 2"]);
    assert_eq!(joining.joins(200, 1, 2), ["a gone", "a came"]);
}

#[test]
fn of_two_that_ask_at_once_one_is_taken_and_one_that_does_not_come_makes_room() {
    let mut joining = Joining::new();
    assert_eq!(joining.asks(0, 1, 1), ["admit 1"]);
    assert!(joining.asks(0, 2, 2).is_empty());
    assert_eq!(joining.at(5100, Event::Tick), ["admit 2"]);
    // The first one comes late, when the second is there.
    assert_eq!(joining.joins(5200, 2, 2), ["a came"]);
    assert!(joining.joins(5300, 1, 1).is_empty());
    assert_eq!(joining.membership.members()["a"].hello.pid, 2);
    // One that went while it waited is not waited for.
    assert!(joining.asks(5400, 3, 3).is_empty());
    let worker = "a".to_owned();
    let connection = ConnectionId(3);
    joining.at(5500, Event::Withdrew { worker, connection });
    assert_eq!(joining.at(5600, left("a", 2)), ["a gone"]);
}

proptest! {
    /// Whatever happens, each worker's announcements alternate: came, gone, came, …
    #[test]
    fn announcements_alternate(steps in proptest::collection::vec((0u8..4, 0u8..3, 0u64..4, 0u64..7), 1..200)) {
        let mut now = Instant::now();
        let mut membership = Membership::new(SILENCE);
        let mut present = std::collections::HashSet::new();
        for (kind, worker, connection, seconds) in steps {
            now += Duration::from_secs(seconds);
            let worker = ["a", "b", "c"][worker as usize];
            let event = match kind {
                0 => joined(worker, connection),
                1 => heard(worker, connection),
                2 => left(worker, connection),
                _ => Event::Tick,
            };
            for action in membership.step(now, event) {
                match action {
                    Action::AnnounceCame { worker } => prop_assert!(present.insert(worker)),
                    Action::AnnounceGone { worker, .. } => prop_assert!(present.remove(&worker)),
                    Action::Admit { .. } | Action::Refuse { .. } => {}
                    Action::PublishMembers
                    | Action::AnnounceDraining { .. }
                    | Action::CloseConnection { .. } => {}
                }
            }
            prop_assert_eq!(present.len(), membership.members().len());
        }
    }
}
