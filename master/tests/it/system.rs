//! What the cluster knows of itself, asked in SQL.

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_can_be_queried_with_its_stages_tasks_and_operators() {
    let cluster = Cluster::start(2).await;
    cluster
        .run("CREATE TABLE numbers AS SELECT value AS n FROM generate_series(1, 20000)")
        .await
        .succeeded();
    cluster
        .run("SET drumline.bytes_per_task = 1; SELECT n % 7 AS k, count(*) FROM numbers GROUP BY 1")
        .await
        .succeeded();
    // Forced onto the workers as well: rows of `system` travel to the task that reads them.
    let asked = "SET drumline.bytes_per_task = 1; \
         SELECT count(DISTINCT t.worker) AS workers, max(j.rows_read) AS rows_read, bool_and(t.state = 'succeeded') AS good \
         FROM system.jobs j JOIN system.tasks t ON t.job = j.id JOIN numbers ON n = t.stage \
         WHERE j.task_count > 1";
    let outcome = cluster.run(asked).await.succeeded();
    let shown = outcome.tables();
    assert!(shown.contains("| 2       | 20000     | true |"), "{shown}");
    let outcome = cluster
        .run("SELECT count(*) > 0 AS there FROM system.operators WHERE name = 'AggregateExec' AND task IS NOT NULL")
        .await
        .succeeded();
    assert!(outcome.tables().contains("true"), "{}", outcome.tables());
    let commits = "SELECT \"table\", rows, bytes > 0 AS has_bytes FROM system.commits";
    let outcome = cluster.run(commits).await.succeeded();
    let shown = outcome.tables();
    assert!(shown.contains("numbers | 20000 | true"), "{shown}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_system_cannot_be_changed() {
    let cluster = Cluster::start(1).await;
    for sql in [
        "CREATE TABLE system.mine AS SELECT 1 AS a",
        "CREATE VIEW system.jobs AS SELECT 1 AS a",
        "DROP TABLE system.jobs",
        "DROP SCHEMA system",
        "INSERT INTO system.jobs SELECT * FROM system.jobs",
    ] {
        let failed = cluster.run(sql).await;
        let message = failed.failure().message.clone();
        assert!(message.contains("system"), "{sql}: {message}");
    }
    let shown = cluster.run("SHOW TABLES").await.succeeded().tables();
    assert!(!shown.contains("system"), "{shown}");
    let shown = cluster.run("SHOW TABLES FROM system").await.succeeded();
    assert!(shown.tables().contains("operators"), "{}", shown.tables());
    cluster.stop().await;
}
