//! Statements that write: staged by the job, made visible by one commit.

use crate::cluster::Cluster;

async fn written_and_read_back(format: &str) {
    let cluster = Cluster::start(2).await;
    let script = format!(
        "CREATE TABLE plays STORED AS {format} PARTITIONED BY (level) AS
           SELECT * FROM (VALUES ('a', 1, 'free'), ('b', 2, 'paid'), ('c', 3, 'paid')) AS t(song, n, level);
         INSERT INTO plays VALUES ('d', 4, 'free');
         SELECT level, count(*) AS songs, sum(n) AS n FROM plays GROUP BY level ORDER BY level"
    );
    let outcome = cluster.run(&script).await.succeeded();
    let expected = "\
+-------+-------+---+
| level | songs | n |
+-------+-------+---+
| free  | 2     | 5 |
| paid  | 2     | 5 |
+-------+-------+---+";
    assert_eq!(outcome.tables(), expected);
    let statements = outcome.statements();
    let told = |index: usize| (statements[index].table.as_str(), statements[index].rows);
    assert_eq!(told(0), ("plays", 3));
    assert_eq!(told(1), ("plays", 1));
    assert!(statements[1].version > statements[0].version);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_table_is_made_filled_and_read_back() {
    written_and_read_back("DELTA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_parquet_table_is_made_filled_and_read_back() {
    written_and_read_back("PARQUET").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_deleted_changed_and_merged() {
    let cluster = Cluster::start(2).await;
    let script = "CREATE TABLE t AS SELECT value AS id, value * 10 AS n FROM generate_series(1, 9);
         DELETE FROM t WHERE id IN (SELECT id FROM t WHERE n > 80);
         UPDATE t SET n = 0 WHERE id < 3;
         MERGE INTO t USING (SELECT * FROM (VALUES (3, 33), (100, 1000)) AS v(id, n)) AS s ON t.id = s.id
           WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *;
         DELETE FROM t WHERE false;
         COPY t TO 'copied' STORED AS CSV;
         SELECT count(*) AS rows, sum(id) AS ids, sum(n) AS n FROM t";
    let outcome = cluster.run(script).await.succeeded();
    let expected = "\
+------+-----+------+
| rows | ids | n    |
+------+-----+------+
| 9    | 136 | 1333 |
+------+-----+------+";
    assert_eq!(outcome.tables(), expected);
    let statements = outcome.statements();
    let told: Vec<_> = statements
        .iter()
        .skip(1)
        .take(5)
        .map(|done| done.message.as_str())
        .collect();
    assert_eq!(
        told[..4],
        [
            "deleted 1 row from t",
            "updated 2 rows of t",
            "merged into t: 1 inserted, 1 updated, 0 deleted",
            "deleted 0 rows from t",
        ]
    );
    assert!(told[4].starts_with("copied 9 rows to file:///"), "{told:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_change_the_same_rows_take_turns() {
    let cluster = Cluster::start(2).await;
    cluster
        .run("CREATE TABLE counter AS SELECT 0 AS n")
        .await
        .succeeded();
    let adding = (0..5).map(|_| cluster.run("UPDATE counter SET n = n + 1"));
    let appending = (0..3).map(|_| cluster.run("INSERT INTO counter VALUES (100)"));
    let (added, appended) = futures::future::join(
        futures::future::join_all(adding),
        futures::future::join_all(appending),
    )
    .await;
    for outcome in added.into_iter().chain(appended) {
        outcome.succeeded();
    }
    let outcome = cluster
        .run("SELECT count(*) AS n, min(n) AS added FROM counter")
        .await
        .succeeded();
    assert!(
        outcome.tables().contains("| 4 | 5     |"),
        "{}",
        outcome.tables()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_without_rows_makes_the_table() {
    let cluster = Cluster::start(1).await;
    let script = "CREATE TABLE none AS SELECT 1 AS n WHERE false; SELECT count(*) AS n FROM none";
    let outcome = cluster.run(script).await.succeeded();
    assert!(outcome.tables().contains("| 0 |"), "{}", outcome.tables());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_fails_leaves_no_name() {
    let cluster = Cluster::start(1).await;
    let failed = cluster
        .run("CREATE TABLE t AS SELECT 1 / (n - n) AS x FROM (VALUES (1)) AS v(n)")
        .await;
    assert!(
        failed
            .failure()
            .message
            .to_lowercase()
            .contains("divide by zero"),
        "{:?}",
        failed.failure()
    );
    let listed = cluster
        .applications()
        .list_tables(drumline_proto::v1::ListTablesRequest {})
        .await
        .unwrap();
    let listed = listed.into_inner().tables;
    let mut names = listed.iter().map(|entry| &entry.schema);
    assert!(names.all(|schema| schema == "system"), "{listed:?}");
    cluster.stop().await;
}
