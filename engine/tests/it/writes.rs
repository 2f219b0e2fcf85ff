//! Writes across two workers: files staged on both, committed once.

use drumline_lake::ErrorKind;

use crate::cluster::{Cluster, forced};
use crate::lake::Home;

async fn home(cluster: &Cluster) -> Home {
    let mut home = Home::new().await;
    home.run(&format!(
        "CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION '{}'",
        cluster.folder().join("events").display()
    ))
    .await
    .unwrap();
    home.workers = cluster.targets();
    home.settings = forced(&[]);
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn both_workers_stage_files_that_one_commit_makes_visible() {
    let cluster = Cluster::start().await;
    let home = home(&cluster).await;
    let committed = home
        .wrote("CREATE TABLE copy AS SELECT * FROM events")
        .await;
    assert_eq!(committed.rows, crate::cluster::EVENTS as u64);
    assert!(committed.files >= 2, "only {} file", committed.files);
    let sql = "SELECT count(*), count(DISTINCT id), sum(amount), count(kind), to_unixtime(min(at)), to_unixtime(max(at)) FROM";
    assert_eq!(
        home.rows(&format!("{sql} copy")).await,
        home.rows(&format!("{sql} events")).await
    );
    for (id, worker) in cluster.workers.iter().enumerate() {
        assert!(
            worker.host.running().borrow().eq(&0),
            "worker {id} still runs a task"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_value_gets_one_file_however_many_tasks_there_are() {
    let cluster = Cluster::start().await;
    let home = home(&cluster).await;
    let sql = "CREATE TABLE parts PARTITIONED BY (part) STORED AS PARQUET AS SELECT id, amount, id % 5 AS part FROM events";
    let committed = home.wrote(sql).await;
    assert_eq!(
        (committed.rows, committed.files),
        (crate::cluster::EVENTS as u64, 5)
    );
    let sql = "SELECT part, count(*), sum(amount) FROM parts GROUP BY part ORDER BY part";
    let expected = "SELECT id % 5, count(*), sum(amount) FROM events GROUP BY 1 ORDER BY 1";
    assert_eq!(home.rows(sql).await, home.rows(expected).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_ours_run_on_workers() {
    let cluster = Cluster::start().await;
    let home = home(&cluster).await;
    let sql = "SELECT repair_text(kind) AS kind, count(*) FROM events WHERE kind IS NOT NULL GROUP BY 1 ORDER BY 1";
    let plain = sql.replace("repair_text(kind)", "kind");
    assert_eq!(home.rows(sql).await, home.rows(&plain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_on_a_worker_commits_nothing() {
    let cluster = Cluster::start().await;
    let home = home(&cluster).await;
    home.run("CREATE TABLE t (n SMALLINT)").await.unwrap();
    let Err(error) = home.run("INSERT INTO t SELECT id FROM events").await else {
        panic!("ids do not fit")
    };
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    assert!(error.to_string().contains('n'), "{error}");
    assert_eq!(home.rows("SELECT count(*) FROM t").await, ["0"]);
}
