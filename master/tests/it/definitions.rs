//! Statements that change names.

use drumline_proto::v1::ListTablesRequest;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn names_come_and_go() {
    let cluster = Cluster::start(1).await;
    let script = "CREATE SCHEMA music;
        CREATE TABLE music.songs (title VARCHAR, year INT) PARTITIONED BY (year);
        INSERT INTO music.songs VALUES ('a', 2018);
        CREATE VIEW titles AS SELECT title FROM music.songs;
        SELECT * FROM titles";
    let outcome = cluster.run(script).await.succeeded();
    assert!(
        outcome.tables().contains("| a     |"),
        "{}",
        outcome.tables()
    );

    let listed = cluster
        .applications()
        .list_tables(ListTablesRequest {})
        .await
        .unwrap()
        .into_inner()
        .tables;
    let listed: Vec<_> = listed
        .iter()
        .filter(|entry| entry.kind != "system")
        .map(|table| {
            (
                table.schema.as_str(),
                table.name.as_str(),
                table.kind.as_str(),
                table.partition_columns.len(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("default", "titles", "view", 0),
            ("music", "songs", "table", 1)
        ]
    );

    cluster
        .run("DROP VIEW titles; DROP TABLE music.songs; DROP SCHEMA music")
        .await
        .succeeded();
    let listed = cluster
        .applications()
        .list_tables(ListTablesRequest {})
        .await
        .unwrap()
        .into_inner()
        .tables;
    let mut names = listed.iter().map(|entry| &entry.schema);
    assert!(names.all(|schema| schema == "system"), "{listed:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_refused_or_left_as_it_is() {
    let cluster = Cluster::start(1).await;
    cluster.run("CREATE TABLE t (n INT)").await.succeeded();
    let refused = cluster.run("CREATE TABLE t (n INT)").await;
    assert!(
        refused.failure().message.contains("already exists"),
        "{:?}",
        refused.failure()
    );
    assert!(refused.failure().hint.contains("IF NOT EXISTS"));
    cluster
        .run("CREATE TABLE IF NOT EXISTS t (n INT); DROP TABLE IF EXISTS u")
        .await
        .succeeded();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_table_reads_only_where_an_operator_allows_it() {
    let cluster = Cluster::start(1).await;
    for location in [
        "file:///etc/",
        "/etc",
        "/proc/self/",
        "gs://somebody-elses/data/",
        "s3://somebody-elses/data/",
        "http://169.254.169.254/latest/meta-data/",
    ] {
        let sql = format!("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '{location}'");
        let outcome = cluster.run(&sql).await;
        let failure = outcome.failure();
        let refused = failure.message.contains("not allowed");
        assert!(refused, "{location}: {}", failure.message);
        assert!(failure.hint.contains("--allow-location"), "{failure:?}");
    }
    cluster.stop().await;
}
