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
                    Action::PublishMembers
                    | Action::AnnounceDraining { .. }
                    | Action::CloseConnection { .. } => {}
                }
            }
            prop_assert_eq!(present.len(), membership.members().len());
        }
    }
}
