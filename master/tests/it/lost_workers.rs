//! Workers that go in the middle of a job.

use drumline_proto::v1::application_event::Event;
use drumline_proto::v1::{JobPlanned, JobRetried, TaskState};

use crate::cluster::{Cluster, Watched};

/// 40,000 rows joined with themselves on 100 keys: seconds of work, 16,000,000 pairs.
const NUMBERS: &str = "CREATE TABLE numbers AS SELECT value AS n FROM generate_series(1, 40000)";
const PAIRS: &str = "SELECT a.n % 100 AS key, count(*) AS pairs
    FROM numbers a JOIN numbers b ON a.n % 100 = b.n % 100 GROUP BY 1";
/// Small tables get tasks on all workers too.
const SPREAD: &str = "SET drumline.bytes_per_task = 1";

/// Kills `worker-1` once a task of it runs.
async fn kill_while_it_works(cluster: &mut Cluster, watched: &mut Watched) {
    let runs = |event: &Event| match event {
        Event::TaskChanged(task) => {
            (task.worker == "worker-1" && task.state() == TaskState::Running).then_some(())
        }
        _ => None,
    };
    watched.until(runs).await;
    cluster.kill_worker(1).await;
}

fn retries(events: &[Event]) -> Vec<JobRetried> {
    let retried = |event: &Event| match event {
        Event::JobRetried(retried) => Some(retried.clone()),
        _ => None,
    };
    events.iter().filter_map(retried).collect()
}

fn plans(events: &[Event]) -> Vec<JobPlanned> {
    let planned = |event: &Event| match event {
        Event::JobPlanned(planned) => Some(planned.clone()),
        _ => None,
    };
    events.iter().filter_map(planned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn job_runs_again_on_the_workers_that_are_left() {
    let mut cluster = Cluster::start(2).await;
    cluster.run(NUMBERS).await.succeeded();
    let mut watched = cluster
        .submit(&format!(
            "{SPREAD}; SELECT sum(pairs) AS pairs FROM ({PAIRS})"
        ))
        .await;
    kill_while_it_works(&mut cluster, &mut watched).await;
    let outcome = cluster.finish(watched).await.succeeded();

    assert!(
        outcome.tables().contains("| 16000000 |"),
        "{}",
        outcome.tables()
    );
    let retries = retries(&outcome.events);
    assert_eq!(retries.len(), 1, "{retries:?}");
    assert_eq!(
        (retries[0].attempt, retries[0].worker.as_str()),
        (2, "worker-1")
    );
    let plans = plans(&outcome.events);
    let first: Vec<_> = plans[0]
        .stages
        .iter()
        .flat_map(|stage| &stage.workers)
        .collect();
    assert!(first.contains(&&"worker-1".to_owned()));
    let last = plans.last().unwrap();
    assert_ne!(last.job_id, plans[0].job_id);
    assert!(
        last.stages
            .iter()
            .all(|stage| !stage.workers.contains(&"worker-1".to_owned())),
        "{last:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_ran_twice_is_there_once() {
    let mut cluster = Cluster::start(2).await;
    cluster.run(NUMBERS).await.succeeded();
    let script = format!(
        "{SPREAD}; CREATE TABLE pairs AS {PAIRS}; SELECT count(*) AS keys, sum(pairs) AS pairs FROM pairs"
    );
    let mut watched = cluster.submit(&script).await;
    kill_while_it_works(&mut cluster, &mut watched).await;
    let outcome = cluster.finish(watched).await.succeeded();

    assert_eq!(retries(&outcome.events).len(), 1);
    assert!(
        outcome.tables().contains("| 100  | 16000000 |"),
        "{}",
        outcome.tables()
    );
    assert_eq!(outcome.statements()[1].rows, 100);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_a_job_name_every_task_and_the_rows_it_sent() {
    let cluster = Cluster::start(2).await;
    cluster.run(NUMBERS).await.succeeded();
    let outcome = cluster
        .run(&format!(
            "{SPREAD}; SELECT n % 7 AS k, count(*) AS c FROM numbers GROUP BY 1"
        ))
        .await
        .succeeded();
    let facts = outcome.events.iter().find_map(|event| match event {
        Event::JobFinished(finished) if !finished.tasks.is_empty() => Some(finished.clone()),
        _ => None,
    });
    let facts = facts.expect("a job with stages tells its facts");
    let workers: std::collections::BTreeSet<_> = facts
        .tasks
        .iter()
        .map(|task| task.worker.as_str())
        .collect();
    assert_eq!(workers, ["worker-0", "worker-1"].into());
    assert_eq!(
        facts.tasks.iter().map(|task| task.rows_read).sum::<u64>(),
        40_000
    );
    assert!(
        facts
            .tasks
            .iter()
            .map(|task| task.rows_exchanged)
            .sum::<u64>()
            > 0
    );
    let finished = outcome.events.iter().filter(|event| {
        matches!(event, Event::TaskChanged(task) if task.job_id == facts.job_id && task.state() == TaskState::Finished)
    });
    assert_eq!(finished.count(), facts.tasks.len());
    cluster.stop().await;
}
