//! A real broker starts, keeps its topics over a kill, and is gone at the end.

use drumline_testkit::Kafka;

#[test]
fn a_broker_survives_a_kill_and_leaves_nothing() {
    let mut kafka = Kafka::start().unwrap();
    kafka
        .create_topics(&[("events", 3), ("others", 1)])
        .unwrap();
    kafka.restart().unwrap();
    // The same again is no error; a name that cannot be is one, and is told.
    kafka.create_topics(&[("events", 3)]).unwrap();
    let refused = kafka.create_topics(&[("no spaces", 1)]).unwrap_err();
    assert!(
        format!("{refused:#}").contains("topic no spaces: error 17"),
        "{refused:#}"
    );
    let pid = kafka.process().pid();
    drop(kafka);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
