//! Beat~lytica's three topics, generated: the lake holds what a plain Python consumer reads, field by field.
//! `cargo xtask bench rows` does it with ten million events.

use std::time::Duration;

use drumline_testkit::plain_consumer::end_to_end;

const EVENTS: u64 = 30_000;

#[test]
fn rows_are_those_of_a_plain_python_consumer() {
    let found = end_to_end(EVENTS, Duration::from_millis(500)).unwrap();
    assert_eq!(found.records.len(), 3, "{found:?}");
    assert!(found.records.values().all(|rows| *rows > 0), "{found:?}");
}
