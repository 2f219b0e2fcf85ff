//! Lost and frozen workers, errors inside of tasks, callers that give up.

use std::time::{Duration, Instant};

use drumline_engine::{Error, Job};
use drumline_lake::ErrorKind;
use futures::StreamExt;

use crate::cluster::{Cluster, PATIENCE, forced};

/// More rows than any of these tests waits for.
const ENDLESS: &str =
    "select a.id, b.id from events a cross join events b where a.amount + b.amount > 1";
/// Within which a frozen worker must be noticed.
const NOTICE: Duration = Duration::from_secs(10);

async fn begun(cluster: &Cluster, sql: &str) -> Job {
    let mut job = cluster.job(sql, forced(&[])).await.unwrap();
    assert!(!job.stages.is_empty());
    let first = tokio::time::timeout(PATIENCE, job.stream.next())
        .await
        .expect("no rows");
    first.expect("an end").unwrap();
    job
}

async fn failure(job: &mut Job) -> Error {
    let reading = async {
        loop {
            match job.stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Error::from(error),
                None => panic!("the job ended as if nothing had happened"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the job hangs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_worker_is_lost_within_ten_seconds() {
    let cluster = Cluster::start().await;
    let mut job = begun(&cluster, ENDLESS).await;
    cluster.workers[1].frozen.send_replace(true);
    let since = Instant::now();
    let error = failure(&mut job).await;
    assert!(
        matches!(error, Error::WorkerLost { ref worker, .. } if worker == "w2"),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Retryable);
    assert!(since.elapsed() < NOTICE, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_frozen_from_the_start_is_lost_within_ten_seconds() {
    let cluster = Cluster::start().await;
    cluster.workers[0].frozen.send_replace(true);
    let since = Instant::now();
    let error = cluster
        .rows("select kind, count(*) from events group by 1", forced(&[]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::WorkerLost { ref worker, .. } if worker == "w1"),
        "{error:?}"
    );
    assert!(since.elapsed() < NOTICE, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_is_lost_at_once() {
    let mut cluster = Cluster::start().await;
    let mut job = begun(&cluster, ENDLESS).await;
    cluster.workers[1].stop();
    let error = failure(&mut job).await;
    assert!(
        matches!(error, Error::WorkerLost { ref worker, .. } if worker == "w2"),
        "{error:?}"
    );
    cluster.workers[1].idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_gone_before_the_job_is_lost() {
    let mut cluster = Cluster::start().await;
    cluster.workers[1].stop();
    let error = cluster
        .rows("select kind, count(*) from events group by 1", forced(&[]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::WorkerLost { ref worker, .. } if worker == "w2"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_data_on_a_worker_stay_the_users() {
    let cluster = Cluster::start().await;
    let cases = [
        (
            "select sum(1 / (amount - amount)) from events group by user_id",
            "Divide by zero",
        ),
        (
            "select kind, sum(cast(kind as bigint)) from events group by kind",
            "kind",
        ),
    ];
    for (sql, said) in cases {
        let error = cluster.rows(sql, forced(&[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User, "{sql}: {error:?}");
        assert!(error.to_string().contains(said), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_job_ends_on_its_workers() {
    let cluster = Cluster::start().await;
    let job = begun(&cluster, ENDLESS).await;
    assert!(
        cluster
            .workers
            .iter()
            .any(|worker| *worker.host.running().borrow() > 0)
    );
    drop(job);
    for worker in &cluster.workers {
        worker.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_at_its_deadline() {
    let cluster = Cluster::start().await;
    let mut job = cluster
        .job(ENDLESS, forced(&[("drumline.job_deadline", "1")]))
        .await
        .unwrap();
    let error = failure(&mut job).await;
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
    for worker in &cluster.workers {
        worker.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_over_gives_its_memory_back() {
    let cluster = Cluster::start().await;
    let sql = "select count(*) from events a join events b on a.id = b.id";
    let rows = cluster.rows(sql, forced(&[])).await.unwrap();
    assert_eq!(rows.len(), 1);
    let since = Instant::now();
    for worker in &cluster.workers {
        while worker.host.memory_reserved() > 0 {
            assert!(
                since.elapsed() < Duration::from_secs(5),
                "{} bytes are still held",
                worker.host.memory_reserved()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
