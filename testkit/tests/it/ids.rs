//! Two workers of one id: the one that is there stays, the other is told.

use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Process, poll};

const PATIENCE: Duration = Duration::from_secs(30);

fn start(cluster: &Cluster, name: &str) -> Process {
    let work = format!("--work-dir={}", cluster.path(name).display());
    let arguments = ["worker", "--id=twin", "--listen=127.0.0.1:0", &work];
    cluster.spawn(name, &arguments).unwrap()
}

fn joins(worker: &Process) {
    poll("it joins", PATIENCE, || {
        Ok(worker.log().contains("joined the cluster").then_some(()))
    })
    .unwrap();
}

#[test]
fn a_second_worker_of_an_id_is_refused_while_the_first_answers_and_taken_once_it_does_not() {
    let cluster = Cluster::start(Options {
        workers: 0,
        ..Options::default()
    })
    .unwrap();
    let mut first = start(&cluster, "first");
    joins(&first);
    let mut second = start(&cluster, "second");
    let status = second.wait(PATIENCE).unwrap();
    let said = second.log();
    assert_eq!(status.code(), Some(1), "{said}");
    for part in [
        "`twin`",
        "http://127.0.0.1:",
        &first.pid().to_string(),
        "--id",
    ] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    assert_eq!(first.log().matches("joined the cluster").count(), 1);
    // Killed and started again: its id is free at once.
    first.kill().unwrap();
    let third = start(&cluster, "third");
    joins(&third);
    // Frozen: free when its silence is over.
    third.freeze().unwrap();
    let fourth = start(&cluster, "fourth");
    joins(&fourth);
    // It finds its place taken.
    third.thaw().unwrap();
    let mut third = third;
    let status = third.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", third.log());
}
