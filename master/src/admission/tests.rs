use proptest::prelude::*;

use super::*;

fn workers(cores: &[u32]) -> Event {
    Event::WorkersChanged(
        cores
            .iter()
            .zip('a'..)
            .map(|(cores, id)| (id.to_string(), *cores))
            .collect(),
    )
}

fn request(job: u64, cores: Option<u32>) -> Event {
    request_avoiding(job, cores, &[])
}

fn request_avoiding(job: u64, cores: Option<u32>, avoid: &[&str]) -> Event {
    Event::Requested(Request {
        job: JobNumber(job),
        cores,
        avoid: avoid.iter().map(|id| id.to_string()).collect(),
    })
}

#[test]
fn worker_is_held_until_the_last_job_that_may_use_it_has_ended() {
    let mut admission = Admission::new(4);
    admission.step(workers(&[2, 2]));
    admission.step(request(1, None));
    admission.step(request_avoiding(2, None, &["b"]));
    assert!(admission.holds("a") && admission.holds("b"));
    admission.step(Event::Released(JobNumber(1)));
    assert!(admission.holds("a") && !admission.holds("b"));
    admission.step(Event::Released(JobNumber(2)));
    assert!(!admission.holds("a"));
}

/// Grants as `job:workers`.
fn shown(grants: &[Grant]) -> Vec<String> {
    grants
        .iter()
        .map(|grant| {
            format!(
                "{}:{}",
                grant.job.0,
                grant.workers.iter().cloned().collect::<String>()
            )
        })
        .collect()
}

fn check(concurrent_jobs: usize, steps: &[(Event, &[&str])]) {
    let mut admission = Admission::new(concurrent_jobs);
    for (index, (event, expected)) in steps.iter().enumerate() {
        assert_eq!(
            shown(&admission.step(event.clone())),
            *expected,
            "step {index}: {event:?}"
        );
    }
}

#[test]
fn job_without_a_wish_may_use_every_worker() {
    check(4, &[(workers(&[2, 2]), &[]), (request(1, None), &["1:ab"])]);
}

#[test]
fn jobs_wait_for_the_first_worker() {
    check(
        4,
        &[
            (request(1, None), &[]),
            (request(2, None), &[]),
            (workers(&[1, 1]), &["1:ab", "2:ab"]),
        ],
    );
}

#[test]
fn no_more_jobs_run_than_allowed() {
    check(
        2,
        &[
            (workers(&[8, 8]), &[]),
            (request(1, Some(1)), &["1:a"]),
            (request(2, Some(1)), &["2:b"]),
            (request(3, Some(1)), &[]),
            (Event::Released(JobNumber(1)), &["3:a"]),
        ],
    );
}

#[test]
fn large_job_at_the_head_is_not_overtaken() {
    check(
        4,
        &[
            (workers(&[2, 2]), &[]),
            (request(1, Some(3)), &["1:ab"]),
            (request(2, Some(4)), &[]),
            (request(3, Some(1)), &[]),
            (Event::Released(JobNumber(1)), &["2:ab"]),
            (Event::Released(JobNumber(2)), &["3:a"]),
        ],
    );
}

#[test]
fn job_that_gives_up_waiting_lets_the_next_go() {
    check(
        1,
        &[
            (workers(&[1]), &[]),
            (request(1, None), &["1:a"]),
            (request(2, None), &[]),
            (request(3, None), &[]),
            (Event::Released(JobNumber(2)), &[]),
            (Event::Released(JobNumber(1)), &["3:a"]),
        ],
    );
}

#[test]
fn avoided_worker_is_left_out_unless_it_is_the_only_one() {
    check(
        4,
        &[
            (workers(&[1, 1]), &[]),
            (request_avoiding(1, None, &["a"]), &["1:b"]),
            (Event::Released(JobNumber(1)), &[]),
            (workers(&[1]), &[]),
            (request_avoiding(2, None, &["a"]), &["2:a"]),
        ],
    );
}

#[test]
fn wish_beyond_the_cluster_gets_the_whole_cluster() {
    check(
        4,
        &[
            (workers(&[1, 1]), &[]),
            (request(1, Some(64)), &["1:ab"]),
            (request(2, None), &[]),
        ],
    );
}

#[test]
fn position_counts_who_waits_before() {
    let mut admission = Admission::new(1);
    admission.step(workers(&[1]));
    for job in 1..=3 {
        admission.step(request(job, None));
    }
    assert_eq!(
        [1, 2, 3].map(|job| admission.position(JobNumber(job))),
        [None, Some(0), Some(1)]
    );
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0u64..20, proptest::option::of(0u32..9)).prop_map(|(job, cores)| request(job, cores)),
        3 => (0u64..20).prop_map(|job| Event::Released(JobNumber(job))),
        1 => proptest::collection::vec(1u32..5, 0..4).prop_map(|cores| workers(&cores)),
    ];
    proptest::collection::vec(event, 0..80)
}

proptest! {
    #[test]
    fn grants_are_in_order_within_limits_and_never_stuck(events in events()) {
        let mut admission = Admission::new(3);
        let mut waiting: Vec<JobNumber> = vec![];
        let mut seen = BTreeSet::new();
        for event in events {
            match &event {
                // a job number is used once
                Event::Requested(request) if !seen.insert(request.job) => continue,
                Event::Requested(request) => waiting.push(request.job),
                Event::Released(job) => waiting.retain(|other| other != job),
                Event::WorkersChanged(_) => {}
            }
            for grant in admission.step(event) {
                prop_assert_eq!(Some(&grant.job), waiting.first());
                prop_assert!(!grant.workers.is_empty());
                waiting.remove(0);
            }
            prop_assert!(admission.running.len() <= 3);
            let stuck = admission.running.is_empty() && !admission.workers.is_empty() && !waiting.is_empty();
            prop_assert!(!stuck, "nothing runs although {waiting:?} wait for {:?}", admission.workers);
        }
    }
}
