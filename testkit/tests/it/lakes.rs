//! A few seeds of `cargo xtask chaos lake`, each kind of fault once; and that its checks see what is wrong.

use std::time::Duration;

use drumline_testkit::lakes::bench::Bench;
use drumline_testkit::lakes::plan::{Fault, PAIRS, Plan, Step};
use drumline_testkit::lakes::seed::{self, Timing, Told};
use drumline_testkit::lakes::{proofs, writers};

const TIMING: Timing = Timing {
    request_timeout: Duration::from_millis(1500),
    landing: Duration::from_secs(3),
};

#[test]
fn a_write_that_meets_a_fault_is_there_or_is_not() {
    let mut bench = Bench::start(Some(TIMING.request_timeout)).unwrap();
    let faults = [
        Fault::WorkerKilled,
        Fault::MasterKilled,
        Fault::MasterKilledLandsLater,
        Fault::LandedThenFailed,
        Fault::Busy,
        Fault::LandsLater,
        Fault::NeverAnswered,
        Fault::Stalls,
    ];
    for fault in faults {
        // As near to the commit as it gets.
        let is_near = |(step, of): &(Step, Fault)| *of == fault && *step <= Step::AfterPut;
        let pair = PAIRS.iter().rposition(is_near).unwrap();
        let plan = Plan::of(pair as u64);
        let report = seed::run(&mut bench, &plan, TIMING)
            .unwrap_or_else(|error| panic!("{plan}: {error:#}"))
            .unwrap_or_else(|| panic!("{plan}: the fault did not fire"));
        println!("{plan}: {report}");
        let is_unknown = matches!(report.told, Told::Unknown(_));
        assert_eq!(
            is_unknown,
            fault == Fault::NeverAnswered,
            "{plan}: {report}"
        );
    }
}

#[test]
fn what_a_missing_guard_would_do_is_seen() {
    let mut bench = Bench::start(Some(TIMING.request_timeout)).unwrap();
    let seen = [
        proofs::own_commit_is_not_recognised(&mut bench, TIMING).unwrap(),
        proofs::identity_is_lost(&mut bench, TIMING).unwrap(),
        proofs::staging_is_visible(&mut bench, TIMING).unwrap(),
        proofs::creating_overwrites(&mut bench).unwrap(),
    ];
    println!("{seen:#?}");
}

#[test]
fn writers_at_once_lose_nothing_and_readers_see_whole_versions() {
    let report = writers::run(Duration::from_secs(8)).unwrap();
    println!("{report}");
    assert!(report.appends >= 8 && report.merges >= 1, "{report}");
    assert!(report.optimizes > 0 && report.vacuums > 0 && report.reads > 0);
    // Those that rewrite wait for each other, and appends are in nobody's way.
    assert!(report.conflicts.is_empty(), "{:?}", report.conflicts);
    assert_eq!(report.merge_attempts, 1, "{report}");
}
