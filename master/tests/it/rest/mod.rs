//! REST as a client meets it: answers, refusals, events, and the document that describes them.

mod document;
mod http;
mod schema;

use serde_json::Value;

use crate::cluster::Cluster;
use http::{Answer, Events, get, post};

const TABLE: &str = "CREATE TABLE numbers AS SELECT value AS n FROM generate_series(1, 5000)";
/// Runs on both workers.
const SPREAD: &str = "SET drumline.bytes_per_task = 1;
    SELECT n % 7 AS k, count(*) AS c FROM numbers GROUP BY 1";

/// A cluster on which a script has succeeded and another has failed.
async fn used() -> Cluster {
    let cluster = Cluster::start(2).await;
    cluster.run(TABLE).await.succeeded();
    cluster.run(SPREAD).await.succeeded();
    cluster.run("SELECT * FROM nowhere").await.failure();
    cluster
}

async fn items(cluster: &Cluster, path: &str) -> Vec<Value> {
    let answer = get(cluster.master.address, path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["items"].as_array().unwrap().clone()
}

fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let message = answer.json()["error"]["message"].clone();
    message.as_str().expect("errors are JSON").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_jobs_stages_and_tasks_tell_one_story() {
    let cluster = used().await;
    let applications = items(&cluster, "/api/v1/applications").await;
    assert_eq!(applications.len(), 3);
    // The newest first.
    assert_eq!(applications[0]["state"], "failed");
    let message = applications[0]["failure"]["message"].as_str().unwrap();
    assert!(message.contains("nowhere"), "{message}");
    let spread = applications[1]["id"].as_str().unwrap();

    let jobs = items(&cluster, &format!("/api/v1/jobs?application={spread}")).await;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    let job = jobs[0]["id"].as_str().unwrap();
    assert_eq!(jobs[0]["state"], "succeeded");
    assert_eq!(jobs[0]["plan"], "", "lists have no plans");

    let tasks = items(
        &cluster,
        &format!("/api/v1/tasks?job={job}&state=succeeded"),
    )
    .await;
    let workers: std::collections::BTreeSet<&str> = tasks
        .iter()
        .map(|task| task["worker"].as_str().unwrap())
        .collect();
    assert_eq!(workers.len(), 2, "{tasks:#?}");
    let rows = |task: &Value| task["metrics"]["rows_read"].as_u64().unwrap();
    assert_eq!(tasks.iter().map(rows).sum::<u64>(), 5000);
    let one = format!("/api/v1/tasks?job={job}&worker=worker-1");
    assert!(items(&cluster, &one).await.len() < tasks.len());

    let stages = items(&cluster, &format!("/api/v1/stages?job={job}")).await;
    let of_job = items(&cluster, &format!("/api/v1/jobs/{job}/stages")).await;
    let numbers = |stages: &[Value]| -> Vec<Value> {
        stages.iter().map(|stage| stage["stage"].clone()).collect()
    };
    assert_eq!(numbers(&stages), numbers(&of_job));
    let operators = |stages: &[Value]| stages[0]["tasks"][0]["metrics"]["operators"].is_array();
    assert!(operators(&of_job), "{of_job:#?}");
    assert!(!operators(&stages), "lists have no operators");
    let in_stages: usize = stages
        .iter()
        .map(|stage| stage["tasks"].as_array().unwrap().len())
        .sum();
    assert_eq!(in_stages, tasks.len());

    let whole = get(cluster.master.address, &format!("/api/v1/jobs/{job}")).await;
    assert!(whole.json()["plan"].as_str().unwrap().contains("Exec"));
    let attempts = items(&cluster, &format!("/api/v1/attempts?application={spread}")).await;
    let of_job = attempts.iter().find(|attempt| attempt["job"] == job);
    assert_eq!(of_job.unwrap()["state"], "succeeded");

    // The newest first, whatever their ids.
    let all = items(&cluster, "/api/v1/jobs").await;
    let starts: Vec<i64> = all
        .iter()
        .map(|job| job["started_at"].as_i64().unwrap())
        .collect();
    assert!(
        starts.len() > 1 && starts.is_sorted_by(|a, b| a >= b),
        "{starts:?}"
    );

    let commits = items(&cluster, "/api/v1/commits?table=numbers").await;
    assert_eq!(commits.len(), 1, "{commits:#?}");
    assert_eq!(commits[0]["rows"], 5000);
    assert_eq!(commits[0]["application"], applications[2]["id"]);

    let about = get(cluster.master.address, "/api/v1/cluster").await.json();
    assert_eq!(about["workers"], 2);
    assert_eq!(about["cores"], 2);
    assert_eq!(about["running_applications"], 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_are_the_list() {
    let cluster = Cluster::start(1).await;
    for _ in 0..5 {
        cluster.run("SELECT 1").await.succeeded();
    }
    let all = items(&cluster, "/api/v1/applications").await;
    let mut paged = vec![];
    let mut path = "/api/v1/applications?limit=2".to_owned();
    loop {
        let page = get(cluster.master.address, &path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        paged.extend(items.clone());
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/applications?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_refused_by_name() {
    let cluster = Cluster::start(0).await;
    let address = cluster.master.address;
    for (path, named) in [
        ("/api/v1/jobs?state=happy", "`succeeded`"),
        ("/api/v1/workers?state=happy", "`draining`"),
        ("/api/v1/jobs?statee=running", "`statee`"),
        ("/api/v1/jobs?limit=0", "1 to 1000"),
        ("/api/v1/jobs?limit=1001", "1 to 1000"),
        ("/api/v1/jobs?limit=many", "limit"),
        ("/api/v1/jobs?after=x", "after"),
        ("/api/v1/events?after=-1", "after"),
    ] {
        let message = refused(&get(address, path).await, 400);
        assert!(message.contains(named), "{path}: {message}");
    }
    for (path, named) in [
        ("/api/v1/jobs/019a", "job `019a`"),
        ("/api/v1/jobs/019a/plan", "job `019a`"),
        ("/api/v1/applications/x", "application `x`"),
        ("/api/v1/workers/x", "worker `x`"),
        ("/api/v1/streams/x", "stream `x`"),
        ("/api/v1/tables/default/x", "x` is not known"),
        ("/api/v1/nothing", "/api/v1/nothing"),
        ("/nothing", "/nothing"),
    ] {
        let message = refused(&get(address, path).await, 404);
        assert!(message.contains(named), "{path}: {message}");
    }
    for path in [
        "/api/v1/jobs/..%2F..%2Fetc%2Fpasswd",
        "/api/v1/jobs/%00",
        "/api/v1/tables/..%2f../x",
        "/api/v1/jobs/%FF",
        &format!("/api/v1/jobs/{}", "x".repeat(5000)),
    ] {
        let message = refused(&get(address, path).await, 400);
        assert!(message.len() < 200, "{message}");
    }
    refused(&post(address, "/api/v1/jobs").await, 404);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_cancelled_and_says_so() {
    let cluster = Cluster::start(1).await;
    let address = cluster.master.address;
    let mut watched = cluster
        .submit("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b")
        .await;
    let path = format!("/api/v1/applications/{}", watched.id);
    let answer = post(address, &format!("{path}/cancel")).await;
    assert!([202, 204].contains(&answer.status), "{answer:?}");
    watched.end().await;
    assert_eq!(get(address, &path).await.json()["state"], "cancelled");
    // Asking again changes nothing.
    assert_eq!(post(address, &format!("{path}/cancel")).await.status, 204);
    refused(&post(address, "/api/v1/applications/x/cancel").await, 404);
    refused(&post(address, "/api/v1/streams/x/pause").await, 404);
    refused(&post(address, "/api/v1/streams/x/resume").await, 404);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen_and_again_for_who_was_away() {
    let cluster = Cluster::start(1).await;
    let address = cluster.master.address;
    let before = get(address, "/api/v1/cluster").await.json()["sequence"].as_u64();
    let mut live = Events::open(address, "/api/v1/events").await;
    cluster.run("SELECT 1").await.succeeded();
    let accepted = live.until("application_accepted").await;
    live.until("application_finished").await;

    // Nothing that happened since is missing, and nothing comes twice.
    let mut again = Events::open(
        address,
        &format!("/api/v1/events?after={}", before.unwrap()),
    )
    .await;
    assert_eq!(again.until("application_accepted").await, accepted);
    again.until("application_finished").await;
    assert!(
        again.sequences.is_sorted_by(|a, b| a < b),
        "{:?}",
        again.sequences
    );
    let last = again.sequences.last().unwrap();
    let mut none = Events::open(address, &format!("/api/v1/events?after={last}")).await;
    cluster.run("SELECT 2").await.succeeded();
    let next = none.until("application_accepted").await;
    assert!(next["sequence"].as_u64() > Some(*last));

    // What this master does not know any more is not passed over.
    let mut stranger = Events::open(address, "/api/v1/events?after=1").await;
    assert_eq!(stranger.next().await.name, "lagged");

    // An open stream does not hold the master up.
    let began = std::time::Instant::now();
    cluster.stop().await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(live.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_while_the_lake_does_not_answer() {
    let cluster = Cluster::start(0).await;
    let address = cluster.master.address;
    assert_eq!(get(address, "/healthz").await.status, 200);
    // Before anybody asked: an answer of the lake counts for some seconds.
    let lake = cluster.folder.path().join("lake");
    std::fs::remove_dir_all(&lake).unwrap();
    std::fs::write(&lake, "in the way").unwrap();
    let message = refused(&get(address, "/readyz").await, 503);
    assert!(message.contains("lake"), "{message}");
    assert_eq!(get(address, "/healthz").await.status, 200);
    cluster.stop().await;

    let cluster = Cluster::start(0).await;
    assert_eq!(get(cluster.master.address, "/readyz").await.status, 200);
    cluster.stop().await;
}
