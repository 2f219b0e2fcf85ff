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
