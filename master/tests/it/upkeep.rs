//! Tables that are kept fit by themselves, where they ask for it.

use std::time::Duration;

use crate::cluster::{Cluster, options};

impl Cluster {
    /// Rows of a query whose one result is one column, as shown.
    async fn shown(&self, sql: &str) -> String {
        self.run(sql).await.succeeded().tables()
    }

    /// Asks again and again, until what is shown holds a text.
    async fn comes_to(&self, sql: &str, wanted: &str) -> String {
        let mut shown = String::new();
        for _ in 0..150 {
            shown = self.shown(sql).await;
            if shown.contains(wanted) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("it never came to '{wanted}': {shown}");
    }
}

const DONE: &str =
    "SELECT name, state FROM system.applications WHERE submitted_by = 'upkeep' ORDER BY name";

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_put_together_and_old_rows_go_by_themselves() {
    let cluster = Cluster::start(2).await;
    let mut script = "CREATE TABLE t (id BIGINT, kind VARCHAR, day DATE) PARTITIONED BY (kind) TBLPROPERTIES
        ('delta.autoOptimize.autoCompact' = 'true', 'auto_compact_files' = '3', 'auto_vacuum' = 'true');\n"
        .to_owned();
    for id in 0..3 {
        script += &format!(
            "INSERT INTO t VALUES ({id}, 'it''s', DATE '2020-01-01'), ({id}, NULL, DATE '2999-01-01');\n"
        );
    }
    cluster.run(&script).await.succeeded();
    let history = "SELECT count(*) AS n FROM (SELECT 1 FROM system.commits WHERE files = 1 AND \"table\" = 't')";
    cluster.comes_to(history, "| 2 |").await;
    let sums = "SELECT count(*) AS n, sum(id) AS s, count(kind) AS k FROM t";
    assert!(cluster.shown(sums).await.contains("| 6 | 6 | 3 |"));
    let done = cluster.comes_to(DONE, "vacuum of t").await;
    assert_eq!(done.matches("compaction of t").count(), 2, "{done}");
    assert!(!done.contains("failed"), "{done}");
    cluster
        .run(
            "ALTER TABLE t SET TBLPROPERTIES ('retention' = '90 days', 'retention_column' = 'day')",
        )
        .await
        .succeeded();
    cluster.comes_to(sums, "| 3 | 3 | 0 |").await;
    let done = cluster.comes_to(DONE, "retention of t").await;
    assert_eq!(done.matches("retention of t").count(), 1, "{done}");
    for (name, value) in [
        ("auto_compact", "often"),
        ("retention", "long"),
        ("retention_column", "id"),
    ] {
        let refused = format!("ALTER TABLE t SET TBLPROPERTIES ('{name}' = '{value}')");
        let failed = cluster.run(&refused).await;
        let message = &failed.failure().message;
        assert!(
            message.contains(name) && message.contains(value),
            "{message}"
        );
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_plain_table_fall_out() {
    let cluster = Cluster::start(1).await;
    cluster
        .run(
            "CREATE TABLE p (id BIGINT, year INT, month INT, level VARCHAR) STORED AS PARQUET
               PARTITIONED BY (year, month, level) TBLPROPERTIES ('retention' = '400 days', 'retention_column' = 'year, month');
             INSERT INTO p VALUES (1, 2019, 12, 'a'), (2, 2020, 1, 'b'), (3, 2999, 1, 'a'), (4, NULL, 1, 'a')",
        )
        .await
        .succeeded();
    cluster
        .comes_to("SELECT sum(id) AS s, count(*) AS n FROM p", "| 7 | 2 |")
        .await;
    let done = cluster.comes_to(DONE, "succeeded").await;
    assert_eq!(done.matches("retention of p").count(), 1, "{done}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_masters_of_a_lake_one_keeps_it_fit_and_the_other_follows() {
    let cluster = Cluster::start(1).await;
    let filled = "CREATE TABLE t (id BIGINT) TBLPROPERTIES ('auto_compact' = 'true', 'auto_compact_files' = '2');
        INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)";
    cluster.run(filled).await.succeeded();
    cluster.comes_to(DONE, "succeeded").await;
    let other = drumline_master::Options {
        state_dir: cluster.folder.path().join("other"),
        work_dir: cluster.folder.path().join("other-spill"),
        ..options(&cluster.folder)
    };
    let other = drumline_master::start(other).await.unwrap();
    let other = Cluster::of(other).await;
    cluster
        .run("INSERT INTO t VALUES (4); INSERT INTO t VALUES (5)")
        .await
        .succeeded();
    cluster.comes_to("SELECT count(*) AS n FROM system.applications WHERE submitted_by = 'upkeep' AND state = 'succeeded'", "| 2 |").await;
    let idle = other.shown(DONE).await;
    assert!(!idle.contains("compaction"), "{idle}");
    // Who lost the lease can commit nothing in its name any more.
    let late = "SET drumline.upkeep_epoch = 9; OPTIMIZE t SORT BY (id)";
    let failed = cluster.run(late).await;
    let message = &failed.failure().message;
    assert!(message.contains("another master"), "{message}");
    let folder = cluster.leave().await;
    other
        .run("INSERT INTO t VALUES (6); INSERT INTO t VALUES (7)")
        .await
        .succeeded();
    other.comes_to(DONE, "succeeded").await;
    assert!(
        other
            .shown("SELECT sum(id) AS s FROM t")
            .await
            .contains("| 28 |")
    );
    let log = folder.path().join("lake/default/t/_delta_log");
    let epochs: std::collections::BTreeSet<String> = std::fs::read_dir(log)
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .filter_map(|record| {
            Some(record.split_once("\"drumline.upkeepEpoch\":")?.1[..1].to_owned())
        })
        .collect();
    assert_eq!(epochs.into_iter().collect::<Vec<_>>(), ["1", "2"]);
    other.stop().await;
}
