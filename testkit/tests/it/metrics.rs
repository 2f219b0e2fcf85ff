//! What Prometheus scrapes, from a master and its workers, agrees with what SQL and REST tell.

use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, poll};
use serde_json::Value;

async fn get(url: &str, token: Option<&str>) -> (u16, String) {
    let request = reqwest::Client::new().get(url);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a series in an OpenMetrics text.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.and_then(|rest| rest.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

#[tokio::test]
async fn the_same_facts_are_scraped_queried_and_asked_for() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let (admin, joins) = (
        cluster.token().unwrap(),
        std::fs::read_to_string(cluster.path("state").join("worker-token")).unwrap(),
    );
    let made = cluster.run(&[
        "sql",
        "-c",
        "CREATE TABLE n AS SELECT value AS v FROM generate_series(1, 5000); SET drumline.bytes_per_task = 1; \
         SELECT v % 3, count(*) FROM n GROUP BY 1; SELECT nothing",
    ]);
    assert!(!made.unwrap().status.success());

    let metrics = format!("{}/metrics", cluster.url());
    assert_eq!(get(&metrics, None).await.0, 401);
    assert_eq!(get(&metrics, Some(joins.trim())).await.0, 403);
    let (status, text) = get(&metrics, Some(&admin)).await;
    assert_eq!(status, 200, "{text}");
    let succeeded = value(&text, "drumline_jobs_finished_total{state=\"succeeded\"}");
    let failed = value(
        &text,
        "drumline_applications_finished_total{state=\"failed\"}",
    );
    assert_eq!(failed, 1.0);
    assert_eq!(value(&text, "drumline_workers{state=\"alive\"}"), 2.0);
    let jobs = "SELECT count(*) FROM system.jobs WHERE state = 'succeeded'";
    assert_eq!(cluster.number(jobs).unwrap() as f64, succeeded);
    let (_, answer) = get(
        &format!("{}/api/v1/jobs?state=succeeded&limit=1000", cluster.url()),
        Some(&admin),
    )
    .await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    // The query above was a job too.
    let shown = answer["items"].as_array().unwrap().len() as f64;
    assert_eq!(shown, succeeded + 1.0, "{answer}");

    let (_, workers) = get(&format!("{}/api/v1/workers", cluster.url()), Some(&admin)).await;
    let workers: Value = serde_json::from_str(&workers).unwrap();
    let urls: Vec<String> = workers["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| {
            worker["url"]
                .as_str()
                .unwrap()
                .trim_end_matches('/')
                .to_owned()
        })
        .collect();
    assert_eq!(urls.len(), 2);
    for url in urls {
        let metrics = format!("{url}/metrics");
        assert_eq!(get(&metrics, None).await.0, 401);
        assert_eq!(get(&metrics, Some(&admin)).await.0, 401);
        let (status, text) = get(&metrics, Some(joins.trim())).await;
        assert_eq!(status, 200, "{text}");
        assert!(value(&text, "drumline_worker_tasks_total") >= 1.0, "{text}");
        let documented = include_str!("../../../docs/metrics.md");
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {kind} |");
            assert!(
                documented.contains(&row),
                "docs/metrics.md has no row {row}"
            );
        }
    }
    poll("no task is left", Duration::from_secs(10), || {
        let running = cluster.number("SELECT sum(running_tasks) FROM system.workers")?;
        Ok((running == 0).then_some(()))
    })
    .unwrap();
}
