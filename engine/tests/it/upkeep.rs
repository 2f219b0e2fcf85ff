//! `OPTIMIZE`: the same rows in fewer files, whatever it is told to look at.

use drumline_engine::Planned;

use crate::changes::both;
use crate::lake::Home;

impl Home {
    /// Eight files of one row each, in two partitions.
    async fn many_files(&self) {
        self.run("CREATE TABLE t (id BIGINT, kind VARCHAR) PARTITIONED BY (kind)")
            .await
            .unwrap();
        for id in 0..4 {
            self.wrote(&format!("INSERT INTO t VALUES ({id}, 'a'), ({id}, 'b')"))
                .await;
        }
    }

    /// Whether a statement has nothing to do.
    async fn idle(&self, sql: &str) -> bool {
        match self.plan(sql).await.unwrap() {
            Planned::Write(write) => write.narrowed(&[]).unwrap().unwrap().is_idle(),
            other => panic!("{other:?} is no write"),
        }
    }

    async fn rows_and_files(&self) -> (Vec<String>, usize) {
        let rows = self.rows("SELECT kind, id FROM t ORDER BY 1, 2").await;
        (rows, self.files("t").await.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_put_together_and_no_row_changes() {
    both(|home| async move {
        home.many_files().await;
        let (before, files) = home.rows_and_files().await;
        assert_eq!((before.len(), files), (8, 8));
        let committed = home.wrote("OPTIMIZE t").await;
        assert_eq!((committed.rows, committed.files), (0, 2));
        assert_eq!(home.rows_and_files().await, (before.clone(), 2));
        // Nothing is left to be done, and no version says so.
        assert!(home.idle("OPTIMIZE TABLE t").await);
        assert_eq!(home.rows_and_files().await, (before, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_chooses_partitions() {
    both(|home| async move {
        home.many_files().await;
        let (before, _) = home.rows_and_files().await;
        home.wrote("OPTIMIZE t WHERE kind = 'a'").await;
        assert_eq!(home.rows_and_files().await, (before, 5));
        assert!(home.idle("OPTIMIZE t WHERE kind = 'nothing'").await);
        let error = home.refused("OPTIMIZE t WHERE id = 1").await;
        assert!(error.contains("partitioned by"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpartitioned_table_becomes_as_few_files_as_it_fills() {
    both(|home| async move {
        home.run("CREATE TABLE t (kind VARCHAR, id BIGINT)")
            .await
            .unwrap();
        for id in 0..5 {
            home.wrote(&format!("INSERT INTO t VALUES ('x', {id})"))
                .await;
        }
        let (before, _) = home.rows_and_files().await;
        home.wrote("OPTIMIZE t").await;
        assert_eq!(home.rows_and_files().await, (before, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_where_asked_for() {
    both(|home| async move {
        home.run("CREATE TABLE t (kind VARCHAR, id BIGINT)")
            .await
            .unwrap();
        for sql in [
            "INSERT INTO t VALUES ('x', 3), ('x', NULL)",
            "INSERT INTO t VALUES ('x', 1), ('x', 2)",
        ] {
            home.wrote(sql).await;
        }
        home.wrote("OPTIMIZE t SORT BY (id)").await;
        assert_eq!(home.files("t").await.len(), 1);
        assert_eq!(home.rows("SELECT id FROM t").await, ["1", "2", "3", "null"]);
        let error = home.refused("OPTIMIZE t SORT BY nothing").await;
        assert!(error.contains("nothing"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_optimized_is_refused_by_name() {
    let home = Home::new().await;
    home.run("CREATE TABLE p STORED AS PARQUET AS SELECT 1 AS a")
        .await
        .unwrap();
    let error = home.refused("OPTIMIZE p").await;
    assert!(error.contains("Delta"), "{error}");
    for sql in [
        "OPTIMIZE",
        "OPTIMIZE p ZORDER",
        "VACUUM p RETAIN 5",
        "VACUUM p DRY",
        "VACUUM p RETAIN 1 HOURS",
    ] {
        assert!(home.run(sql).await.is_err(), "{sql}");
    }
}
